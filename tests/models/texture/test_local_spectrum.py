"""The local power: unbiased, by physical frequency, and of the noise rather than of the edges in it."""

import pytest
import torch

from diffusionct_pipeline.models.texture.coherence import coherence_of
from diffusionct_pipeline.models.texture.frequency import radial_frequency, ramp, ring_weights
from diffusionct_pipeline.models.texture.local_spectrum import STRIDE, WINDOW, LocalSpectrum

RINGS, MAX_LP_CM = 24, 12.0
LP_CM = torch.linspace(0, MAX_LP_CM, RINGS)
SPACING = torch.tensor([0.6])
REACHED = (LP_CM > 1) & (LP_CM < 5 / SPACING)


def noise(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def spectrum(power_floor=1e-8):
    return LocalSpectrum(RINGS, MAX_LP_CM, power_floor)


@pytest.mark.parametrize(("frequency_lp_cm", "spacing_mm"), [(3.0, 0.5), (3.0, 0.8), (5.0, 0.5), (8.0, 0.55)])
def test_finds_the_frequency_of_a_wave(frequency_lp_cm, spacing_mm):
    """In noise: a ring's value is the mean of logarithms, to which a single bin adds little."""
    radius = radial_frequency(128, 128, torch.tensor([spacing_mm]))
    band = torch.exp(-(((radius - frequency_lp_cm) / 0.3) ** 2))
    image = torch.fft.irfft2(torch.fft.rfft2(noise(0, 1, 1, 128, 128)) * band[:, None])
    log_power = spectrum()(image, torch.tensor([spacing_mm])).log_power[0].mean((1, 2))
    assert LP_CM[log_power.argmax()].item() == pytest.approx(frequency_lp_cm, abs=0.55)


@pytest.mark.parametrize("spacing_mm", [0.5, 0.9])
@pytest.mark.parametrize("level", [0.05, 1.0])
def test_is_unbiased_for_white_noise(spacing_mm, level):
    texture = spectrum()(level * noise(1, 4, 1, 256, 256), torch.full((4,), spacing_mm))
    power = torch.exp(texture.log_power.mean((0, 2, 3)))
    expected = torch.full_like(power, level**2 * spacing_mm**2)
    bias = (power / expected - 1)[1:]  # the first ring lacks the mean, which is a channel of its own
    assert bias.abs().max() < 0.06 and bias.mean().abs() < 0.03


def test_rings_beyond_nyquist_repeat_the_last_that_is_reached():
    log_power = spectrum()(noise(2, 1, 1, 64, 64), torch.tensor([1.5])).log_power[0]  # corners at 4.7 lp/cm
    last = int((LP_CM < 4.7).sum()) - 1
    assert (log_power[last + 1 :] == log_power[last + 1]).all() and not torch.equal(log_power[3], log_power[4])


def test_a_bright_edge_hardly_changes_the_power_of_noise():
    white = 0.05 * noise(3, 1, 1, 128, 128)
    edge = white.clone()
    edge[..., 64:] += 2.0  # bone beside soft tissue, 1000 HU
    plain, beside = (spectrum()(image, SPACING).log_power[0, REACHED] for image in (white, edge))
    change = (beside - plain).mean(0)[:, 1:3]  # of the positions whose windows hold the edge
    squares = [(spectrum()._windows(image)[0].abs().square() * SPACING.item() ** 2) for image in (white, edge)]
    plain, beside = (spectrum()._ring_means(power, SPACING)[0, REACHED].log() for power in squares)
    arithmetic = (beside - plain).mean(0)[:, 1:3]
    assert change.mean() < 1.0 and arithmetic.mean() > 2.5 and change.mean() < 0.35 * arithmetic.mean()


def test_the_mean_is_local():
    image = torch.zeros(1, 1, 96, 96)
    image[..., 64:] = 1
    mean = spectrum()(image, SPACING).mean[0, 0]
    assert mean.shape == (3, 3)
    torch.testing.assert_close(mean[:, 0], torch.zeros(3))
    assert (mean[:, 2] > 0.7).all()


def test_a_flat_slice_has_the_power_of_the_floor():
    log_power = spectrum(1e-6)(torch.full((1, 1, 64, 64), 0.3), SPACING).log_power
    torch.testing.assert_close(log_power, torch.full_like(log_power, -13.8155 + 0.5772), atol=0.01, rtol=0)


@pytest.mark.parametrize("coherence", [0.0, 0.3, 0.6, 0.9, 1.0])
def test_phase_agreement_tells_the_coherence(coherence):
    a, fresh = noise(4, 4, 1, 256, 256), noise(5, 4, 1, 256, 256)
    b = 3.0 * (coherence * a + (1 - coherence**2) ** 0.5 * fresh)  # power does not count
    agreement = spectrum().phase_agreement(a, b, SPACING.expand(4))
    assert agreement.shape == (4, RINGS, 8, 8)
    found = coherence_of(agreement.mean((0, 2, 3)))[REACHED]
    torch.testing.assert_close(found, torch.full_like(found, coherence), atol=0.05, rtol=0)


def test_phase_agreement_of_opposites_is_minus_one_and_of_nothing_zero():
    a = noise(6, 1, 1, 64, 64)
    torch.testing.assert_close(spectrum().phase_agreement(a, -a, SPACING), -torch.ones(1, RINGS, 2, 2))
    assert spectrum().phase_agreement(a, torch.zeros_like(a), SPACING).abs().max() == 0


def test_windows_lie_around_the_positions():
    """Each 32 x 32 pixels are the middle of their own window."""
    image = torch.zeros(1, 1, 128, 128)
    image[..., 64:96, 64:96] = noise(7, STRIDE, STRIDE)
    log_power = spectrum()(image, SPACING).log_power[0].mean(0)
    assert divmod(int(log_power.argmax()), 4) == (2, 2) and WINDOW == 2 * STRIDE


class TestFrequency:
    def test_radius_in_lp_cm(self):
        radius = radial_frequency(8, 10, torch.tensor([0.5, 1.0]))
        assert radius.shape == (2, 8, 6)
        torch.testing.assert_close(radius[:, 0, -1], torch.tensor([10.0, 5.0]))  # Nyquist
        torch.testing.assert_close(radius[0], 2 * radius[1])

    def test_ring_weights_sum_to_1_and_interpolate(self):
        weights = ring_weights(torch.tensor([0.0, 1.5, 6.0, 12.0, 50.0]), 5, 12.0)
        torch.testing.assert_close(weights.sum(-1), torch.ones(5))
        torch.testing.assert_close(weights @ torch.linspace(0, 12, 5), torch.tensor([0.0, 1.5, 6.0, 12.0, 12.0]))

    def test_ramp(self):
        torch.testing.assert_close(ramp(5, 1.0, 3.0, 4.0), torch.tensor([0.0, 0.0, 0.5, 1.0, 1.0]))
