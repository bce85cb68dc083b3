import pytest
import torch
from diffusionct_pipeline.models import AutoencoderResNet18
from diffusionct_pipeline.models.frequency import radial_frequency
from diffusionct_pipeline.models.local_spectrum import LocalSpectrum

TINY = {"latent_channels": 8, "block_out_channels": (8, 8, 8, 8, 16), "layers_per_block": 1, "decoder_channels": (8,) * 5}


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = AutoencoderResNet18(**TINY).eval()
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
        assert model.decode(latent, skips, sample, SPACING[:1]).shape == sample.shape

    def test_other_sizes_are_refused(self, model):
        with pytest.raises(ValueError, match="multiples of 32"):
            model.encode(torch.zeros(1, 1, 64, 65), SPACING[:1])

    def test_slices_do_not_see_each_other(self, model, slices):
        latent, skips = model.encode(slices, SPACING)
        both = model.decode(latent, skips, slices, SPACING)
        one_latent, one_skips = model.encode(slices[1:], SPACING[1:])
        one = model.decode(one_latent, one_skips, slices[1:], SPACING[1:])
        torch.testing.assert_close(both[1:], one, atol=1e-4, rtol=1e-4)

    @pytest.mark.parametrize("switches", [AutoencoderResNet18.paper_literal_config(), {"skip_mode": "none"}])
    def test_switched_off_parts(self, slices, switches):
        model = AutoencoderResNet18(**TINY, **switches).eval()
        latent, skips = model.encode(slices, SPACING)
        assert model.decode(latent, skips, slices, SPACING).shape == slices.shape

    def test_without_skips_only_the_latent_and_the_filter_speak(self, slices):
        literal = AutoencoderResNet18.paper_literal_config()
        model = AutoencoderResNet18(**TINY, **literal, skip_mode="none").eval()
        latent, skips = model.encode(slices, SPACING)
        other_latent, other_skips = model.encode(slices.flip(0), SPACING)
        drawn = model.decode(latent, skips, slices, SPACING)
        torch.testing.assert_close(model.decode(latent, other_skips, slices, SPACING), drawn)
        assert (model.decode(other_latent, skips, slices, SPACING) - drawn).abs().max() > 0


class TestStyle:
    def test_same_style_gives_gain_one(self, model, slices):
        style = model.pool(model.encode(slices, SPACING)[0])
        torch.testing.assert_close(model.filter.log_gain(style, style), torch.zeros(2, model.filter.knots))

    def test_without_the_spectrum_a_network_gives_the_gain(self, slices):
        model = AutoencoderResNet18(**TINY, local_spectrum=False).eval()
        source, target = torch.randn(2, 2, 8, generator=torch.Generator().manual_seed(8))
        torch.testing.assert_close(model.filter(slices, source, source, SPACING)[0], slices, atol=1e-5, rtol=1e-4)
        assert (model.filter(slices, source, target, SPACING)[0] - slices).abs().max() > 1e-3

    def test_filter_of_the_same_style_is_the_identity(self, model, slices):
        style = model.pool(model.encode(slices, SPACING)[0])
        torch.testing.assert_close(model.filter(slices, style, style, SPACING)[0], slices, atol=1e-5, rtol=1e-4)

    def test_mean_hu_of_a_slice_is_kept_whatever_the_style(self, model):
        y, x = torch.meshgrid(torch.linspace(-1, 1, 128), torch.linspace(-1, 1, 128), indexing="ij")
        disc = ((x**2 + y**2) < 0.5).float()[None, None] * 2 - 1.5
        noisy = disc + 0.1 * torch.randn(disc.shape, generator=torch.Generator().manual_seed(2))
        _, skips = model.encode(noisy, SPACING[:1])
        other = 0.3 * torch.randn(1, 8, 16, generator=torch.Generator().manual_seed(3))
        drawn = model.decode(other, skips, noisy, SPACING[:1])
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


def test_standardize_and_back(model):
    model.latent_mean.normal_()
    model.latent_std.uniform_(0.5, 2)
    latent = torch.randn(2, 8, 5)
    torch.testing.assert_close(model.unstandardize(model.standardize(latent)), latent)


def test_default_encoder_is_resnet18():
    model = AutoencoderResNet18()
    assert sum(p.numel() for p in model.encoder.parameters()) == pytest.approx(11.17e6, rel=1e-3)


def test_unknown_skip_mode_is_refused():
    with pytest.raises(ValueError, match="'some'"):
        AutoencoderResNet18(skip_mode="some")


def test_local_spectrum_finds_the_frequency_of_a_wave():
    spectrum = LocalSpectrum(24)
    for frequency_lp_cm, spacing_mm in ((3.0, 0.5), (3.0, 0.8), (5.0, 0.5)):
        x = torch.arange(128) * spacing_mm / 10  # cm
        wave = torch.sin(2 * torch.pi * frequency_lp_cm * x).expand(1, 1, 128, 128)
        log_power = spectrum(wave, torch.tensor([spacing_mm]))[0, :24].mean((1, 2))
        reached = spectrum(wave, torch.tensor([spacing_mm]))[0, 24:48].mean((1, 2)) > 0
        loudest = torch.where(reached, log_power, torch.tensor(-9.0)).argmax().item()
        assert loudest * 12 / 23 == pytest.approx(frequency_lp_cm, abs=0.55)


class TestUntrained:
    """What the architecture knows before any training."""

    def test_latent_of_another_kernel_gives_its_power(self):
        torch.manual_seed(0)
        model = AutoencoderResNet18(block_out_channels=(8, 8, 8, 8, 16), decoder_channels=(8,) * 5).eval()
        white = torch.randn(1, 1, 256, 256, generator=torch.Generator().manual_seed(5))
        frequency = radial_frequency(256, 256, SPACING[:1])  # [1,256,129]
        soft, sharp = (
            0.1 * torch.fft.irfft2(torch.fft.rfft2(white) * torch.exp(-((frequency / cutoff) ** 2))) for cutoff in (5.0, 9.0)
        )
        _, skips = model.encode(soft, SPACING[:1])
        latent, _ = model.encode(sharp, SPACING[:1])
        drawn = model.decode(latent, skips, soft, SPACING[:1])
        power = LocalSpectrum(12)
        rings = slice(3, 8)  # 3 to 8 lp/cm
        before, after = (power(one, SPACING[:1])[:, rings] - power(sharp, SPACING[:1])[:, rings] for one in (soft, drawn))
        assert after.abs().mean() < 0.1 * before.abs().mean()

    def test_neither_air_nor_the_border_counts_in_the_style(self):
        model = AutoencoderResNet18(**TINY).eval()
        patient = 0.1 * torch.randn(1, 1, 128, 128, generator=torch.Generator().manual_seed(6))
        air = torch.full_like(patient, -1.7)  # -1000 HU
        latent, _ = model.encode(torch.cat([patient, air], 3), SPACING[:1])
        weight = torch.sigmoid(latent[0, 0].unflatten(0, (4, 8)))
        assert weight[1:-1, 1:3].min() > 0.9 and weight[1:-1, 5:].max() < 0.05
        assert weight[[0, -1]].max() < 0.05 and weight[:, [0, -1]].max() < 0.05

    def test_a_slice_of_borders_only_has_a_style(self, model):
        tiny = torch.randn(2, 1, 32, 64, generator=torch.Generator().manual_seed(7))
        assert model.pool(model.encode(tiny, SPACING)[0]).isfinite().all()
