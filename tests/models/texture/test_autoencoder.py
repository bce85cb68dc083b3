"""What the autoencoder of textures keeps and what it changes, whatever its weights."""

import pytest
import torch
from helpers.tiny import LATENT_CHANNELS, tiny_autoencoder

from diffusionct_pipeline.models import TextureAutoencoder

SPACING = torch.tensor([0.6, 0.8])

pytestmark = pytest.mark.usefixtures("no_gradients")


@pytest.fixture
def model():
    torch.manual_seed(0)
    return tiny_autoencoder()


def noise(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def disc(size=128):
    """Soft tissue in air, noisy."""
    axis = torch.linspace(-1, 1, size)
    inside = ((axis[:, None] ** 2 + axis[None] ** 2) < 0.5).float()
    return (2 * inside - 1.7 + 0.1 * noise(2, size, size))[None, None]


class TestShapes:
    @pytest.mark.parametrize("size", [(32, 32), (64, 160), (160, 32)])
    def test_any_multiple_of_32(self, model, size):
        sample = noise(1, 1, 1, *size)
        latent, skips = model.encode(sample, SPACING[:1])
        assert latent.shape == (1, LATENT_CHANNELS, size[0] * size[1] // 1024)
        drawn = model.decode(latent + 1, skips, noise(2, *sample.shape))
        assert drawn.shape == sample.shape and drawn.isfinite().all()

    @pytest.mark.parametrize("size", [(64, 65), (48, 64)])
    def test_other_sizes_are_refused(self, model, size):
        with pytest.raises(ValueError, match="multiples of 32"):
            model.encode(torch.zeros(1, 1, *size), SPACING[:1])

    def test_slices_of_other_pixels_in_a_batch_do_not_see_each_other(self, model):
        sample, fresh, change = noise(1, 2, 1, 64, 96), noise(2, 2, 1, 64, 96), noise(3, 2, LATENT_CHANNELS, 6)
        latent, skips = model.encode(sample, SPACING)
        together = model.decode(latent + change, skips, fresh)
        for i in range(2):
            one = slice(i, i + 1)
            alone, its_skips = model.encode(sample[one], SPACING[one])
            torch.testing.assert_close(alone, latent[one], atol=1e-4, rtol=1e-4)
            drawn = model.decode(alone + change[one], its_skips, fresh[one])
            torch.testing.assert_close(drawn, together[one], atol=1e-3, rtol=1e-3)


class TestDecode:
    @pytest.mark.parametrize("size", [(32, 32), (64, 160), (128, 128)])
    def test_the_own_latent_gives_the_slice_back(self, model, size):
        sample = noise(1, 1, 1, *size)
        latent, skips = model.encode(sample, SPACING[:1])
        torch.testing.assert_close(model.decode(latent, skips, noise(2, *sample.shape)), sample, atol=1e-4, rtol=0)

    def test_only_the_power_of_the_latent_counts(self, model):
        sample, fresh = noise(1, 1, 1, 64, 64), noise(2, 1, 1, 64, 64)
        latent, skips = model.encode(sample, SPACING[:1])
        latent[:, model.channels.power] += 0.5
        other = latent.clone()
        other[:, model.channels.spacing], other[:, model.channels.mean] = 3.0, -3.0
        torch.testing.assert_close(model.decode(other, skips, fresh), model.decode(latent, skips, fresh))

    @pytest.mark.parametrize("seed", range(3))
    def test_slow_content_and_mean_are_kept_whatever_the_latent(self, model, seed):
        sample = disc()
        latent, skips = model.encode(sample, SPACING[:1])
        change = noise(seed, *latent.shape)
        drawn = model.decode(latent + change, skips, noise(9, *sample.shape))
        difference = drawn - sample
        assert difference.abs().max() > 0.05  # it does something
        assert difference.mean().abs() < 2e-3  # 1 HU
        blocks = torch.nn.functional.avg_pool2d(difference, 64)  # 38 mm, .13 lp/cm
        assert blocks.abs().max() < 0.02

    def test_the_noise_counts_where_something_is_new_only(self, model):
        sample = noise(1, 1, 1, 64, 64)
        latent, skips = model.encode(sample, SPACING[:1])
        one, other = (model.decode(latent + 0.5, skips, noise(seed, *sample.shape)) for seed in (2, 3))
        assert (one - other).abs().max() > 0.1
        model.incoherent_share.last.bias.fill_(-30.0)
        model.incoherent_share.last.weight.zero_()
        one, other = (model.decode(latent + 0.5, skips, noise(seed, *sample.shape)) for seed in (2, 3))
        torch.testing.assert_close(one, other, atol=1e-4, rtol=0)

    def test_the_latent_of_another_kernel_gives_its_power(self):
        """Whatever the share of it that is new; here the untrained one."""
        model = TextureAutoencoder().eval()
        white = noise(5, 1, 1, 256, 256)
        spacing = SPACING[:1]
        lp_cm = torch.fft.fftfreq(256)[:, None] ** 2 + torch.fft.rfftfreq(256)[None] ** 2
        lp_cm = lp_cm.sqrt() / spacing.item() * 10
        soft, sharp = (
            0.1 * torch.fft.irfft2(torch.fft.rfft2(white) * torch.exp(-((lp_cm / cutoff) ** 2)))
            for cutoff in (5.0, 9.0)
        )
        latent_a, skips = model.encode(soft, spacing)
        latent_b, _ = model.encode(sharp, spacing)
        drawn, _ = model.encode(model.decode(latent_b, skips, noise(6, 1, 1, 256, 256)), spacing)
        rings = slice(2 + 6, 2 + 15)  # 3 to 7 lp/cm
        before, after = ((latent - latent_b)[:, rings].mean(2) for latent in (latent_a, drawn))
        assert before.abs().mean() > 1 and after.abs().max() < 0.1

    def test_a_scan_is_encoded_and_decoded_in_float32_under_autocast(self, model):
        sample, fresh = noise(1, 1, 1, 64, 64), noise(2, 1, 1, 64, 64)
        latent, skips = model.encode(sample, SPACING[:1])
        exact = model.decode(latent + 0.5, skips, fresh)
        with torch.autocast("cpu", torch.bfloat16):
            again, skips = model.encode(sample, SPACING[:1])
            torch.testing.assert_close(again, latent)
            torch.testing.assert_close(model.decode(again + 0.5, skips, fresh), exact, atol=1e-4, rtol=0)


class TestLatent:
    def test_channels_have_their_names(self, model):
        latent, _ = model.encode(torch.full((1, 1, 64, 64), 0.4) + 0.01 * noise(1, 1, 1, 64, 64), torch.tensor([0.7]))
        channels = model.channels
        torch.testing.assert_close(latent[:, channels.spacing], torch.zeros(1, 1, 4))  # the typical spacing
        torch.testing.assert_close(latent[:, channels.mean], torch.full((1, 1, 4), 0.4), atol=0.01, rtol=0)
        assert latent[:, channels.power].shape[1] == channels.rings == channels.total - 2 == LATENT_CHANNELS - 2

    def test_normalize_and_back(self, model):
        latent = noise(1, 2, LATENT_CHANNELS, 6)
        torch.testing.assert_close(model.denormalize(model.normalize(latent)), latent)
