"""How much of a texture is new."""

import math

import pytest
import torch

from diffusionct_pipeline.models.texture.coherence import (
    IncoherentPowerFraction,
    coherence_of,
    incoherence_loss,
    incoherent_fraction_floor,
)

RINGS = 5


def noise(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = IncoherentPowerFraction(RINGS, hidden=16, blocks=1)
    torch.nn.init.normal_(model.last.weight, std=0.3)  # zero at first
    return model.requires_grad_(False)


class TestIncoherentShare:
    def test_is_0_where_nothing_changes_and_a_share_elsewhere(self, model):
        latent_a, change = noise(1, 1, RINGS + 2, 3, 4), torch.ones(1, RINGS, 3, 4)
        change[..., 0] = 0
        share = model(latent_a, change)
        assert share.shape == (1, RINGS, 3, 4)
        assert (share[..., 0] == 0).all() and (share[..., 1:] > 0).all() and (share < 1).all()

    def test_depends_on_slice_and_change_and_grows_from_nothing_without_a_jump(self, model):
        latent_a, change = noise(1, 1, RINGS + 2, 3, 4), noise(2, 1, RINGS, 3, 4)
        share = model(latent_a, change)
        assert (model(latent_a + 1, change) - share).abs().max() > 1e-3
        assert (model(latent_a, 2 * change) - share).abs().max() > 1e-3
        sizes = [model(latent_a, size * change.sign()).mean().item() for size in (0.0, 0.01, 0.03, 0.1, 0.3)]
        assert sizes == sorted(sizes) and sizes[0] == 0 and sizes[1] < 0.01 < sizes[-1]

    def test_an_untrained_one_takes_a_fifth_for_new(self):
        share = IncoherentPowerFraction(RINGS, 16, 1)(noise(1, 1, RINGS + 2, 3, 3), torch.full((1, RINGS, 3, 3), 2.0))
        torch.testing.assert_close(share, torch.full_like(share, 0.18), atol=0.01, rtol=0)

    def test_slices_do_not_see_each_other(self, model):
        latent_a, change = noise(1, 2, RINGS + 2, 3, 3), noise(2, 2, RINGS, 3, 3)
        torch.testing.assert_close(model(latent_a[1:], change[1:]), model(latent_a, change)[1:])


class TestCoherenceOf:
    def test_is_the_inverse_of_goodmans_mean(self):
        c = torch.linspace(0, 0.95, 20, dtype=torch.float64)
        term, series = torch.ones_like(c), torch.ones_like(c)
        for n in range(400):
            term = term * (n + 0.5) ** 2 / ((n + 1) * (n + 2)) * c**2
            series = series + term
        mean = (math.pi / 4 * c * series).float()
        torch.testing.assert_close(coherence_of(mean), c.float(), atol=2e-3, rtol=0)
        torch.testing.assert_close(coherence_of(-mean), -c.float(), atol=2e-3, rtol=0)

    def test_ends_and_shape(self):
        ends = coherence_of(torch.tensor([[-1.0, 0.0, 1.0]]))
        torch.testing.assert_close(ends, torch.tensor([[-1.0, 0.0, 1.0]]))
        assert coherence_of(torch.zeros(2, 3, 4).half()).shape == (2, 3, 4)


class TestIncoherenceLoss:
    @pytest.mark.parametrize("coherence", [0.1, 0.5, 0.8, 0.97])
    def test_its_minimum_lies_at_1_minus_c_squared(self, coherence):
        shares = torch.linspace(0.01, 0.995, 986)
        measured, weight = torch.full((1, 1, 1, 1), coherence), torch.ones(1, 1, 1, 1)
        losses = [incoherence_loss(share.expand_as(measured), measured, weight) for share in shares]
        assert shares[torch.stack(losses).argmin()].item() == pytest.approx(1 - coherence**2, abs=2e-3)

    def test_of_scattered_coherences_it_lies_at_their_mean(self):
        """Single windows scatter; the loss is linear in what was measured."""
        measured = 0.7 + 0.2 * noise(3, 1, 1, 40, 40)
        measured = measured - measured.mean() + 0.7
        shares = torch.linspace(0.05, 0.95, 181)
        losses = [incoherence_loss(u.expand_as(measured), measured, torch.ones(1, 1, 40, 40)) for u in shares]
        assert shares[torch.stack(losses).argmin()].item() == pytest.approx(1 - 0.49, abs=6e-3)

    def test_positions_without_weight_do_not_count(self):
        share, coherence = torch.rand(1, 2, 1, 2), torch.rand(1, 2, 1, 2)
        weight = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
        alone = incoherence_loss(share[..., :1], coherence[..., :1], weight[..., :1])
        torch.testing.assert_close(incoherence_loss(share, coherence, weight), alone)

    def test_the_ends_are_finite(self):
        share = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2).requires_grad_()
        loss = incoherence_loss(share, torch.tensor([1.0, -1.0]).view(1, 1, 1, 2), torch.ones(1, 1, 1, 2))
        assert loss.isfinite() and torch.autograd.grad(loss, share)[0].isfinite().all()


class TestLeastIncoherentShare:
    """Quantile .1, margin .3."""

    def least(self, change, inside=None):
        inside = torch.ones(len(change), 1, *change.shape[2:], dtype=torch.bool) if inside is None else inside
        return incoherent_fraction_floor(change, inside, 0.1, 0.3)

    def test_one_gain_for_the_slice_needs_nothing_new_however_large(self):
        for gain in (-3.0, 0.0, 4.0):
            change = torch.full((1, RINGS, 8, 8), gain) + 0.05 * noise(0, 1, RINGS, 8, 8)
            assert self.least(change).max() == 0

    def test_where_more_is_missing_than_the_least_changed_places_lack_it_is_new(self):
        change = torch.full((1, RINGS, 10, 10), 1.0)
        change[..., 2:, :] = 3.0
        share = self.least(change)
        assert share[..., :2, :].max() == 0
        kept = (1 - share[..., 2:, :]) * math.exp(3.0)  # power gain of what is kept
        torch.testing.assert_close(kept, torch.full_like(kept, math.exp(1.3)))

    def test_air_has_no_say_and_is_bounded_too(self):
        change, inside = torch.full((1, RINGS, 8, 8), 2.0), torch.ones(1, 1, 8, 8, dtype=torch.bool)
        change[..., 4:, :], inside[..., 4:, :] = -5.0, False
        assert self.least(change, inside).max() == 0
        change[..., 4:, :] = 5.0
        assert self.least(change, inside)[..., 4:, :].min() > 0.9

    def test_slices_of_a_batch_have_bounds_of_their_own(self):
        change = torch.stack([torch.full((RINGS, 8, 8), gain) for gain in (0.0, 4.0)])
        assert self.least(change).max() == 0

    def test_without_a_patient_there_is_no_bound(self):
        change = 3 * noise(0, 1, RINGS, 8, 8)
        assert self.least(change, torch.zeros(1, 1, 8, 8, dtype=torch.bool)).max() == 0
