"""Edge-preserving smoothing: less noise, the same edges, and three families that training never sees."""

import pytest
import torch

from diffusionct_pipeline.simulation.degradation import (
    HELD_OUT_SMOOTHERS,
    SMOOTHERS,
    TRAINING_SMOOTHERS,
    smooth,
    smooth_like_iterative,
)

STEP_HU = 900.0


@pytest.fixture(scope="module")
def step():
    """Soft tissue beside bone, with noise that is correlated as in CT."""
    white = torch.randn(1, 1, 96, 96, generator=torch.Generator().manual_seed(0))
    noise = torch.nn.functional.avg_pool2d(white, 2, 1)[0, 0, :, :]
    noise = 30 * noise / noise.std()
    hu = torch.full_like(noise, 40.0)
    hu[:, 48:] += STEP_HU
    return hu + noise


@pytest.mark.parametrize("family", SMOOTHERS)
class TestEveryFamily:
    def test_smooths_noise(self, family, step):
        after = smooth(step, family)
        for side in (slice(0, 40), slice(56, None)):
            assert after[:, side].std() < 0.85 * step[:, side].std()

    def test_keeps_a_step(self, family, step):
        after = smooth(step, family)
        assert (after[:, 52:56].mean() - after[:, 40:44].mean()).item() == pytest.approx(STEP_HU, rel=0.05)
        assert (after[:, 48].mean() - after[:, 47].mean()).item() > 0.85 * STEP_HU

    def test_keeps_the_mean(self, family, step):
        assert (smooth(step, family) - step).mean().abs() < 1.5

    def test_at_strength_0_changes_nothing_and_in_between_goes_part_of_the_way(self, family, step):
        assert torch.equal(smooth(step, family, 0.0), step)
        whole, part = smooth(step, family) - step, smooth(step, family, 0.4) - step
        torch.testing.assert_close(part, 0.4 * whole, atol=1e-3, rtol=1e-3)

    def test_is_not_linear(self, family, step):
        """Else a filter would undo it."""
        flat = step.clone()
        flat[:, 48:] -= STEP_HU
        with_step, without = smooth(step, family), smooth(flat, family)
        offset = torch.zeros_like(step)
        offset[:, 48:] = STEP_HU
        linear = smooth(offset + 40, family) - 40
        assert (with_step - without - linear).abs().max() > 2

    def test_a_higher_threshold_smooths_more(self, family, step):
        low, high = (smooth(step, family, 1.0, threshold)[:, :40].std() for threshold in (0.6, 1.8))
        assert high < low

    def test_any_slice_is_smoothed_without_a_nan(self, family):
        for hu in (torch.full((64, 64), -1000.0), torch.full((33, 48), 40.0)):
            out = smooth(hu, family)
            torch.testing.assert_close(out, hu, atol=0.1, rtol=0)


def test_held_out_families_are_not_trained_on():
    assert set(HELD_OUT_SMOOTHERS) == {"non-local means", "total variation", "statistical, q-GGMRF"}
    assert not set(HELD_OUT_SMOOTHERS) & set(TRAINING_SMOOTHERS)
    assert {**TRAINING_SMOOTHERS, **HELD_OUT_SMOOTHERS} == SMOOTHERS


def test_iterative_reconstruction_is_bilateral(step):
    assert torch.equal(smooth_like_iterative(step, 0.6), smooth(step, "bilateral", 0.6))


@pytest.mark.parametrize(
    ("family", "strength", "said"), [("median", 1.0, "'median'"), ("guided", 1.2, "1.2"), ("guided", -0.1, "-0.1")]
)
def test_unknown_families_and_strengths_are_refused(step, family, strength, said):
    with pytest.raises(ValueError, match=said):
        smooth(step, family, strength)
