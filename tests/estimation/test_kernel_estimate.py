"""The kernel of slices that were made under a known one."""

import json
from dataclasses import replace

import numpy as np
import pytest
from helpers.limbs import RADIUS_MM, SPACING_MM, limb_slice

from diffusionct_pipeline.estimation import (
    EdgeSlice,
    KernelEstimate,
    LogMTFWitness,
    estimate_kernel,
    estimate_kernel_of_slices,
    estimating,
    header_witness,
)
from diffusionct_pipeline.estimation.edge import body_edge
from diffusionct_pipeline.image_processor import HUSlice

SOFT, SHARP = {"mtf50": 3.5}, {"mtf50": 7.0, "ratio": 1.45, "boost": 0.25, "noise_hu": 90.0}


def estimate(*slices, header="", witnesses=(), thickness_mm=1.0):
    edges = [EdgeSlice(hu, SPACING_MM) for hu in slices]
    return estimate_kernel(edges, thickness_mm, -1024.0, header, witnesses)


def limbs(count=2, **options):
    return [limb_slice(seed=seed, **options) for seed in range(count)]


def without_skin(hu):
    """What a small field of view shows: the inside alone."""
    inside = hu[60:-60, 60:-60]
    return np.pad(inside, 24, mode="reflect")


def hu_slices(slices, **options):
    return [HUSlice(hu, SPACING_MM, np.zeros(hu.shape, bool), "np", **options) for hu in slices]


@pytest.fixture(scope="module")
def soft():
    return estimate(*limbs(**SOFT))


class TestEstimate:
    @pytest.mark.parametrize("kernel", [SOFT, SHARP], ids=["soft", "sharp"])
    def test_skin_and_noise_recover_the_kernel(self, kernel):
        found = estimate(*limbs(**kernel))
        assert found.witnesses == ("skin", "noise") and found.told_by == "skin and noise of 2 slices"
        assert found.mtf50 == pytest.approx(kernel["mtf50"], rel=0.06)
        low, high = found.mtf50_interval(0.99)
        assert low < kernel["mtf50"] < high
        assert found.noise_hu["soft tissue"] == pytest.approx(kernel.get("noise_hu", 25.0), rel=0.15)

    def test_noise_alone_is_less_sure(self, soft):
        found = estimate(*[without_skin(hu) for hu in limbs(4, **SOFT)])
        assert found.witnesses == ("noise",) and found.skin_mm == 0
        low, high = found.mtf50_interval(0.95)
        assert low < SOFT["mtf50"] < high
        assert found.level_deviation > 2 * soft.level_deviation

    def test_skin_alone_recovers_the_kernel(self):
        """Bone so close to the skin leaves no square of fat or muscle."""
        hu = limb_slice(3.5, noise_hu=5.0)
        y, x = np.indices(hu.shape) - hu.shape[0] / 2
        hu[np.hypot(y, x) * SPACING_MM < RADIUS_MM - 8] = 700.0
        found = estimate(hu)
        assert found.witnesses == ("skin",) and found.noise_log_density is None
        assert found.mtf50 == pytest.approx(3.5, rel=0.1)

    @pytest.mark.parametrize("noise_hu", [150.0, 350.0])
    def test_skin_of_noisy_sharp_scans_is_found(self, noise_hu):
        """Files cut the noise of air off at -1024 HU, which lifts its mean; the skin was not bare by that."""
        edge = body_edge(limb_slice(7.0, noise_hu=noise_hu), SPACING_MM)
        assert edge is not None and edge.bare.mean() > 0.7

    def test_nothing_is_told_of_air(self):
        assert estimate(limb_slice(3.5, body=False)) is None

    def test_further_slices_narrow_it(self, soft):
        assert estimate(*limbs(6, **SOFT)).level_deviation < soft.level_deviation

    def test_the_same_slices_give_the_same_estimate(self, soft):
        again = estimate(*limbs(**SOFT))
        assert again == soft and again.digest() == soft.digest()


class TestWitnesses:
    def test_skin_that_the_noise_contradicts_counts_for_less(self):
        """The skin of thick slices is blurred by more than the kernel."""
        agreeing = estimate(*limbs(mtf50=4.5), thickness_mm=3.0)
        blurred = estimate(*limbs(mtf50=4.5, rough=0.5), thickness_mm=3.0)
        assert blurred.level_deviation > 1.3 * agreeing.level_deviation
        low, high = blurred.mtf50_interval(0.99)
        assert low < 4.5 < high

    def test_where_the_slices_tell_the_kernel_the_header_is_not_asked(self, soft):
        assert estimate(*limbs(**SOFT), header="Bl64") == soft

    def test_where_they_leave_it_open_it_is_and_may_be_overruled(self, soft, monkeypatch):
        monkeypatch.setattr(estimating, "UNSURE", 0.0)
        found = estimate(*limbs(**SOFT), header="Bl64")
        assert found.mtf50 == pytest.approx(soft.mtf50, rel=0.1)
        assert found.told_by == "skin and noise of 2 slices and the header"

    def test_the_header_alone_tells_its_kernel(self):
        found = estimate(limb_slice(3.5, body=False), header="Br44")
        assert found.witnesses == ("header",) and found.told_by == "the header"
        assert found.mtf50 == pytest.approx(4.3, rel=0.1)

    def test_any_witness_takes_part(self):
        frequency = (2.0, 3.0, 4.0)
        told = LogMTFWitness(
            "network", frequency, (-0.2, -0.45, -0.9), tuple(map(tuple, (0.05**2 * np.eye(3)).tolist()))
        )
        noise_only = [without_skin(hu) for hu in limbs(4, **SOFT)]
        alone, joined = estimate(*noise_only), estimate(*noise_only, witnesses=[told])
        assert joined.witnesses == ("noise", "network") and joined.level_deviation < 0.6 * alone.level_deviation
        np.testing.assert_allclose(np.log(joined.mtf(frequency)), told.log_mtf, atol=0.12)

    @pytest.mark.parametrize("name", ["Br40", "B31f", "STANDARD", "Br38d", r"Br40d\3"])
    def test_names_of_known_families_are_witnesses(self, name):
        assert header_witness(name) is not None

    @pytest.mark.parametrize("name", ["", "FC13", "Br99", "nonsense"])
    def test_other_names_are_none(self, name):
        assert header_witness(name) is None


class TestSlices:
    def test_arrays_and_files_share_one_path(self, soft):
        found = estimate_kernel_of_slices(hu_slices(limbs(**SOFT)))
        assert found.mtf50 == pytest.approx(soft.mtf50, rel=0.02) and found.slices == 2

    def test_a_neighbour_shows_the_tilt(self):
        slices = [*hu_slices(limbs(1, **SOFT), position_mm=0.0), *hu_slices(limbs(1, **SOFT), position_mm=1.0)]
        assert estimate_kernel_of_slices(slices).mtf50 == pytest.approx(3.5, rel=0.06)

    def test_no_slice_is_an_error(self):
        with pytest.raises(ValueError, match="at least one slice, got none"):
            estimate_kernel_of_slices([])

    def test_pixels_of_two_sizes_are_an_error(self):
        (first,) = hu_slices(limbs(1, **SOFT))
        second = HUSlice(first.hu, 0.9, first.padding, "np")
        with pytest.raises(ValueError, match="pixels of one size, got 0.7 to 0.9 mm"):
            estimate_kernel_of_slices([first, second])


class TestKernelEstimate:
    def test_survives_json(self, soft):
        again = KernelEstimate.from_json(json.loads(json.dumps(soft.to_json())))
        assert again == soft and again.digest() == soft.digest()

    def test_heavy_tails_and_noise_that_is_not_white_tell_smoothing(self, soft):
        plain = replace(soft, tails=(0.02, 0.1), whitening=0.045, whitening_deviation=0.01)
        assert plain.smoothed < 0.01 and replace(plain, tails=None).smoothed < 0.01
        assert replace(plain, tails=(1.5, 0.5)).smoothed > 0.95
        assert replace(plain, tails=(0.7, 1.3)).smoothed < 0.05, "tails of slow noise alone are anatomy's"
        assert replace(plain, whitening=0.0, whitening_deviation=0.005).smoothed > 0.95
        assert replace(plain, whitening=0.0, whitening_deviation=0.1).smoothed < 0.1, "nothing is known of it"

    def test_says_what_the_law_says(self, soft):
        assert soft.mtf([soft.mtf50, soft.mtf10]) == pytest.approx([0.5, 0.1], rel=1e-6)
        assert soft.mtf([0.0])[0] == pytest.approx(1, abs=1e-3)
        slow = np.array([0.5])
        assert soft.log_gain(slow) / slow**2 == pytest.approx(soft.whitening, rel=0.02)

    def test_covariance_of_the_power_is_one(self, soft):
        covariance = soft.log_power_covariance([2.0, 4.0, 6.0])
        np.testing.assert_allclose(covariance, covariance.T)
        assert (np.linalg.eigvalsh(covariance) > -1e-9).all() and covariance[2, 2] > covariance[0, 0]

    @pytest.mark.parametrize("share", [0.0, 1.0])
    def test_an_interval_needs_a_share(self, soft, share):
        with pytest.raises(ValueError, match="`share` must be between 0 and 1"):
            soft.mtf50_interval(share)
