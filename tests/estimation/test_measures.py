"""Outline and noise of a body under known kernels: the truth is known, so figures are held against it."""

import numpy as np
import pytest
import torch
from helpers.bodies import body_slice

from diffusionct_pipeline.estimation.edge import body_edge, tilt
from diffusionct_pipeline.estimation.noise import measure_noise
from diffusionct_pipeline.simulation.degradation import smooth

SPACING_MM = 0.7


def test_the_outline_is_that_of_the_body():
    hu, _ = body_slice(noise_hu=10.0)
    edge = body_edge(hu, SPACING_MM)
    extent = np.ptp(edge.vertices_mm, axis=0)
    np.testing.assert_allclose(extent, (144, 156), atol=1.0)
    outward = ((edge.vertices_mm - edge.vertices_mm.mean(0)) * edge.normals).sum(1)
    assert (outward > 0).all() and edge.bare.mean() > 0.9


def test_tilt_is_how_far_the_skin_moves():
    hu, _ = body_slice(noise_hu=0.0)
    edge = body_edge(hu, SPACING_MM)
    grown = type(edge)(edge.vertices_mm + 1.5 * edge.normals, edge.normals, edge.bare)
    assert np.median(tilt(edge, grown, 3.0)) == pytest.approx(0.5, abs=0.02)


class TestNoise:
    @pytest.mark.parametrize(
        ("kernel", "noise_hu", "error"), [("Br36", 10.0, 0.16), ("D45", 25.0, 0.05), ("Bl64", 60.0, 0.05)]
    )
    def test_level_is_that_of_the_scan(self, kernel, noise_hu, error):
        """Of the softest kernel only within 16 %: its noise is as slow as anatomy."""
        found = measure_noise([body_slice(kernel, noise_hu, seed)[0] for seed in range(4)], SPACING_MM)
        for tissue in ("fat", "soft tissue", "lung"):
            assert found[tissue].noise_hu == pytest.approx(noise_hu, rel=error), tissue
        assert found["soft tissue"].mean_hu == pytest.approx(45, abs=3)

    def test_a_sharp_kernel_has_the_finer_grain(self):
        grain = {}
        for kernel in ("Br36", "Bl64"):
            found = measure_noise([body_slice(kernel, 20.0, seed)[0] for seed in range(3)], SPACING_MM)
            grain[kernel] = found["soft tissue"].mean_frequency
        assert grain["Bl64"] > 1.5 * grain["Br36"]

    @pytest.mark.parametrize("kernel", ("Br36", "D45", "Bl64"))
    def test_tails_are_those_of_a_normal_distribution_until_smoothing_spares_edges(self, kernel):
        slices = [body_slice(kernel, 20.0, seed)[0] for seed in range(2)]
        smoothed = [smooth(torch.from_numpy(hu), "non-local means").numpy() for hu in slices]
        plain, heavy = (measure_noise(each, SPACING_MM)["soft tissue"].tails for each in (slices, smoothed))
        assert abs(plain[0]) < 0.15
        assert heavy[0] > plain[0] + 0.3

    def test_air_around_the_patient_is_no_lung(self):
        slices = [body_slice(noise_hu=30.0, seed=seed)[0] for seed in range(3)]
        for index, row, column in measure_noise(slices, SPACING_MM)["lung"].squares.corners:
            assert np.hypot(row - 128, column - 128) * SPACING_MM < 40, index

    def test_padding_counts_nowhere(self):
        slices = [body_slice(seed=seed)[0] for seed in range(3)]
        everywhere = [np.ones(hu.shape, bool) for hu in slices]
        assert measure_noise(slices, SPACING_MM, everywhere) == {}
