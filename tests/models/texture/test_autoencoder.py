import pytest
import torch
from diffusionct_pipeline.models import StyleAutoencoder
from diffusionct_pipeline.models.style.frequency import radial_frequency
from diffusionct_pipeline.models.style.local_spectrum import LocalSpectrum

SIZES = {"block_out_channels": (8, 8, 8, 8, 16), "layers_per_block": 1, "decoder_channels": (8,) * 5}
TINY = {"latent_channels": 8, "rings": 6, **SIZES}


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = StyleAutoencoder(**TINY).eval()
    for parameter in model.tail.parameters():  # zero at first, so that training starts from the filter
        torch.nn.init.normal_(parameter, std=0.1)
    return model


@pytest.fixture
def slices():
    return torch.randn(2, 1, 64, 96, generator=torch.Generator().manual_seed(1))


SPACING = torch.tensor([0.6, 0.8])


class TestShapes:
    @pytest.mark.parametrize("size", [(32, 32), (64, 96), (160, 32)])
    def test_any_multiple_of_32(self, model, size):
        sample = torch.randn(1, 1, *size)
        latent, skips = model.encode(sample, SPACING[:1])
        assert latent.shape == (1, 8, size[0] * size[1] // 1024)
        assert model.decode(latent, skips).shape == sample.shape

    def test_other_sizes_are_refused(self, model):
        with pytest.raises(ValueError, match="multiples of 32"):
            model.encode(torch.zeros(1, 1, 64, 65), SPACING[:1])

    def test_slices_do_not_see_each_other(self, model, slices):
        both = model.decode(*model.encode(slices, SPACING))
        alone = model.decode(*model.encode(slices[1:], SPACING[1:]))
        torch.testing.assert_close(both[1:], alone, atol=1e-4, rtol=1e-4)


class TestStyle:
    def test_same_style_gives_gain_one(self, model, slices):
        style = model.pool(model.encode(slices, SPACING)[0])
        torch.testing.assert_close(model.filter.log_gain(style, style), torch.zeros(2, model.filter.knots))

    def test_filter_of_the_same_style_is_the_identity(self, model, slices):
        style = model.pool(model.encode(slices, SPACING)[0])
        torch.testing.assert_close(model.filter(slices, style, style, SPACING)[0], slices, atol=1e-5, rtol=1e-4)

    def test_mean_hu_of_a_slice_is_kept_whatever_the_style(self, model):
        y, x = torch.meshgrid(torch.linspace(-1, 1, 128), torch.linspace(-1, 1, 128), indexing="ij")
        disc = ((x**2 + y**2) < 0.5).float()[None, None] * 2 - 1.5
        noisy = disc + 0.1 * torch.randn(disc.shape, generator=torch.Generator().manual_seed(2))
        _, skips = model.encode(noisy, SPACING[:1])
        other = 0.3 * torch.randn(1, 8, 16, generator=torch.Generator().manual_seed(3))
        drawn = model.decode(other, skips)
        assert (drawn - noisy).abs().max() > 1e-2  # it does something
        assert abs((drawn - noisy).mean().item()) < 1e-2

    def test_pooling_is_a_mean_of_its_positions(self, model):
        latent = torch.randn(1, 8, 1).expand(1, 8, 20)
        torch.testing.assert_close(model.pool(latent), latent[..., 0])

    def test_gain_follows_physical_frequency(self, model, slices):
        source, target = torch.randn(2, 2, 8, generator=torch.Generator().manual_seed(4))
        fine, coarse = (
            model.filter(slices, source, target, torch.full((2,), mm))[0] for mm in (0.5, 1.0)
        )
        assert (fine - coarse).abs().max() > 1e-3


def local_spectrum(rings):
    return LocalSpectrum(rings, max_lp_cm=12.0, power_floor=1e-8)


def test_local_spectrum_finds_the_frequency_of_a_wave():
    spectrum = local_spectrum(24)
    for frequency_lp_cm, spacing_mm in ((3.0, 0.5), (3.0, 0.8), (5.0, 0.5)):
        x = torch.arange(128) * spacing_mm / 10  # cm
        wave = torch.sin(2 * torch.pi * frequency_lp_cm * x).expand(1, 1, 128, 128)
        texture = spectrum(wave, torch.tensor([spacing_mm]))
        log_power, reached = texture.log_power[0].mean((1, 2)), texture.reached[0].mean((1, 2)) > 0
        loudest = torch.where(reached, log_power, torch.tensor(-9.0)).argmax().item()
        assert loudest * 12 / 23 == pytest.approx(frequency_lp_cm, abs=0.55)


def test_sampled_latents_get_the_style_they_were_sampled_for(model):
    generator = torch.Generator().manual_seed(0)
    latent_a, latents = torch.randn(2, 2, 8, 9, generator=generator)
    style = torch.randn(2, 8, generator=generator)
    matched = model.match_style(latents, style, latent_a)
    spread = (matched - matched.mean(-1, keepdim=True)) - (latents - latents.mean(-1, keepdim=True))
    torch.testing.assert_close(spread, torch.zeros_like(spread), atol=1e-5, rtol=0)
    torch.testing.assert_close(model.style_of(matched, latent_a), style)


@pytest.mark.parametrize("rings", [0, 7])
def test_rings_that_leave_no_room_are_refused(rings):
    with pytest.raises(ValueError, match=f"`rings` is {rings}"):
        StyleAutoencoder(**TINY | {"rings": rings})


class TestUntrained:
    """What the architecture knows before any training."""

    def test_latent_of_another_kernel_gives_its_power(self):
        torch.manual_seed(0)
        model = StyleAutoencoder(**SIZES).eval()
        white = torch.randn(1, 1, 256, 256, generator=torch.Generator().manual_seed(5))
        frequency = radial_frequency(256, 256, SPACING[:1])  # [1,256,129]
        soft, sharp = (
            0.1 * torch.fft.irfft2(torch.fft.rfft2(white) * torch.exp(-((frequency / cutoff) ** 2))) for cutoff in (5.0, 9.0)
        )
        _, skips = model.encode(soft, SPACING[:1])
        latent, _ = model.encode(sharp, SPACING[:1])
        drawn = model.decode(latent, skips)
        power = local_spectrum(12)
        rings = slice(3, 8)  # 3 to 8 lp/cm
        before, after = (
            (power(image, SPACING[:1]).log_power - power(sharp, SPACING[:1]).log_power)[:, rings] for image in (soft, drawn)
        )
        assert after.abs().mean() < 0.1 * before.abs().mean()

    def test_neither_air_nor_the_border_counts_in_the_style(self):
        model = StyleAutoencoder(**TINY).eval()
        patient = 0.1 * torch.randn(1, 1, 128, 128, generator=torch.Generator().manual_seed(6))
        air = torch.full_like(patient, -1.7)  # -1000 HU
        latent, _ = model.encode(torch.cat([patient, air], 3), SPACING[:1])
        weight = torch.sigmoid(latent[0, 0].unflatten(0, (4, 8)))
        assert weight[1:-1, 1:3].min() > 0.9 and weight[1:-1, 5:].max() < 0.05
        assert weight[[0, -1]].max() < 0.05 and weight[:, [0, -1]].max() < 0.05

    def test_a_slice_of_borders_only_has_a_style(self, model):
        tiny = torch.randn(2, 1, 32, 64, generator=torch.Generator().manual_seed(7))
        assert model.pool(model.encode(tiny, SPACING)[0]).isfinite().all()
