"""Two curves for a whole scan: how its power differs from another's, and how white its noise is."""

import pytest
import torch

from diffusionct_pipeline.models.texture.channels import LatentChannels, patient_mean, patient_weight
from diffusionct_pipeline.models.texture.power_shift import (
    ANATOMY_LP_CM,
    LEVEL_LP_CM,
    SLOW_LP_CM,
    SMALLEST_MTF,
    anatomy_matched_power_shift,
    evenly_spaced_indices,
    level,
    level_weights,
    noise_share,
    select_tokens,
    whitening,
)
from diffusionct_pipeline.simulation import mtf

RINGS, MAX_LP_CM = 24, 12.0
LP_CM = torch.linspace(0, MAX_LP_CM, RINGS)
CHANNELS = LatentChannels(RINGS)
MEAN, POWER = CHANNELS.mean, CHANNELS.power


def places(quiet, noisy):
    """Tokens (quiet + noisy, C) of two tissues, the second of which has other anatomy and more power."""
    tokens = torch.zeros(quiet + noisy, CHANNELS.total)
    tokens[:, MEAN] = 0.2
    tokens[quiet:, MEAN] = 0.9
    tokens[quiet:, POWER] = 3.0
    return tokens


def with_curve(tokens, curve):
    moved = tokens.clone()
    moved[:, POWER] += curve
    return moved


@pytest.fixture
def curve():
    """What a kernel changes: nothing where power is anatomy, by which places look alike."""
    return (LP_CM > SLOW_LP_CM) * noise_share(RINGS, MAX_LP_CM) * (1.5 * torch.sin(LP_CM / 2) - 0.4)


class TestShift:
    def test_is_the_curve_between_two_reconstructions_of_the_same_places(self, curve):
        tokens = torch.randn(40, CHANNELS.total, generator=torch.Generator().manual_seed(0))
        shift = anatomy_matched_power_shift(tokens, with_curve(tokens, curve), MAX_LP_CM)
        here = anatomy_matched_power_shift(tokens, tokens, MAX_LP_CM)
        torch.testing.assert_close(shift - here, curve)

    def test_does_not_depend_on_the_share_of_anatomy(self, curve):
        source, target = places(60, 20), with_curve(places(10, 50), curve)
        shift = anatomy_matched_power_shift(source, target, MAX_LP_CM)
        torch.testing.assert_close(shift, curve, atol=0.05, rtol=0)
        plain = (target.mean(0) - source.mean(0))[POWER]
        assert (plain - curve)[5:].min() > 1, "the plain difference of means is wrong"

    def test_of_places_that_are_alike_nowhere_is_the_difference_of_the_means(self):
        shift = anatomy_matched_power_shift(places(10, 0), places(0, 10), MAX_LP_CM)
        torch.testing.assert_close(shift, 3.0 * noise_share(RINGS, MAX_LP_CM), atol=1e-3, rtol=0)

    def test_leaves_anatomy_alone(self):
        shift = anatomy_matched_power_shift(places(10, 10), places(10, 10) + 5, MAX_LP_CM)
        assert shift.shape == (RINGS,) and shift[LP_CM <= ANATOMY_LP_CM].abs().max() == 0

    def test_both_ways_cancel_at_the_same_places(self, curve):
        there = anatomy_matched_power_shift(places(30, 30), with_curve(places(30, 30), curve), MAX_LP_CM)
        back = anatomy_matched_power_shift(with_curve(places(30, 30), curve), places(30, 30), MAX_LP_CM)
        torch.testing.assert_close(there, -back, atol=0.05, rtol=0)


class TestLevel:
    def test_is_read_between_two_frequencies_up_to_nyquist_and_where_the_mtf_leaves_something(self):
        flat = torch.zeros(RINGS)
        used = LP_CM[level_weights(flat, MAX_LP_CM, float("inf")) > 0]
        assert used.min() >= LEVEL_LP_CM[0] and used.max() <= LEVEL_LP_CM[1] and len(used) == 8
        assert LP_CM[level_weights(flat, MAX_LP_CM, 4.0) > 0].max() <= 4.0
        soft = 2 * torch.log(torch.where(LP_CM < 3, 1.0, SMALLEST_MTF / 2))
        assert LP_CM[level_weights(soft, MAX_LP_CM, float("inf")) > 0].max() < 3

    def test_one_ring_is_always_left(self):
        nothing = torch.full((2, RINGS), -20.0)
        assert level_weights(nothing, MAX_LP_CM, 1.0).sum(-1).tolist() == [1, 1]

    def test_pixels_of_each_slice_count(self):
        weights = level_weights(torch.zeros(2, RINGS), MAX_LP_CM, torch.tensor([[3.0], [6.0]]))
        assert 0 < weights[0].sum() < weights[1].sum()

    def test_takes_a_constant_out(self, curve):
        weights = level_weights(torch.zeros(RINGS), MAX_LP_CM, 7.0)
        torch.testing.assert_close(level(curve + 4.0, weights), level(curve, weights) + 4.0)
        left = curve + 4.0 - level(curve + 4.0, weights)
        torch.testing.assert_close(left, curve - level(curve, weights), atol=1e-5, rtol=0)
        torch.testing.assert_close(level(torch.full((3, RINGS), 4.0), weights), torch.full((3, 1), 4.0))


class TestWhitening:
    @staticmethod
    def of(log_power, log_mtf_power):
        return whitening(log_power, log_mtf_power, level_weights(log_mtf_power, MAX_LP_CM, 7.0), MAX_LP_CM)

    @staticmethod
    def noise(kernel, log_density=0.0, growth=0.0):
        """log NPS = log C + log f + 2 log T + K f^2, and 2 log T."""
        f = LP_CM.clamp(min=MAX_LP_CM / (RINGS - 1))
        log_mtf_power = 2 * torch.log(mtf(LP_CM, kernel).clamp(min=SMALLEST_MTF))
        return log_density + torch.log(f) + log_mtf_power + growth * f**2, log_mtf_power

    def test_of_noise_that_the_mtf_explains_is_none(self):
        torch.testing.assert_close(self.of(*self.noise("Br40")), torch.zeros(RINGS), atol=1e-5, rtol=0)

    @pytest.mark.parametrize("growth", (0.02, 0.06))
    def test_depends_on_neither_kernel_nor_dose(self, growth):
        # Kernels of which the level is read over the same frequencies; its mean is taken there.
        found = [
            self.of(*self.noise(kernel, log_density, growth)) for kernel in ("Bl64", "Br59") for log_density in (-2, 3)
        ]
        for other in found[1:]:
            torch.testing.assert_close(other, found[0], atol=1e-4, rtol=0)
        weights = level_weights(torch.zeros(RINGS), MAX_LP_CM, 7.0)
        expected = growth * LP_CM**2
        expected = (expected - level(expected, weights)) * noise_share(RINGS, MAX_LP_CM)
        torch.testing.assert_close(found[0], expected, atol=1e-4, rtol=0)

    def test_is_of_mean_0_where_the_level_is_read_and_0_where_power_is_anatomy(self):
        log_power = torch.randn(3, RINGS, generator=torch.Generator().manual_seed(0))
        log_mtf_power = self.noise("Br40")[1].expand(3, -1)
        weights = level_weights(log_mtf_power, MAX_LP_CM, 7.0)
        white = whitening(log_power, log_mtf_power, weights, MAX_LP_CM)
        torch.testing.assert_close(level(white, weights), torch.zeros(3, 1), atol=1e-5, rtol=0)
        assert white[:, LP_CM <= ANATOMY_LP_CM].abs().max() == 0


class TestTokens:
    def latents(self):
        """Two slices of ten positions, the first six of which are tissue."""
        latents = torch.randn(2, CHANNELS.total, 10, generator=torch.Generator().manual_seed(5))
        latents[:, MEAN, :6], latents[:, MEAN, 6:] = 0.4, -1.7
        return latents

    def test_leave_out_air(self):
        tokens = select_tokens(self.latents())
        assert tokens.shape == (12, CHANNELS.total) and (tokens[..., MEAN] > 0).all()

    def test_are_positions_of_every_slice(self):
        latents = self.latents()
        tokens = select_tokens(latents, 4)
        positions = latents.transpose(1, 2).flatten(0, 1)
        found = (tokens[:, None] == positions).all(-1).int().argmax(1)
        assert len(tokens) == 4 and found.min() < 10 <= found.max()

    def test_of_air_alone_are_what_comes_closest(self):
        latents = torch.randn(1, CHANNELS.total, 8, generator=torch.Generator().manual_seed(6))
        latents[:, MEAN] = torch.linspace(-2.4, -1.6, 8)
        tokens = select_tokens(latents, 3)
        torch.testing.assert_close(tokens[:, MEAN][:, 0], latents[0, MEAN, -3:][0])

    def test_weight_and_mean_of_the_patient(self):
        latents = self.latents()
        weight = patient_weight(latents)
        assert weight.shape == (2, 1, 10) and weight[..., :6].min() > 0.99 and weight[..., 6:].max() < 0.02
        torch.testing.assert_close(patient_mean(latents), latents[..., :6].mean(-1), atol=0.05, rtol=0.05)

    def test_indices_are_evenly_spread_from_the_first_to_the_last(self):
        assert evenly_spaced_indices(10, 4).tolist() == [0, 3, 6, 9]
        assert evenly_spaced_indices(3, 4).tolist() == [0, 1, 2]
