"""The synthesis in the windowed Fourier domain: what it adds up to, ring by ring, and that no one sees its windows."""

import math

import pytest
import torch

from diffusionct_pipeline.metrics.lattice import folded_ratio
from diffusionct_pipeline.models.texture.frequency import radial_frequency, ramp, ring_weights
from diffusionct_pipeline.models.texture.local_spectrum import LocalSpectrum
from diffusionct_pipeline.models.texture.synthesis import TextureSynthesis
from diffusionct_pipeline.simulation import ChestPhantom
from diffusionct_pipeline.simulation.splits import VALIDATION

RINGS, MAX_LP_CM, KEPT_LP_CM = 24, 12.0, 0.9
SPACING = torch.tensor([0.6])

pytestmark = pytest.mark.usefixtures("no_gradients")


def noise(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def synthesis(trusted_from=0.5, trusted_to=2.0):
    return TextureSynthesis(RINGS, MAX_LP_CM, KEPT_LP_CM, trusted_from, trusted_to)


def spectrum():
    return LocalSpectrum(RINGS, MAX_LP_CM, 1e-8)


def smooth_maps(seed, rings, height, width, size):
    """Random maps that vary from place to place and ring to ring."""
    coarse = size * noise(seed, 1, 1, 4, height // 2 + 1, width // 2 + 1)
    return torch.nn.functional.interpolate(coarse, (rings, height, width), mode="trilinear")[0]


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("raised", [1.2, -1.2])
def test_white_noise_gets_the_power_that_is_wanted_in_every_ring(share, raised):
    white = 0.2 * noise(1, 4, 1, 192, 192)
    spacing = SPACING.expand(4)
    before = spectrum()(white, spacing).log_power
    # What a window shows scatters; the power itself is that of the whole.
    level = before.mean((0, 2, 3), keepdim=True).expand_as(before)
    change = torch.linspace(0, raised, RINGS).view(1, -1, 1, 1).expand_as(before)
    made = synthesis()(white, change, level + change, torch.full_like(before, share), noise(2, 4, 1, 192, 192), spacing)
    after = spectrum()(made, spacing).log_power
    ratio = torch.exp((after - before - change).mean((0, 2, 3)))
    reached = torch.linspace(0, MAX_LP_CM, RINGS) < 5 / SPACING.item()  # up to Nyquist
    above = torch.linspace(0, MAX_LP_CM, RINGS) > 2.0  # trusted, and too fast to be kept
    assert (reached & above).sum() > 8
    torch.testing.assert_close(ratio[reached & above], torch.ones(int((reached & above).sum())), atol=0.1, rtol=0)


@pytest.mark.parametrize("size", [(32, 32), (64, 160)])
def test_without_a_change_nothing_happens(size):
    sample = noise(1, 1, 1, *size)
    nothing = torch.zeros(1, RINGS, size[0] // 32, size[1] // 32)
    made = synthesis()(sample, nothing, nothing, nothing, noise(2, *sample.shape), SPACING)
    torch.testing.assert_close(made, sample, atol=1e-4, rtol=0)


def test_slow_content_is_never_new():
    """Else windows whose share differs get a mean of their own: clouds."""
    flat = torch.full((1, 1, 192, 192), -1.0)
    power = torch.full((1, RINGS, 6, 6), -12.0)
    share = torch.rand(power.shape, generator=torch.Generator().manual_seed(0)).round()
    made = synthesis()(flat, torch.zeros_like(power), power, share, noise(2, 1, 1, 192, 192), SPACING)
    means = torch.nn.functional.avg_pool2d(made, 32)
    torch.testing.assert_close(means, torch.full_like(means, -1.0), atol=1e-3, rtol=0)


def test_a_cut_body_gets_no_frame():
    """A slope that ends at the border, and a gain that a sharp kernel has: a straight line stays one."""
    slope = torch.linspace(-1, 1, 96).expand(1, 1, 96, 96).contiguous()
    change = torch.linspace(0, 8, RINGS).view(1, -1, 1, 1).expand(1, RINGS, 3, 3)
    made = synthesis()(slope, change, change, torch.zeros_like(change), noise(2, 1, 1, 96, 96), SPACING)
    torch.testing.assert_close(made, slope, atol=0.02, rtol=0)


def test_a_share_of_one_is_finite():
    ones = torch.ones(1, RINGS, 2, 2)
    assert synthesis()(noise(1, 1, 1, 64, 64), ones, ones, ones, noise(2, 1, 1, 64, 64), SPACING).isfinite().all()


def test_equal_changes_everywhere_are_one_convolution_without_a_seam():
    sample = noise(1, 1, 1, 256, 256)
    rings_lp_cm = torch.linspace(0, MAX_LP_CM, RINGS)
    change = (0.8 * torch.sin(rings_lp_cm / 4)).view(1, -1, 1, 1).expand(1, RINGS, 8, 8)
    nothing = torch.zeros_like(change)
    made = synthesis()(sample, change, nothing, nothing, torch.zeros_like(sample), SPACING)
    frequency = radial_frequency(256, 256, SPACING)
    log_gain = ring_weights(frequency, RINGS, MAX_LP_CM) @ (change[0, :, 0, 0] * ramp(RINGS, 0.5, 2.0, MAX_LP_CM) / 2)
    log_gain = log_gain * (1 - torch.exp(-((frequency / KEPT_LP_CM) ** 2)))
    expected = torch.fft.irfft2(torch.fft.rfft2(sample) * torch.exp(log_gain)[:, None])
    inner = (..., slice(64, -64), slice(64, -64))
    changed = (expected - sample)[inner].std()
    assert changed > 0.1 and (made - expected)[inner].std() < 0.02 * changed


def test_noise_is_the_same_on_windows_and_between_them():
    """Its power does not ripple with the period of the stride, whose Hann windows sum to 1 in amplitude."""
    nothing, new = torch.zeros(1, RINGS, 16, 16), torch.ones(1, RINGS, 16, 16)
    made = synthesis()(torch.zeros(1, 1, 512, 512), nothing, nothing, new, noise(3, 1, 1, 512, 512), SPACING)[0, 0]
    power = made[64:-64, 64:-64].square().unflatten(0, (-1, 32)).unflatten(2, (-1, 32)).mean((0, 2))  # [32,32]
    rows, columns = power.mean(1), power.mean(0)
    chance = math.sqrt(2 / (384 * 12))
    assert max((rows / rows.mean() - 1).std(), (columns / columns.mean() - 1).std()) < 2 * chance


def lattice_of(sample):
    height, width = sample.shape[-2] // 32, sample.shape[-1] // 32
    log_power = spectrum()(sample, SPACING).log_power
    change = smooth_maps(4, RINGS, height, width, 1.0)
    share = torch.sigmoid(smooth_maps(5, RINGS, height, width, 2.0))
    made = synthesis()(sample, change, log_power + change, share, noise(6, *sample.shape), SPACING)
    return (made - sample)[0, 0].numpy()


@pytest.mark.parametrize("period", [16, 32])
def test_it_draws_no_lattice_over_white_noise(period):
    assert folded_ratio(lattice_of(0.2 * noise(7, 1, 1, 512, 512)), period) < 1.2


@pytest.mark.parametrize("period", [16, 32])
def test_it_draws_no_lattice_over_a_chest(period):
    phantom = ChestPhantom(VALIDATION[0], size=512, spacing_mm=0.7)
    chest = (phantom.slice_hu(0.0)[None, None] + 150) / 500
    assert folded_ratio(lattice_of(chest.float() + 0.05 * noise(8, *chest.shape)), period) < 1.2


def test_a_lattice_would_be_seen():
    pattern = torch.zeros(512, 512)
    pattern[::16, ::16] = 0.1
    assert folded_ratio((0.1 * noise(9, 512, 512) + pattern).numpy(), 16) > 1.5
