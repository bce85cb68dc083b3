"""The denoiser that sees the target's texture: what counts for it and what does not."""

import pytest
import torch
from helpers.tiny import LATENT_CHANNELS, RINGS, tiny_denoiser

from diffusionct_pipeline.models import ReferenceUNet1DModel
from diffusionct_pipeline.models.texture.channels import LatentChannels, patient_mean

MEAN, POWER = LatentChannels.mean, LatentChannels(RINGS).power

pytestmark = pytest.mark.usefixtures("no_gradients")


@pytest.fixture
def model():
    torch.manual_seed(0)
    return tiny_denoiser()


def noise(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def inputs(length=16, batch=2, tokens=7):
    """Noisy residual, timestep, Z_A, tokens of the target, shift, whitening, tails."""
    noisy, latent_a = (noise(seed, batch, LATENT_CHANNELS, length) for seed in (1, 2))
    tokens, shift, whitening = noise(3, batch, tokens, LATENT_CHANNELS), noise(4, batch, RINGS), noise(5, batch, RINGS)
    return noisy, 400, latent_a, tokens, shift, whitening, noise(6, batch, 3)


def calibrated(model, shift, residual, weight):
    """The same network, calibrated by constants over frequency."""
    config = {key: value for key, value in model.config.items() if not key.startswith("_")}
    constants = {"calibrated_shift": shift, "calibrated_residual": residual, "calibrated_weight": weight}
    other = ReferenceUNet1DModel(**config | {name: (value,) * RINGS for name, value in constants.items()})
    other.load_state_dict(model.state_dict())
    return other.eval()


class TestForward:
    @pytest.mark.parametrize(
        ("length", "row"), [(1, 1), (2, 2), (9, 3), (15, 5), (15, 3), (35, 7), (16, None), (12, 1)]
    )
    def test_any_length_of_any_rows(self, model, length, row):
        out = model(*inputs(length), row_length=row).sample
        assert out.shape == (2, LATENT_CHANNELS, length) and out.isfinite().all()

    def test_rows_must_fill_the_slice(self, model):
        with pytest.raises(ValueError, match="`row_length` must divide L = 16, got 5"):
            model(*inputs(16), row_length=5)

    @pytest.mark.parametrize("changed", range(6))
    def test_every_input_counts(self, model, changed):
        before = list(inputs())
        after = list(before)
        after[changed] = after[changed] + (1 if changed == 1 else noise(9, *before[changed].shape))
        assert (model(*before).sample - model(*after).sample).abs().max() > 1e-4

    def test_the_order_of_the_tokens_does_not_count(self, model):
        noisy, timestep, latent_a, tokens, *rest = inputs()
        out = model(noisy, timestep, latent_a, tokens, *rest).sample
        flipped = model(noisy, timestep, latent_a, tokens.flip(1), *rest).sample
        torch.testing.assert_close(flipped, out, atol=1e-5, rtol=1e-4)

    def test_tokens_count_beyond_their_mean(self, model):
        noisy, timestep, latent_a, tokens, *rest = inputs()
        mean = tokens.mean(1, keepdim=True)
        wider = mean + 2 * (tokens - mean)
        one, other = (model(noisy, timestep, latent_a, given, *rest).sample for given in (tokens, wider))
        assert (one - other).abs().max() > 1e-4

    def test_slices_do_not_see_each_other(self, model):
        noisy, timestep, *condition = inputs()
        both = model(noisy, torch.tensor([timestep, 10]), *condition).sample
        alone = model(noisy[1:], 10, *(each[1:] for each in condition)).sample
        torch.testing.assert_close(both[1:], alone, atol=1e-5, rtol=1e-4)

    def test_one_target_serves_all_slices(self, model):
        noisy, timestep, latent_a, tokens, shift, *rest = inputs()
        once = model(noisy, timestep, latent_a, tokens[:1], shift[:1], *rest).sample
        twice = model(noisy, timestep, latent_a, tokens[[0, 0]], shift[[0, 0]], *rest).sample
        torch.testing.assert_close(once, twice)

    def test_a_position_sees_those_above_and_below(self, model):
        """By convolutions whose taps are a row apart: without attention, the far rows are out of reach."""
        for name, weight in model.named_parameters():
            if name.endswith("attention_out.weight") or name.endswith("attention_out.bias"):
                weight.zero_()
        for module in model.modules():
            if isinstance(module, torch.nn.GroupNorm):  # which sees all positions
                module.forward = lambda hidden: hidden
        noisy, *rest = inputs(8 * 32, batch=1)
        touched = noisy.clone()
        touched[..., 16 * 8 + 4] += 1  # row 16
        before, after = (model(given, *rest, row_length=8).sample for given in (noisy, touched))
        rows = (after - before).abs()[0].sum(0).view(32, 8).sum(1)
        assert rows[15] > 0 and rows[17] > 0 and rows[[0, 31]].max() == 0

    def test_a_tuple_when_asked(self, model):
        (out,) = model(*inputs(), return_dict=False)
        torch.testing.assert_close(out, model(*inputs()).sample)

    def test_untrained_it_adds_nothing(self):
        model = ReferenceUNet1DModel(RINGS, (8, 16), 1, 8, 4, standard_tokens=3, token_channels=8)
        assert model(*inputs()).sample.abs().max() == 0


class TestKernelsOfAnyShape:
    def test_what_kernel_and_dose_add_to_the_power_changes_nothing_that_is_predicted(self, model):
        """But through shift and whitening, which say it."""
        noisy, timestep, latent_a, tokens, *rest = inputs()
        of_source, of_target = (torch.zeros(LATENT_CHANNELS) for _ in range(2))
        of_source[POWER], of_target[POWER] = noise(7, RINGS), noise(8, RINGS)
        before = model(noisy, timestep, latent_a, tokens, *rest).sample
        after = model(noisy, timestep, latent_a + of_source[:, None], tokens + of_target, *rest).sample
        torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-4)

    def test_local_mean_and_spacing_are_no_power(self, model):
        noisy, timestep, latent_a, *rest = inputs()
        for channel in range(POWER.start):
            other = latent_a.clone()
            other[:, channel] += 1
            assert (
                model(noisy, timestep, other, *rest).sample - model(noisy, timestep, latent_a, *rest).sample
            ).abs().max() > 1e-4


class TestResidual:
    @pytest.fixture
    def tissue(self):
        """Z_A of tissue everywhere."""
        _, _, latent_a, *_ = inputs(64)
        latent_a[:, MEAN] = 0.4
        return latent_a

    def test_the_baseline_is_the_slice_moved_by_one_curve_of_power(self, model, tissue):
        shift = noise(4, 1, RINGS)
        moved = model.baseline(tissue, shift) - tissue
        torch.testing.assert_close(moved[:, POWER], shift[..., None].expand(2, RINGS, 64))
        assert moved[:, : POWER.start].abs().max() == 0  # pixels and anatomy stay

    def test_there_and_back_all_but_the_mean_which_is_that_of_the_shift(self, model, tissue):
        latent_b, shift = noise(1, 2, LATENT_CHANNELS, 64), noise(4, 2, RINGS)
        model.deviation.uniform_(0.2, 2, generator=torch.Generator().manual_seed(0))
        back = model.from_residual(model.to_residual(latent_b, tissue, shift), tissue, shift)
        difference = back - latent_b
        torch.testing.assert_close(difference, difference[..., :1].expand_as(difference), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(back[:, : POWER.start], latent_b[:, : POWER.start], atol=1e-5, rtol=1e-4)
        mean = patient_mean(back - model.baseline(tissue, shift), weighted_by=tissue)[:, POWER]
        assert mean.abs().max() < 1e-5

    def test_what_is_sampled_is_followed_as_far_as_the_scan_was_smoothed(self, model, tissue):
        shift, residual = noise(4, 1, RINGS), noise(5, *tissue.shape)
        all_of_it, half, none = (
            model.from_residual(residual, tissue, shift, smoothed=share) for share in (1.0, 0.5, 0.0)
        )
        torch.testing.assert_close(none[:, POWER], model.baseline(tissue, shift)[:, POWER])
        torch.testing.assert_close((half - none)[:, POWER], (all_of_it - none)[:, POWER] / 2)


class TestCalibrated:
    @pytest.fixture
    def tissue(self):
        latent_a = noise(0, 2, LATENT_CHANNELS, 9)
        latent_a[:, MEAN] = 0.4
        return latent_a

    def test_without_pairs_nothing_is(self, model):
        assert not model.is_calibrated and calibrated(model, 0.0, 0.0, 1.0).is_calibrated

    def test_of_a_plain_scan_nothing_is_left_but_the_shift_of_the_pairs(self, model, tissue):
        other, shift = calibrated(model, 0.5, -3.0, 0.25), torch.full((1, RINGS), 0.5)
        change = (other.from_residual(torch.ones_like(tissue), tissue, shift, smoothed=0.0) - tissue)[:, POWER]
        torch.testing.assert_close(change, torch.full_like(change, 0.5))

    def test_place_by_place_a_share_is_believed(self, model, tissue):
        other, shift = calibrated(model, 0.0, 0.0, 0.25), torch.zeros(1, RINGS)
        uneven = torch.linspace(-1, 1, 9).expand_as(tissue)  # of mean 0
        change = (other.from_residual(uneven, tissue, shift) - tissue)[:, POWER]
        torch.testing.assert_close(change, (0.25 * uneven * other.deviation[:, None])[:, POWER], atol=1e-4, rtol=1e-3)

    def test_a_slice_that_is_smoothed_more_than_the_pairs_changes_by_what_differs_from_them(self, model, tissue):
        other, shift = calibrated(model, 0.5, 1.0, 1.0), torch.full((1, RINGS), 0.5)
        uneven = (5.0 * torch.linspace(-1, 1, 9).expand_as(tissue) + 3.0) / other.deviation[:, None]
        mean = (other.from_residual(uneven, tissue, shift) - tissue)[:, POWER].mean(2)
        torch.testing.assert_close(mean, torch.full_like(mean, 0.5 + (3.0 - 1.0)), atol=0.02, rtol=0.02)

    def test_it_is_part_of_the_checkpoint(self, model, tmp_path):
        calibrated(model, 0.5, 1.0, 0.25).save_pretrained(tmp_path)
        loaded = ReferenceUNet1DModel.from_pretrained(tmp_path)
        torch.testing.assert_close(
            loaded.calibration, torch.tensor([0.5, 1.0, 0.25])[:, None, None].expand(3, RINGS, 1)
        )
