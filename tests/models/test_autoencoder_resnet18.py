import pytest
import torch

from diffusionct_pipeline.models import AutoencoderResNet18

TINY = {
    "latent_channels": 8,
    "block_out_channels": (8, 8, 8, 8, 16),
    "layers_per_block": 1,
    "decoder_channels": (8,) * 5,
}

pytestmark = pytest.mark.usefixtures("no_gradients")


@pytest.fixture
def slices():
    return torch.randn(2, 1, 64, 96, generator=torch.Generator().manual_seed(1))


def autoencoder(**options):
    torch.manual_seed(0)
    return AutoencoderResNet18(**TINY, **options).eval()


@pytest.mark.parametrize("skip_mode", ["all", "none"])
class TestShapes:
    @pytest.mark.parametrize("size", [(32, 32), (64, 96), (160, 32)])
    def test_any_multiple_of_32(self, skip_mode, size):
        model, sample = autoencoder(skip_mode=skip_mode), torch.randn(1, 1, *size)
        latent, skips = model.encode(sample)
        assert latent.shape == (1, 8, size[0] * size[1] // 1024)
        assert model.decode(latent, skips).shape == sample.shape

    def test_slices_do_not_see_each_other(self, skip_mode, slices):
        model = autoencoder(skip_mode=skip_mode)
        both = model.decode(*model.encode(slices))
        torch.testing.assert_close(both[1:], model.decode(*model.encode(slices[1:])), atol=1e-4, rtol=1e-4)


def test_other_sizes_are_refused():
    with pytest.raises(ValueError, match="multiples of 32"):
        autoencoder().encode(torch.zeros(1, 1, 64, 65))


def test_without_skips_only_the_latent_speaks(slices):
    model = autoencoder(skip_mode="none")
    latent, skips = model.encode(slices)
    other_latent, other_skips = model.encode(slices.flip(0))
    drawn = model.decode(latent, skips)
    torch.testing.assert_close(model.decode(latent, other_skips), drawn)
    assert (model.decode(other_latent, skips) - drawn).abs().max() > 0


def test_with_skips_they_speak_too(slices):
    model = autoencoder()
    latent, skips = model.encode(slices)
    _, other_skips = model.encode(slices.flip(0))
    assert (model.decode(latent, other_skips) - model.decode(latent, skips)).abs().max() > 1e-3


def test_the_pixel_size_is_not_looked_at(slices):
    model = autoencoder()
    torch.testing.assert_close(model.encode(slices, torch.tensor([0.5, 0.9]))[0], model.encode(slices)[0])


def test_normalize_and_back():
    model = autoencoder()
    model.latent_mean.normal_()
    model.latent_std.uniform_(0.5, 2)
    latent = torch.randn(2, 8, 5)
    torch.testing.assert_close(model.denormalize(model.normalize(latent)), latent)
    style = latent[..., 0]
    torch.testing.assert_close(model.normalize(style), model.normalize(latent)[..., 0])


def test_default_encoder_is_resnet18():
    model = AutoencoderResNet18()
    assert sum(p.numel() for p in model.encoder.parameters()) == pytest.approx(11.17e6, rel=1e-3)


def test_unknown_skip_mode_is_refused():
    with pytest.raises(ValueError, match="'some'"):
        AutoencoderResNet18(skip_mode="some")
