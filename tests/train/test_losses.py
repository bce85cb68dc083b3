import pytest
import torch
from diffusers import DDPMScheduler
from torch import nn

from diffusionct_pipeline.train.losses import (
    AIR_WEIGHT,
    BOUND,
    RECONSTRUCTION_LOSSES,
    DiffusionLoss,
    LocalSpectrumLoss,
    PlacewiseDiffusionLoss,
    Reconstruction,
    SquaredError,
    WeightedLosses,
)


def noise(seed, scale=1.0):
    return scale * torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(seed))


def made(drawn, target):
    return Reconstruction(drawn, target, latent=torch.ones(2, 4, 6))


class TestLocalSpectrumLoss:
    def test_zero_for_itself(self):
        assert LocalSpectrumLoss()(noise(0), noise(0)) == 0

    def test_does_not_see_phase_but_power(self):
        loss = LocalSpectrumLoss()
        other_noise, weaker = loss(noise(0), noise(1)), loss(noise(0), noise(1, 0.5))
        assert weaker > 2 * other_noise

    def test_does_not_see_the_mean(self):
        torch.testing.assert_close(LocalSpectrumLoss()(noise(0), noise(0) + 1), torch.tensor(0.0), atol=1e-4, rtol=0)

    def test_prefers_right_power_where_l2_prefers_the_mean(self):
        target, fresh, blurred = noise(0), noise(1), torch.zeros(2, 1, 64, 64)
        assert SquaredError()(made(blurred, target)) < SquaredError()(made(fresh, target))
        assert LocalSpectrumLoss()(fresh, target) < LocalSpectrumLoss()(blurred, target)


class TestSquaredError:
    def test_is_the_mean_squared_error(self):
        expected = (noise(0) - noise(1)).square().mean()
        torch.testing.assert_close(SquaredError()(made(noise(0), noise(1))), expected)


class TestWeightedLosses:
    def test_every_loss_is_zero_or_more_and_has_a_gradient(self):
        drawn = noise(1).requires_grad_()
        losses = WeightedLosses(dict.fromkeys(RECONSTRUCTION_LOSSES, 1.0))(
            Reconstruction(drawn, noise(0), latent=drawn.flatten(2))
        )
        assert losses.keys() == {*RECONSTRUCTION_LOSSES, "loss"}
        assert all(loss.ndim == 0 and loss >= 0 for loss in losses.values())
        assert torch.autograd.grad(losses["loss"], drawn)[0].abs().sum() > 0

    def test_are_weighted_and_0_only_logs(self):
        losses = WeightedLosses({"l2": 2.0, "latent": 0.0})(made(noise(0), noise(1)))
        assert losses["latent"] == 1
        torch.testing.assert_close(losses["loss"], 2 * losses["l2"])

    @pytest.mark.parametrize("weights", [{"l3": 1.0}, {}])
    def test_unknown_names_are_refused(self, weights):
        with pytest.raises(ValueError, match="must be among l2"):
            WeightedLosses(weights)


class Fixed(nn.Module):
    """A denoiser that predicts the same whatever it is given."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, sample, timestep, latent_a, reference=None):
        return type("Output", (), {"sample": torch.full_like(sample, self.value)})


class TestDiffusionLoss:
    def test_is_l2_plus_weighted_l1_of_the_noise(self):
        latent_b, noise = torch.full((1, 2, 3), 2.0), torch.full((1, 2, 3), 3.0)
        loss = DiffusionLoss(DDPMScheduler(), l1_weight=0.5)
        assert loss(Fixed(1.0), latent_b, latent_b, noise, torch.tensor([7])).item() == pytest.approx(4 + 0.5 * 2)

    def test_a_right_prediction_costs_nothing(self):
        latent_b, noise = torch.ones(4, 2, 3), torch.full((4, 2, 3), -0.7)
        loss = DiffusionLoss(DDPMScheduler(), l1_weight=1.0)
        assert loss(Fixed(-0.7), latent_b, latent_b, noise, torch.arange(4)) == 0

    def test_draws_noise_and_all_times(self):
        noise, timestep = DiffusionLoss(DDPMScheduler(), 1.0).draw(torch.zeros(4000, 2, 3), generator(0))
        assert noise.shape == (4000, 2, 3) and noise.std().item() == pytest.approx(1, abs=0.02)
        assert (
            timestep.min() < 10
            and timestep.max() > 989
            and timestep.float().mean().item() == pytest.approx(500, abs=20)
        )


def generator(seed):
    return torch.Generator().manual_seed(seed)


SCHEDULER = DDPMScheduler(prediction_type="v_prediction", beta_schedule="squaredcos_cap_v2", clip_sample=False)


class Perfect(nn.Module):
    """A denoiser that knows the residual and the noise."""

    def __init__(self, residual, noise, error=0.0):
        super().__init__()
        self.residual, self.noise, self.error = residual, noise, error

    def forward(self, sample, timestep, latent_a, tokens, shift, whitening, tails):
        v = SCHEDULER.get_velocity(self.residual, self.noise, timestep)
        return type("Output", (), {"sample": v + self.error})


class TestPlacewiseDiffusionLoss:
    def loss(self, error, weight, share=0.0):
        """Of a network that errs by `error`, (B, 1 or C, 1 or L)."""
        loss = PlacewiseDiffusionLoss(SCHEDULER, share)
        residual = torch.randn(2, 3, 4, generator=generator(1))
        noise, timestep = loss.draw(residual, generator(2))
        condition = (torch.zeros(2, 5, 3), torch.zeros(2, 1), torch.zeros(2, 1), torch.zeros(2, 3))
        return loss(Perfect(residual, noise, error), residual, residual, condition, weight, noise, timestep)

    def test_a_perfect_network_costs_nothing(self):
        assert self.loss(0.0, torch.ones(2, 1, 4)).item() == pytest.approx(0, abs=1e-9)

    @pytest.mark.parametrize(("share", "expected"), [(0.0, 0.001), (0.3, 0.3), (1.0, 1.0)])
    def test_draws_the_last_time_as_often_as_asked(self, share, expected):
        loss = PlacewiseDiffusionLoss(SCHEDULER, share)
        noise, timestep = loss.draw(torch.zeros(4000, 2, 3), generator(0))
        is_last = timestep == SCHEDULER.config.num_train_timesteps - 1
        assert is_last.float().mean().item() == pytest.approx(expected, abs=0.03)
        if share == 1:
            assert is_last.all()
        assert noise.shape == (4000, 2, 3)

    def test_at_the_last_time_the_target_is_the_residual(self):
        """There the sample is pure noise, and the best that a network can say is the mean: a regression."""
        residual, noise = torch.randn(2, 1, 3, 4, generator=generator(3))
        v = SCHEDULER.get_velocity(residual, noise, torch.tensor([999]))
        torch.testing.assert_close(v, -residual, atol=1e-3, rtol=1e-3)

    def test_errors_of_a_pair_count_sublinearly(self):
        weight = torch.ones(2, 1, 4)
        tiny = (BOUND / 1000) ** 0.5
        small, large = self.loss(tiny, weight), self.loss(3.0, weight)
        torch.testing.assert_close(small, torch.tensor(tiny**2), rtol=0.01, atol=0)
        torch.testing.assert_close(large, BOUND * torch.tensor(1 + 9 / BOUND).log())

    def test_an_error_in_air_counts_less(self):
        weight = torch.tensor([1.0, 1.0, 0.0, 0.0]).expand(2, 1, 4)
        in_patient, in_air = (torch.tensor(where).view(1, 1, 4) * 0.01 for where in ([1.0, 1, 0, 0], [0.0, 0, 1, 1]))
        ratio = self.loss(in_air, weight) / self.loss(in_patient, weight)
        assert ratio.item() == pytest.approx(AIR_WEIGHT, rel=0.01)
