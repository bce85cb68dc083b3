from dataclasses import replace

import numpy as np
import pytest
import torch

from diffusionct_pipeline.simulation import (
    KERNELS,
    Scanner,
    ScanOptions,
    rekernel_slice,
    simulate_pair,
    smooth_like_iterative,
)

Z = 20.0


@pytest.fixture(scope="module")
def pair(phantom, scanner, options):
    return simulate_pair(phantom, Z, options, seed=3, scanner=scanner)


def high_frequency_power(hu):
    return float((np.diff(hu, axis=0) ** 2).mean() + (np.diff(hu, axis=1) ** 2).mean())


def noise(phantom, scanner, options, kernel="Br40"):
    noisy = simulate_pair(phantom, Z, options, seed=1, scanner=scanner).hu[kernel]
    return float((noisy - simulate_pair(phantom, Z, replace(options, mas=None), scanner=scanner).hu[kernel]).std())


def test_a_pair_holds_every_kernel_and_what_it_was_made_with(pair, options):
    assert list(pair.hu) == list(pair.kernels) == ["Br40", "Bl64"]
    for hu in pair.hu.values():
        assert hu.shape == pair.mask.shape == (96, 96) and hu.dtype == np.float32
        assert (hu == np.round(hu)).all() and hu.min() >= -1024 and hu.max() <= 3071
    assert (pair.spacing_mm, pair.thickness_mm, pair.mas, pair.seed) == (0.8, 1.0, 100.0, 3)


def test_the_seed_decides_the_noise(pair, phantom, scanner, options):
    again = simulate_pair(phantom, Z, options, seed=3, scanner=scanner)
    other = simulate_pair(phantom, Z, options, seed=4, scanner=scanner)
    np.testing.assert_array_equal(pair.hu["Bl64"], again.hu["Bl64"])
    assert not np.array_equal(pair.hu["Bl64"], other.hu["Bl64"])


def test_signed_formats_keep_noise_below_air(phantom, scanner, options):
    signed = simulate_pair(phantom, Z, replace(options, mas=20.0, lowest_hu=-2048), seed=3, scanner=scanner).hu["Bl64"]
    cut = simulate_pair(phantom, Z, replace(options, mas=20.0), seed=3, scanner=scanner).hu["Bl64"]
    assert signed.min() < -1024
    np.testing.assert_array_equal(signed.clip(min=-1024), cut)


def test_kernels_differ_in_sharpness_even_without_noise(phantom, scanner, options):
    # Not cut at -1024 HU, where a sharp kernel undershoots beside the skin.
    clean = simulate_pair(phantom, Z, replace(options, mas=None, lowest_hu=-2048.0), scanner=scanner).hu
    assert high_frequency_power(clean["Bl64"]) > 1.3 * high_frequency_power(clean["Br40"])
    assert clean["Bl64"].mean() == pytest.approx(clean["Br40"].mean(), abs=2)


def test_thick_slices_and_high_dose_have_less_noise(phantom, scanner, options):
    reference = noise(phantom, scanner, options)
    assert noise(phantom, scanner, replace(options, thickness_mm=4.0)) < 0.6 * reference
    assert noise(phantom, scanner, replace(options, mas=400.0)) < 0.6 * reference


def test_iterative_smoothing_acts_on_the_chosen_kernel_only(pair, phantom, scanner, options):
    smoothed = simulate_pair(phantom, Z, replace(options, smoothing={"Br40": 0.7}), seed=3, scanner=scanner)
    np.testing.assert_array_equal(smoothed.hu["Bl64"], pair.hu["Bl64"])
    assert high_frequency_power(smoothed.hu["Br40"]) < 0.9 * high_frequency_power(pair.hu["Br40"])


def test_smoothing_keeps_edges_and_is_nothing_at_strength_zero():
    hu = torch.full((40, 40), 40.0)
    hu[:, 20:] = -850.0
    noisy = hu + 12 * torch.randn(40, 40, generator=torch.Generator().manual_seed(0))
    smoothed = smooth_like_iterative(noisy, 1.0)
    assert smoothed[5:35, 5:15].std() < 0.5 * noisy[5:35, 5:15].std()
    assert (smoothed[:, 19].mean() - 40).abs() < 8 and (smoothed[:, 20].mean() + 850).abs() < 8
    assert torch.equal(smooth_like_iterative(noisy, 0.0), noisy)
    with pytest.raises(ValueError, match="`strength` must be between 0 and 1, got 2"):
        smooth_like_iterative(noisy, 2)


def test_kernel_jitter_is_recorded(phantom, scanner, options):
    jittered = simulate_pair(phantom, Z, replace(options, kernel_jitter=0.15), seed=1, scanner=scanner)
    assert jittered.kernels["Bl64"].mtf50 != 8.1
    assert 0.85 <= jittered.kernels["Bl64"].mtf50 / KERNELS["Bl64"].mtf50 <= 1.15


def test_the_tumour_mask_lies_on_the_reconstruction_grid(phantom, scanner):
    tumour = phantom.tumours[0]
    options = ScanOptions(size=96, spacing_mm=0.8, mas=None, centre_mm=tumour.centre_mm[:2])
    pair = simulate_pair(phantom, tumour.centre_mm[2], options, scanner=scanner)
    assert pair.mask[48, 48] == 1
    assert np.median(pair.hu["Br40"][pair.mask == 1]) == pytest.approx(tumour.hu, abs=60)


@pytest.fixture(scope="module")
def real(phantom):
    return phantom.slice_hu(Z).numpy()


class TestRealSliceAsObject:
    def test_hu_survive_and_kernels_differ(self, real, phantom, scanner, options):
        clean = replace(options, mas=None)
        pair = rekernel_slice(real, phantom.spacing_mm, clean, scanner=scanner)
        direct = simulate_pair(phantom, Z, clean, scanner=scanner)
        assert pair.hu["Br40"].mean() == pytest.approx(direct.hu["Br40"].mean(), abs=15)
        assert high_frequency_power(pair.hu["Bl64"]) > high_frequency_power(pair.hu["Br40"])

    def test_dividing_out_the_source_kernel_sharpens(self, real, phantom, scanner, options):
        clean = replace(options, mas=None, kernels=("Br40",))
        plain = rekernel_slice(real, phantom.spacing_mm, clean, scanner=scanner)
        divided = rekernel_slice(real, phantom.spacing_mm, clean, scanner=scanner, source_kernel="Br40")
        assert high_frequency_power(divided.hu["Br40"]) > 1.1 * high_frequency_power(plain.hu["Br40"])

    def test_masks_move_to_the_new_grid(self, real, phantom, scanner):
        tumour = phantom.tumours[0]
        mask = phantom.tumour_mask(tumour.centre_mm[2]).numpy()
        options = ScanOptions(kernels=("Br40",), size=96, spacing_mm=0.8, centre_mm=tumour.centre_mm[:2])
        moved = rekernel_slice(real, phantom.spacing_mm, options, scanner=scanner, mask=mask).mask
        assert (moved == 1).sum() * 0.64 == pytest.approx((mask == 1).sum() * phantom.spacing_mm**2, rel=0.1)

    def test_an_object_wider_than_the_detector_is_refused(self, real, phantom):
        with pytest.raises(ValueError, match=r"within 64 mm.*n_detectors=\d+"):
            rekernel_slice(real, phantom.spacing_mm, scanner=Scanner(n_views=10, n_detectors=128, detector_mm=1.0))

    @pytest.mark.parametrize("hu", [np.zeros((4, 5)), np.zeros((2, 4, 4)), np.full((4, 4), np.nan)])
    def test_bad_arrays_are_refused(self, hu):
        with pytest.raises(ValueError, match="`hu` must be one square slice"):
            rekernel_slice(hu, 0.7)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kernels", ()),
        ("kernels", ("Br40", "Br40")),
        ("thickness_mm", 0),
        ("thickness_mm", 20),
        ("mas", 0),
        ("size", 8),
        ("spacing_mm", -1),
        ("beam_hardening", 1),
        ("smoothing", {"Bf99": 0.5}),
        ("smoothing", {"Br40": 3}),
        ("lowest_hu", 0),
        ("kernel_jitter", 1.5),
    ],
)
def test_illegal_options_are_named(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be .*, got "):
        ScanOptions(**{name: value})
