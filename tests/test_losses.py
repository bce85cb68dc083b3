import pytest
import torch
from diffusers import DDPMScheduler
from diffusionct_pipeline.losses import (
    RECONSTRUCTION_LOSSES,
    BoundedSquaredError,
    DiffusionLoss,
    LocalSpectrumLoss,
    Reconstruction,
    SquaredError,
    WeightedLosses,
)
from torch import nn


def noise(seed, scale=1.0):
    return scale * torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(seed))


def made(drawn, target, filtered=None):
    return Reconstruction(drawn, target, latent=torch.ones(2, 4, 6), filtered=filtered)


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

    def test_the_bound_leaves_small_errors_and_limits_the_pull_of_large_ones(self):
        small, large = 0.001 * noise(1), noise(1)
        nothing, losses = torch.zeros_like(small), (BoundedSquaredError(), SquaredError())
        bounded, plain = (loss(made(small, nothing)) for loss in losses)
        torch.testing.assert_close(bounded, plain, rtol=1e-3, atol=0)
        large.requires_grad_()
        bounded, plain = (torch.autograd.grad(loss(made(large, nothing)), large)[0].norm() for loss in losses)
        assert bounded < 0.02 * plain


class TestWeightedLosses:
    def test_every_loss_is_zero_or_more_and_has_a_gradient(self):
        drawn = noise(1).requires_grad_()
        losses = WeightedLosses(dict.fromkeys(RECONSTRUCTION_LOSSES, 1.0))(made(drawn, noise(0), drawn / 2))
        assert losses.keys() == {*RECONSTRUCTION_LOSSES, "loss"}
        assert all(loss.ndim == 0 and loss >= 0 for loss in losses.values())
        assert torch.autograd.grad(losses["loss"], drawn)[0].abs().sum() > 0

    def test_are_weighted_and_0_only_logs(self):
        losses = WeightedLosses({"l2": 2.0, "latent": 0.0})(made(noise(0), noise(1)))
        assert losses["latent"] == 1
        torch.testing.assert_close(losses["loss"], 2 * losses["l2"])

    @pytest.mark.parametrize("weights", [{"l3": 1.0}, {}])
    def test_unknown_names_are_refused(self, weights):
        with pytest.raises(ValueError, match="legal are l2"):
            WeightedLosses(weights)


class Fixed(nn.Module):
    """A denoiser that predicts the same whatever it is given."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, sample, timestep, latent_a, condition=None):
        self.given = sample, timestep, latent_a, condition
        return type("Output", (), {"sample": torch.full_like(sample, self.value)})


class TestDiffusionLoss:
    def test_is_l2_plus_weighted_l1_of_what_the_scheduler_asks_for(self):
        latent_b = torch.full((1, 2, 3), 2.0)
        loss = DiffusionLoss(DDPMScheduler(prediction_type="sample"), l1_weight=0.5)
        noise, timestep = loss.draw(latent_b, torch.Generator().manual_seed(0))
        assert loss(Fixed(0.0), latent_b, latent_b, None, noise, timestep).item() == pytest.approx(4 + 0.5 * 2)

    @pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
    def test_a_right_prediction_costs_nothing(self, prediction_type):
        scheduler = DDPMScheduler(prediction_type=prediction_type)
        latent_b, noise = torch.zeros(4, 2, 3), torch.zeros(4, 2, 3)
        timestep = torch.arange(4)
        assert DiffusionLoss(scheduler, 1.0)(Fixed(0.0), latent_b, latent_b, None, noise, timestep) == 0

    def test_several_draws_see_the_same_pair_at_other_times(self):
        denoiser, loss = Fixed(0.0), DiffusionLoss(DDPMScheduler(), 0.1, draws=3)
        latent_a, latent_b, condition = torch.randn(2, 4, 5), torch.randn(2, 4, 5), torch.randn(2, 4)
        noise, timestep = loss.draw(latent_b, torch.Generator().manual_seed(0))
        loss(denoiser, latent_a, latent_b, condition, noise, timestep)
        z_t, seen_at, seen_a, seen_condition = denoiser.given
        assert len(z_t) == len(seen_at) == len(seen_a) == len(seen_condition) == 6
        assert torch.equal(seen_a[0], seen_a[2]) and torch.equal(seen_condition[3], seen_condition[5])
        assert len(set(seen_at.tolist())) > 1
