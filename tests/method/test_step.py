"""The one rule for the step: shape from noise at places that look alike, level from kernels."""

import numpy as np
import pytest
import torch
from helpers.estimates import kernel_estimate

from diffusionct_pipeline.estimation.scan_estimate import ScanEstimate
from diffusionct_pipeline.method.step import USUAL_DOSE_DEVIATION, Target, log_mtf_power, make_step, require_noise
from diffusionct_pipeline.models.texture.channels import LatentChannels
from diffusionct_pipeline.models.texture.power_shift import LEVEL_LP_CM, SLOW_LP_CM
from diffusionct_pipeline.physics.kernels import kernel_mtf
from diffusionct_pipeline.simulation import KERNELS

RINGS, MAX_LP_CM = 24, 12.0
CHANNELS = LatentChannels(RINGS)
POWER, LP_CM = CHANNELS.power, np.linspace(0, MAX_LP_CM, RINGS)
READ = (LEVEL_LP_CM[0] <= LP_CM) & (LEVEL_LP_CM[1] >= LP_CM)
MEAN, STD = torch.full((CHANNELS.total,), 0.25), torch.full((CHANNELS.total,), 0.5)
SOFT_TISSUE = 0.4  # 50 HU
STANDARD = "Br59"


def tokens(name, log_dose_ratio=0.0, seed=0):
    """Places in soft tissue whose noise is that of a kernel, (64, C), not normalized."""
    positions = torch.zeros(64, CHANNELS.total)
    positions[:, CHANNELS.mean] = SOFT_TISSUE
    places = 0.2 * torch.randn(64, 1, generator=torch.Generator().manual_seed(seed))
    law = (
        np.log(LP_CM.clip(0.3))
        + 2 * np.log(kernel_mtf(KERNELS[name])(LP_CM).clip(1e-2))
        + kernel_estimate(name).log_gain(LP_CM)
    )
    noise = torch.from_numpy((law + log_dose_ratio) * (LP_CM > SLOW_LP_CM)).float()  # slower power tells places apart
    positions[:, POWER] = -6.0 + places + noise
    return positions


def scan(name, log_dose_ratio=0.0, kernel=True, **changes):
    return ScanEstimate(kernel_estimate(name, **changes) if kernel else None, tokens(name, log_dose_ratio))


def to_standard(log_dose_ratio=1.5, named=None, known=True):
    """A target of another dose."""
    texture = (tokens(STANDARD, log_dose_ratio, seed=1) - MEAN) / STD
    texture_mtf = kernel_mtf(KERNELS[STANDARD]) if known else None
    mtf = None if named is None else kernel_mtf(KERNELS[named])
    return Target(texture[None], texture_mtf, mtf, named or STANDARD, named or "standard")


def moved(source, target, noise="keep"):
    """Mean log power of the scan after the step, (rings,), and the step."""
    step = make_step(source, target, noise, MEAN, STD, MAX_LP_CM)
    return source.tokens[:, POWER].mean(0).numpy() + step.shift[0].numpy() * STD[POWER].numpy(), step


class TestKeep:
    def test_two_reconstructions_of_one_scan_become_the_same(self):
        """Their tokens differ by 2 log(T1 / T2), and their estimates know T1 and T2."""
        (soft, _), (sharp, _) = (moved(scan(name), to_standard()) for name in ("Br40", "Br59"))
        np.testing.assert_allclose(soft[READ], sharp[READ], atol=0.05)
        before = [scan(name).tokens[:, POWER].mean(0).numpy()[READ] for name in ("Br40", "Br59")]
        assert np.abs(before[0] - before[1]).max() > 1

    def test_they_become_what_the_target_kernel_would_have_shown_of_the_scan(self):
        result, step = moved(scan("Br40"), to_standard())
        expected = scan(STANDARD).tokens[:, POWER].mean(0).numpy()
        np.testing.assert_allclose(result[READ], expected[READ], atol=0.1)
        assert step.noise == "keep" and step.remarks == []

    def test_the_ratio_of_the_doses_is_what_it_takes_out(self):
        step = moved(scan("Br40"), to_standard(1.5))[1]
        assert step.level == pytest.approx(1.5, abs=3 * step.level_deviation) and 0 < step.level_deviation < 0.3
        assert moved(scan("Br40", 1.0), to_standard(1.5))[1].level == pytest.approx(step.level - 1.0, abs=0.02)

    def test_a_kernel_that_is_not_known_takes_over_the_targets_noise_and_says_so(self):
        unknown = scan("Br40", kernel=False)
        kept, target = (moved(unknown, to_standard(), noise)[1] for noise in ("keep", "target"))
        assert kept.noise == "target" and "kernel could not be estimated" in kept.remarks[0] and target.remarks == []
        torch.testing.assert_close(kept.shift, target.shift)
        assert kept.level is None and kept.log_mtf_power is None

    def test_the_dose_of_a_smoothed_scan_is_not_known_and_the_targets_noise_is_taken(self):
        plain, smoothed = scan("Br40"), scan("Br40", tails=(1.5, 0.0))
        kept, target, in_hu = (moved(smoothed, to_standard(), noise)[1] for noise in ("keep", "target", 80.0))
        assert moved(plain, to_standard())[1].noise == "keep"
        assert kept.noise == "target" and "was smoothed, which hides the dose" in kept.remarks[0]
        assert target.remarks == in_hu.remarks == []
        torch.testing.assert_close(kept.shift, target.shift)
        assert in_hu.noise_hu[1] == pytest.approx(80.0, rel=0.01)

    @pytest.mark.parametrize("doubt", ["source", "target"])
    def test_nor_is_the_dose_kept_where_the_level_is_not_sure(self, doubt):
        source = scan("Br40", deviation=2.0) if doubt == "source" else scan("Br40")
        step = moved(source, to_standard(known=doubt == "source"))[1]
        assert step.noise == "target" and "kernel could not be estimated" in step.remarks[0]


class TestSamples:
    """All but the first draw the level of noise as surely as it is known."""

    def levels(self, step, count=400):
        shifts = torch.cat([step.of_sample(number, 7).shift for number in range(1, count)])
        drawn = (shifts - step.shift)[:, READ] * STD[POWER][READ]
        torch.testing.assert_close(drawn, drawn[:, :1].expand_as(drawn), atol=1e-5, rtol=1e-4)
        return drawn[:, 0]

    def test_the_first_is_the_likeliest_and_the_same_seed_draws_the_same(self):
        step = moved(scan("Br40"), to_standard())[1]
        assert step.of_sample(0, 7) is step
        torch.testing.assert_close(step.of_sample(3, 7).shift, step.of_sample(3, 7).shift, atol=0, rtol=0)
        assert not torch.equal(step.of_sample(3, 7).shift, step.of_sample(3, 8).shift)

    def test_a_kept_dose_is_drawn_from_its_deviation(self):
        step = moved(scan("Br40", deviation=0.2), to_standard())[1]
        drawn = self.levels(step)
        assert drawn.std().item() == pytest.approx(step.level_deviation, rel=0.15)
        assert abs(drawn.mean().item()) < 0.2 * step.level_deviation

    def test_a_dose_that_cannot_be_kept_is_drawn_from_what_is_usual(self):
        drawn = self.levels(moved(scan("Br40", kernel=False), to_standard())[1])
        assert drawn.std().item() == pytest.approx(USUAL_DOSE_DEVIATION, rel=0.15)

    @pytest.mark.parametrize("noise", ("target", 60.0))
    def test_a_level_that_the_user_chose_is_not_drawn(self, noise):
        step = moved(scan("Br40"), to_standard(), noise)[1]
        assert step.of_sample(3, 7) is step


class TestTarget:
    def test_the_level_of_the_target_is_reached(self):
        result, step = moved(scan("Br40"), to_standard(1.5), "target")
        texture = to_standard(1.5).tokens[0] * STD + MEAN
        np.testing.assert_allclose(result[READ], texture[:, POWER].mean(0).numpy()[READ], atol=0.1)
        assert step.noise == "target" and step.remarks == []

    def test_anatomy_stays(self):
        for noise in ("keep", "target", 60.0):
            step = moved(scan("Br40"), to_standard(named="Bl64"), noise)[1]
            assert step.shift.shape == (1, RINGS) and step.shift[0, :2].abs().max() == 0

    @pytest.mark.parametrize("kernel", (True, False))
    @pytest.mark.parametrize("noise", ("keep", "target"))
    def test_any_kernel_by_name_adds_its_mtf_over_that_of_the_texture(self, kernel, noise):
        source = scan("Br40", kernel=kernel)
        change = moved(source, to_standard(named="Br44"), noise)[0] - moved(source, to_standard(), noise)[0]
        expected = 2 * np.log(kernel_mtf(KERNELS["Br44"])(LP_CM) / kernel_mtf(KERNELS[STANDARD])(LP_CM))
        np.testing.assert_allclose(change[READ], expected[READ], atol=0.05)

    def test_to_its_own_kernel_and_dose_nothing_changes(self):
        result, _ = moved(scan("Br40"), to_standard(named="Br40"))
        np.testing.assert_allclose(result[READ], scan("Br40").tokens[:, POWER].mean(0).numpy()[READ], atol=0.1)


class TestNoiseInHU:
    @pytest.mark.parametrize("kernel", (True, False))
    @pytest.mark.parametrize("factor", (1.5, 4.0))
    def test_more_than_the_dose_has_is_reached(self, kernel, factor):
        source = scan("Br40", kernel=kernel)
        kept = moved(source, to_standard(), "keep")[1]
        wanted = factor * kept.noise_hu[1]
        step = moved(source, to_standard(), wanted)[1]
        assert step.noise_hu[1] == pytest.approx(wanted, rel=0.01) and step.noise_hu[0] == kept.noise_hu[0]
        assert all("less than its dose" not in remark for remark in step.remarks)

    def test_less_cannot_be_reached_by_any_kernel_and_is_said(self):
        kept, step = (moved(scan("Br40"), to_standard(), noise)[1] for noise in ("keep", 5.0))
        torch.testing.assert_close(step.shift, kept.shift)
        (remark,) = step.remarks
        assert remark.startswith("5 HU of noise is less than its dose gives") and step.noise == "keep"

    def test_the_noise_before_is_the_measured_one(self):
        source = scan("Br40", noise_hu={"soft tissue": 17.0})
        assert moved(source, to_standard())[1].noise_hu[0] == pytest.approx(17.0)

    def test_without_soft_tissue_none_is_expected(self):
        source = scan("Br40", noise_hu={"lung": 30.0})
        source.tokens[:, CHANNELS.mean] = -1.4  # lung
        step = moved(source, to_standard(), 30.0)[1]
        assert step.noise_hu is None

    @pytest.mark.parametrize("noise", ["loud", 0, -1.0, float("inf"), float("nan"), True, None])
    def test_what_is_no_level_is_refused(self, noise):
        with pytest.raises(ValueError, match='`noise` must be "keep", "target" or a number of HU above 0, got'):
            require_noise(noise)

    @pytest.mark.parametrize("noise", ["keep", "target", 20, 12.5])
    def test_what_is_one_is_not(self, noise):
        require_noise(noise)


def test_the_mtf_of_a_scan_is_known_where_its_kernel_is():
    found = log_mtf_power(scan("Br40"), RINGS, MAX_LP_CM)
    assert found.shape == (1, RINGS) and found.isfinite().all()
    np.testing.assert_allclose(found[0, :10], 2 * np.log(kernel_mtf(KERNELS["Br40"])(LP_CM[:10])), atol=1e-3)
    assert log_mtf_power(scan("Br40", kernel=False), RINGS, MAX_LP_CM) is None


def test_noise_that_two_scans_share_does_not_depend_on_normalization():
    source, target = scan("Br40"), to_standard()
    one = make_step(source, target, "keep", MEAN, STD, MAX_LP_CM)
    texture = target.tokens * STD + MEAN
    other = make_step(source, replace_tokens(target, texture), "keep", MEAN * 0, STD * 0 + 1, MAX_LP_CM)
    assert other.noise == one.noise and other.noise_hu == pytest.approx(one.noise_hu, rel=0.05)


def replace_tokens(target, tokens):
    return target._replace(tokens=tokens)
