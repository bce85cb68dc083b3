"""The denoiser that sees a reference: what counts for it and what does not."""

import pytest
import torch
from diffusionct_pipeline.models import ReferenceUNet1DModel
from diffusionct_pipeline.models.texture.channels import LatentChannels, patient_mean, patient_weight
from diffusionct_pipeline.models.texture.reference_unet_1d import matched_step, tokens_of
from helpers.tiny import LATENT_CHANNELS, RINGS, tiny_denoiser

MEAN, POWER = LatentChannels.mean, LatentChannels(RINGS).power

pytestmark = pytest.mark.usefixtures("no_gradients")


@pytest.fixture
def model():
    torch.manual_seed(0)
    return tiny_denoiser()


def noise(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def inputs(length=16, batch=2, tokens=7):
    """Noisy, timestep, Z_A, reference."""
    noisy, latent_a = (noise(seed, batch, LATENT_CHANNELS, length) for seed in (1, 2))
    return noisy, 400, latent_a, noise(3, batch, tokens, LATENT_CHANNELS)


class TestForward:
    @pytest.mark.parametrize(("length", "row"), [(1, 1), (2, 2), (9, 3), (15, 5), (15, 3), (35, 7), (16, None), (12, 1)])
    def test_any_length_of_any_rows(self, model, length, row):
        out = model(*inputs(length), row_length=row).sample
        assert out.shape == (2, LATENT_CHANNELS, length) and out.isfinite().all()

    def test_rows_must_fill_the_slice(self, model):
        with pytest.raises(ValueError, match="`row_length` is 5, but L is 16"):
            model(*inputs(16), row_length=5)

    @pytest.mark.parametrize("changed", range(4))
    def test_every_input_counts(self, model, changed):
        before = list(inputs())
        after = list(before)
        after[changed] = after[changed] + (1 if changed != 3 else noise(9, *before[3].shape))
        assert (model(*before).sample - model(*after).sample).abs().max() > 1e-4

    def test_the_order_of_the_tokens_does_not_count(self, model):
        noisy, timestep, latent_a, reference = inputs()
        out = model(noisy, timestep, latent_a, reference).sample
        flipped = model(noisy, timestep, latent_a, reference.flip(1)).sample
        torch.testing.assert_close(flipped, out, atol=1e-5, rtol=1e-4)

    def test_tokens_count_beyond_their_mean(self, model):
        noisy, timestep, latent_a, reference = inputs()
        mean = reference.mean(1, keepdim=True)
        wider = mean + 2 * (reference - mean)
        one, other = (model(noisy, timestep, latent_a, given).sample for given in (reference, wider))
        assert (one - other).abs().max() > 1e-4

    def test_slices_do_not_see_each_other(self, model):
        noisy, timestep, latent_a, reference = inputs()
        both = model(noisy, torch.tensor([timestep, 10]), latent_a, reference).sample
        alone = model(noisy[1:], 10, latent_a[1:], reference[1:]).sample
        torch.testing.assert_close(both[1:], alone, atol=1e-5, rtol=1e-4)

    def test_one_reference_serves_all_slices(self, model):
        noisy, timestep, latent_a, reference = inputs()
        once, twice = (model(noisy, timestep, latent_a, given).sample for given in (reference[:1], reference[[0, 0]]))
        torch.testing.assert_close(once, twice)

    def test_a_position_sees_those_above_and_below(self, model):
        """By convolutions whose taps are a row apart: without attention, the far rows are out of reach."""
        for name, weight in model.named_parameters():
            if name.endswith("attention_out.weight") or name.endswith("attention_out.bias"):
                weight.zero_()
        for module in model.modules():
            if isinstance(module, torch.nn.GroupNorm):  # which sees all positions
                module.forward = lambda hidden: hidden
        noisy, timestep, latent_a, reference = inputs(8 * 32, batch=1)
        touched = noisy.clone()
        touched[..., 16 * 8 + 4] += 1  # row 16
        before, after = (model(given, timestep, latent_a, reference, 8).sample for given in (noisy, touched))
        rows = (after - before).abs()[0].sum(0).view(32, 8).sum(1)
        assert rows[15] > 0 and rows[17] > 0 and rows[[0, 31]].max() == 0

    def test_a_tuple_when_asked(self, model):
        (out,) = model(*inputs(), return_dict=False)
        torch.testing.assert_close(out, model(*inputs()).sample)

    def test_untrained_it_adds_nothing(self):
        model = ReferenceUNet1DModel(RINGS, (8, 16), 1, 8, 4, standard_tokens=3, token_channels=8)
        assert model(*inputs()).sample.abs().max() == 0


class TestOrigin:
    def test_difference_and_latent_are_inverse(self, model):
        latent_b, _, latent_a, reference = inputs()
        latent_a[:, MEAN] = 0.4  # all tissue
        model.deviation.uniform_(0.2, 2, generator=torch.Generator().manual_seed(0))
        there = model.difference(latent_b, latent_a)
        torch.testing.assert_close(model.latent_of(there, latent_a), latent_b)
        there = model.difference(latent_b, latent_a, reference)
        back, weight = model.latent_of(there, latent_a, reference), patient_weight(latent_a)
        left = back - latent_b  # to a reference all but a part of the mean comes back
        torch.testing.assert_close(left, left[..., :1].expand_as(left))
        before, after = (patient_mean(latent - model.origin(latent_a, reference), latent_a) for latent in (latent_b, back))
        assert (after[:, POWER].abs() < before[:, POWER].abs()).all() and weight.max() > 0.5

    def test_to_a_reference_a_change_of_the_mean_alone_is_anatomy(self, model):
        _, _, latent_a, reference = inputs()
        latent_a[:, MEAN] = 0.4
        everywhere = torch.ones_like(latent_a)
        origin = model.origin(latent_a, reference)
        torch.testing.assert_close(model.latent_of(everywhere, latent_a, reference)[:, POWER], origin[:, POWER])
        uneven = everywhere + 20 * noise(4, *latent_a.shape)
        kept = model.latent_of(uneven, latent_a, reference) - origin
        torch.testing.assert_close(kept, uneven * model.deviation[:, None], atol=0.05, rtol=0.05)
        to_standard = model.latent_of(everywhere, latent_a) - model.origin(latent_a)
        torch.testing.assert_close(to_standard, everywhere * model.deviation[:, None])

    @pytest.mark.parametrize("to_standard", (True, False))
    def test_it_is_the_slice_moved_by_one_curve_of_power(self, model, to_standard):
        _, _, latent_a, reference = inputs()
        torch.nn.init.normal_(model.curve.change[-1].weight)  # zero at first
        moved = model.origin(latent_a, None if to_standard else reference) - latent_a
        torch.testing.assert_close(moved, moved[..., :1].expand_as(moved), atol=1e-5, rtol=1e-4)
        assert moved[:, POWER][:, -1].abs().min() > 0 and moved[:, :2].abs().max() == 0  # pixels and anatomy stay

    def test_where_noise_dominates_it_has_the_mean_of_the_reference(self, model):
        _, _, latent_a, reference = inputs()
        latent_a[:, MEAN], reference[..., MEAN] = 0.4, 0.4  # all tissue, so that all places are alike
        mean = patient_mean(model.origin(latent_a, reference))
        last = model.channels.total - 1
        assert model.noise_dominated[-1] == 1
        torch.testing.assert_close(mean[:, last], reference.mean(1)[:, last])


class TestMatchedStep:
    """Slice and reference of two tissues, one of them noisier, in different shares; the kernel adds 2 everywhere."""

    LIKENESS = {MEAN.start: 0.15}

    def places(self, quiet, noisy):
        """(quiet + noisy, C)"""
        places = torch.zeros(quiet + noisy, LATENT_CHANNELS)
        places[:, MEAN] = 0.2
        places[quiet:, MEAN] = 0.9
        places[quiet:, POWER] = 3.0
        return places

    def test_says_what_the_kernel_adds_whatever_the_anatomy(self):
        slice_, reference = self.places(30, 10), self.places(5, 25)
        reference[:, POWER] += 2
        step = matched_step(slice_.T[None], reference[None], self.LIKENESS)
        torch.testing.assert_close(step[:, POWER], torch.full((1, RINGS), 2.0), atol=0.02, rtol=0)
        assert reference.mean(0)[POWER][0] - slice_.mean(0)[POWER][0] > 3  # the plain difference of means is wrong

    def test_of_places_that_are_alike_nowhere_is_the_difference_of_the_means(self):
        slice_, reference = self.places(10, 0), self.places(0, 10)
        step = matched_step(slice_.T[None], reference[None], self.LIKENESS)
        torch.testing.assert_close(step[:, POWER], torch.full((1, RINGS), 3.0), atol=1e-3, rtol=0)


class TestKernelsOfAnyShape:
    def test_what_a_kernel_adds_to_the_power_changes_nothing_that_is_predicted(self, model):
        noisy, timestep, latent_a, reference = inputs()
        of_source, of_target = (torch.zeros(LATENT_CHANNELS) for _ in range(2))
        of_source[POWER], of_target[POWER] = noise(7, RINGS), noise(8, RINGS)
        before = model(noisy, timestep, latent_a, reference).sample
        after = model(noisy, timestep, latent_a + of_source[:, None], reference + of_target).sample
        torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-4)

    def test_the_standard_is_known_and_absolute_power_counts(self, model):
        noisy, timestep, latent_a, _ = inputs()
        louder = latent_a.clone()
        louder[:, POWER] += 1
        assert (model(noisy, timestep, louder).sample - model(noisy, timestep, latent_a).sample).abs().max() > 1e-4

    def test_in_training_some_of_a_batch_go_to_the_standard(self, model):
        noisy, timestep, latent_a, reference = inputs(tokens=len(model.standard))
        mixed = model(noisy, timestep, latent_a, reference, to_standard=torch.tensor([True, False])).sample
        torch.testing.assert_close(mixed[:1], model(noisy, timestep, latent_a).sample[:1], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(mixed[1:], model(noisy, timestep, latent_a, reference).sample[1:], atol=1e-5, rtol=1e-4)


class TestTokens:
    def latents(self):
        """Two slices of ten positions, the first six of which are tissue."""
        latents = noise(5, 2, LATENT_CHANNELS, 10)
        latents[:, MEAN, :6], latents[:, MEAN, 6:] = 0.4, -1.7
        return latents

    def test_leave_out_air(self):
        tokens = tokens_of(self.latents())
        assert tokens.shape == (1, 12, LATENT_CHANNELS) and (tokens[..., MEAN] > 0).all()

    def test_are_positions_of_every_slice(self):
        latents = self.latents()
        tokens = tokens_of(latents, 4)[0]
        positions = latents.transpose(1, 2).flatten(0, 1)
        found = (tokens[:, None] == positions).all(-1).int().argmax(1)
        assert len(tokens) == 4 and found.min() < 10 <= found.max()

    def test_of_air_alone_are_what_comes_closest(self):
        latents = noise(6, 1, LATENT_CHANNELS, 8)
        latents[:, MEAN] = torch.linspace(-2.4, -1.6, 8)
        tokens = tokens_of(latents, 3)[0]
        torch.testing.assert_close(tokens[:, MEAN][:, 0], latents[0, MEAN, -3:][0])

    def test_weight_and_mean_of_the_patient(self):
        latents = self.latents()
        weight = patient_weight(latents)
        assert weight.shape == (2, 1, 10) and weight[..., :6].min() > 0.99 and weight[..., 6:].max() < 0.02
        torch.testing.assert_close(patient_mean(latents), latents[..., :6].mean(-1), atol=0.05, rtol=0.05)
