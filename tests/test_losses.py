import torch
from diffusionct_pipeline.losses import LocalSpectrumLoss, diffusion_loss, reconstruction_loss


def noise(seed, scale=1.0):
    return scale * torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(seed))


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
        assert reconstruction_loss(blurred, target) < reconstruction_loss(fresh, target)
        assert LocalSpectrumLoss()(fresh, target) < LocalSpectrumLoss()(blurred, target)


class TestReconstructionLoss:
    def test_is_the_mean_squared_error(self):
        torch.testing.assert_close(reconstruction_loss(noise(0), noise(1)), (noise(0) - noise(1)).square().mean())

    def test_limit_leaves_small_errors_and_bounds_the_pull_of_large_ones(self):
        small, large = 0.01 * noise(1), 10 * noise(1)
        nothing = torch.zeros_like(small)
        torch.testing.assert_close(
            reconstruction_loss(small, nothing, limit=1.0), reconstruction_loss(small, nothing), rtol=1e-3, atol=0
        )
        large.requires_grad_()
        pulls = [torch.autograd.grad(reconstruction_loss(large, nothing, limit), large)[0].norm() for limit in (1.0, None)]
        assert pulls[0] < 0.02 * pulls[1]


def test_diffusion_loss_is_l2_plus_weighted_l1():
    prediction, target = torch.zeros(1, 2, 3), torch.full((1, 2, 3), 2.0)
    assert diffusion_loss(prediction, target, 0.5).item() == 4 + 0.5 * 2
