"""Patches inside the body, and what the learnt eye's answers for them become."""

import numpy as np
import pytest
import torch
from helpers.bodies import body_slice

from diffusionct_pipeline.estimation import EdgeSlice, LogMTFWitness
from diffusionct_pipeline.estimation.eye import FEWEST_PATCHES, answer_for_patches, error_moments, eye_witness
from diffusionct_pipeline.estimation.patches import SKIN_MM, cut_patch, patch_centres, resample
from diffusionct_pipeline.models.kernel_eye import KernelEye

SIDE_MM = 22.4


@pytest.fixture
def eye():
    torch.manual_seed(0)
    return KernelEye(frequencies=7, width=8, layers_per_stage=1, patch_pixels=32).eval()


@pytest.fixture(scope="module")
def body():
    return body_slice(size=256)[0]


def waves(frequency_lp_cm, spacing_mm, pixels):
    """A wave across the columns, whose phase is that of the middle of the image."""
    place_mm = (np.arange(pixels) + 0.5 - pixels / 2) * spacing_mm
    return np.tile(np.cos(2 * np.pi * frequency_lp_cm / 10 * place_mm), (pixels, 1)).astype(np.float32)


class TestPatches:
    def test_lie_within_the_body(self, body):
        centres = patch_centres(body, 0.7, None, SIDE_MM)
        assert len(centres) > 50
        half = SIDE_MM / 2
        corners = np.abs((centres - 128) * 0.7) + half
        assert np.hypot(*corners.T).max() < 78.0  # the body's radius

    def test_keep_away_from_the_skin(self, body):
        centres = patch_centres(body, 0.7, None, SIDE_MM)
        corners = np.abs((centres - 128) * 0.7) + SIDE_MM / 2
        assert np.hypot(*corners.T).max() < 78.0 - SKIN_MM / 2  # of coarse pixels

    def test_keep_away_from_padding(self, body):
        padding = np.zeros(body.shape, bool)
        padding[:, :128] = True
        centres = patch_centres(body, 0.7, padding, SIDE_MM)
        assert len(centres) and (centres[:, 1] * 0.7 - SIDE_MM / 2).min() >= 128 * 0.7

    def test_there_is_none_in_a_small_body(self):
        assert len(patch_centres(np.full((256, 256), -1000.0), 0.7, None, SIDE_MM)) == 0
        assert len(patch_centres(np.full((64, 64), 40.0), 0.2, None, SIDE_MM)) == 0

    @pytest.mark.parametrize(("spacing_mm", "pixel_mm"), [(0.5, 0.7), (0.9, 0.7), (0.7, 0.7)])
    def test_keep_every_wave_that_both_grids_hold(self, spacing_mm, pixel_mm):
        for frequency in (1.0, 4.0, 0.9 * 5 / max(spacing_mm, pixel_mm)):
            found = cut_patch(1000 * waves(frequency, spacing_mm, 200), spacing_mm, (100, 100), pixel_mm, 32)
            shift = 0.5 * spacing_mm  # the centre is a pixel, not a corner of four
            place_mm = (np.arange(32) - 15.5) * pixel_mm + (np.ceil((32 * pixel_mm + 22.4) / spacing_mm) % 2) * shift
            expected = 1000 * np.cos(2 * np.pi * frequency / 10 * place_mm)
            assert np.abs(found - expected).max() < 40

    def test_hold_nothing_that_is_too_fast(self):
        image = waves(8.5, 0.5, 128)
        assert np.abs(resample(image, 0.5, 0.7, 48)).max() < 0.05
        assert np.abs(resample(image, 0.5, 0.7, 48, keep_all=True)).max() > 0.9, "aliased"


class TestWitness:
    def test_says_log_mtf_with_a_covariance(self, eye, body):
        witness = eye_witness(eye, [EdgeSlice(body, 0.7)])
        assert isinstance(witness, LogMTFWitness) and witness.name == "learnt eye"
        count = len(witness.frequency)
        covariance = np.array(witness.covariance)
        assert len(witness.log_mtf) == count and covariance.shape == (count, count)
        assert np.linalg.eigvalsh(covariance).min() > 0

    def test_is_the_same_again(self, eye, body):
        first, second = (eye_witness(eye, [EdgeSlice(body, 0.7)] * 2) for _ in range(2))
        assert first == second

    @pytest.mark.parametrize(("spacing_mm", "highest"), [(0.7, 6.0), (1.0, 4.0), (1.3, 3.0)])
    def test_says_nothing_beyond_the_pixels(self, eye, body, spacing_mm, highest):
        with torch.no_grad():
            eye.head[-1].bias[:7] = 0.0  # as sharp as can be
        witness = eye_witness(eye, [EdgeSlice(body, spacing_mm)])
        assert witness.frequency == tuple(np.arange(1.0, highest + 1))

    def test_says_nothing_of_what_is_too_faint(self, eye, body):
        with torch.no_grad():
            eye.head[-1].bias[:7] = torch.tensor([0.0, -1.0, -9.0, 0.0, 0.0, 0.0, 0.0])
        assert eye_witness(eye, [EdgeSlice(body, 0.7)]).frequency == (1.0, 2.0)

    def test_there_is_none_in_a_small_body(self, eye):
        assert eye_witness(eye, [EdgeSlice(np.full((128, 128), -1000.0, np.float32), 0.7)]) is None
        few = np.zeros((FEWEST_PATCHES - 1, 32, 32), np.float32)
        assert answer_for_patches(eye, few, 0.7) is None

    def test_padding_is_not_seen(self, eye, body):
        padding = np.zeros(body.shape, bool)
        padding[:40] = True
        wild = np.where(padding, np.float32(3000), body)
        assert eye_witness(eye, [EdgeSlice(wild, 0.7, padding)]) == eye_witness(eye, [EdgeSlice(body, 0.7, padding)])

    def test_moments_are_positive_definite_even_where_few_errors_were_seen(self, eye):
        eye.error_moments.copy_(torch.ones(7, 7))
        assert np.linalg.eigvalsh(error_moments(eye)).min() > 0
