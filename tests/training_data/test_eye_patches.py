"""Versions of patches: whatever is done to them, log T is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import ndtr

from diffusionct_pipeline.estimation.law import log_mtf
from diffusionct_pipeline.training_data.eye_patches import (
    DRAWN_MM,
    LOWEST_LOG_MTF,
    MARGIN,
    STEP_LP_CM,
    STORED_HU,
    EyePatches,
    PatchSource,
    draw_shapes,
    draw_version,
    unchanged,
)

SIDE = 32 + 2 * MARGIN


def source(kernels=((3.8, 6.3, 0.0, 2.0),), spacing_mm=0.7, trusted=True, seed=0):
    """White noise instead of anatomy."""
    hu = 30 * np.random.default_rng(seed).standard_normal((3, 1, SIDE, SIDE)) + 40
    frequency = np.arange(0, 10.2, STEP_LP_CM).clip(1e-3)
    curves = np.stack([log_mtf(frequency, *law) for law in kernels])
    stored = np.repeat((hu / STORED_HU).astype(np.int16), len(kernels), axis=1)
    return PatchSource(stored, curves, spacing_mm, trusted)


def patches_of(*sources):
    return EyePatches(sources, [], frequencies=6, patch_pixels=32)


def test_a_batch_is_the_same_for_a_seed():
    drawn = [patches_of(source()).batch(3, torch.Generator().manual_seed(4)) for _ in range(2)]
    assert all(torch.equal(*pair) for pair in zip(*(vars(each).values() for each in drawn)))
    assert drawn[0].sample.shape == (6, 1, 32, 32) and drawn[0].log_mtf.shape == (6, 6)
    assert torch.isfinite(drawn[0].sample).all()


def test_what_the_pixels_do_not_hold_is_not_asked():
    drawn = patches_of(source(spacing_mm=0.95)).batch(4, torch.Generator().manual_seed(0))
    assert (drawn.nyquist <= 5 / 0.95 + 1e-4).all()
    frequency = torch.arange(1.0, 7.0)
    assert not drawn.told[frequency[None] >= drawn.nyquist[:, None]].any() and drawn.told[:, :4].all()
    assert (drawn.log_mtf >= LOWEST_LOG_MTF).all()


def test_an_unchanged_patch_is_its_own():
    one = source()
    seen = patches_of(one).render(one.hu[0, 0] * np.float32(STORED_HU), unchanged(one, 0), np.random.default_rng(0))
    expected = one.hu[0, 0, MARGIN:-MARGIN, MARGIN:-MARGIN] * STORED_HU
    assert np.abs(seen - expected).max() <= 0.51, "rounded to whole HU"


def test_a_filter_changes_power_by_its_gain():
    one, rng = source(), np.random.default_rng(1)
    version = unchanged(one, 0)
    version = replace(version, log_gain=np.full_like(version.log_gain, -0.7), log_mtf=version.log_mtf - 0.7)
    hu = one.hu[0, 0] * np.float32(STORED_HU)
    before, after = (patches_of(one).render(hu, each, rng) for each in (unchanged(one, 0), version))
    assert np.log(after.std() / before.std()) == pytest.approx(-0.7, abs=0.01)


def test_noise_has_the_level_that_was_asked():
    one, rng = source(), np.random.default_rng(1)
    hu = np.zeros((SIDE, SIDE), np.float32)
    seen = patches_of(one).render(hu, replace(unchanged(one, 0), noise_hu=50.0, whitening=0.05), rng)
    assert seen.std() == pytest.approx(50, rel=0.15)


def test_drawn_versions_say_what_they_are():
    one = source()
    for seed in range(20):
        version = draw_version(one, 0, np.random.default_rng(seed))
        np.testing.assert_allclose(version.log_mtf - version.log_gain, one.log_mtf[0])
        assert version.log_gain.max() <= 3.0


def test_nothing_to_learn_from_is_an_error():
    with pytest.raises(ValueError, match="`real` and `simulated`"):
        EyePatches([], [])


def test_edges_of_shapes_have_the_mtf_of_the_version():
    """A large shape's edge, rendered: its slope along the normal is that of the kernel's line spread."""
    one, side = source(), SIDE
    frequency = np.arange(0, 10.2, STEP_LP_CM)
    version = replace(unchanged(one, 0), log_mtf=-0.06 * frequency**2, log_gain=np.zeros_like(frequency))  # a Gaussian
    place_mm = (np.arange(side) - (side - 1) / 2) * 0.7
    shapes_hu = 1000 * ndtr(-(place_mm - 0.2) / DRAWN_MM) * np.ones((side, 1))
    shapes_hu *= ndtr((place_mm + 18) / DRAWN_MM)  # ends on the other side, too: filters wrap around
    seen = patches_of(one).render(np.zeros((side, side), np.float32), replace(version, shapes_hu=shapes_hu), None)[16]
    sigma_mm = 10 * np.sqrt(0.06 / 2) / np.pi
    expected = 1000 * ndtr(-(place_mm - 0.2) / sigma_mm)[MARGIN:-MARGIN]
    assert np.abs(seen - expected)[14:].max() < 5


def test_shapes_are_no_darker_than_air_alone():
    drawn = [draw_shapes(SIDE, 0.7, -850.0, np.random.default_rng(seed)) for seed in range(10)]
    assert all(np.ptp(each) >= 10 for each in drawn)
    one_at_most = -174 * 4 - 1
    assert min(each.min() for each in drawn) > one_at_most
