"""What stands for iterative and deep-learning reconstruction: coarser noise, edges in place, small packaged weights."""

import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from diffusionct_pipeline import simulation
from diffusionct_pipeline.simulation.degradation import SMOOTHERS, smooth
from diffusionct_pipeline.simulation.denoising_network import WEIGHTS, DenoisingStandIn
from diffusionct_pipeline.simulation.noise_level import noise_level, noise_ratio

SCRIPT = Path(__file__).parents[2] / "training" / "train_denoising_stand_in.py"
STATISTICAL = ("statistical", "statistical, q-GGMRF")
FAMILIES = (*STATISTICAL, "network")
STEP_HU, NOISE_HU = 900.0, 30.0
SIDE = 128


def ct_noise(seed, side=SIDE, cutoff=0.3):
    """Noise of filtered back-projection, power |f| exp(-2 (f / cutoff)^2), (side, side), deviation `NOISE_HU`."""
    f = torch.fft.fftfreq(side)
    f = (f[:, None] ** 2 + f**2).sqrt()
    white = torch.randn(side, side, generator=torch.Generator().manual_seed(seed))
    noise = torch.fft.ifft2(torch.fft.fft2(white) * f.sqrt() * torch.exp(-((f / cutoff) ** 2))).real
    return NOISE_HU * noise / noise.std()


def peak_and_mean_frequency(noise):
    """Of the noise power spectrum over rings, in cycles per pixel."""
    power = torch.fft.fft2(noise).abs().square()
    f = torch.fft.fftfreq(len(noise))
    ring = ((f[:, None] ** 2 + f**2).sqrt() * 32).round().long().flatten()
    count = torch.zeros(24).index_add(0, ring, torch.ones_like(ring).float())
    rings = torch.zeros(24).index_add(0, ring, power.flatten()) / count
    rings = rings[:17]  # up to .5
    axis = torch.arange(17) / 32
    return axis[rings.argmax()].item(), ((rings * axis**2).sum() / (rings * axis).sum()).item()


@pytest.fixture(scope="module")
def blurred_step():
    """Soft tissue beside bone under a kernel, and under noise; (without, with)."""
    x = torch.arange(SIDE) - 63.5
    clean = (40 + STEP_HU * torch.special.ndtr(x / 1.2)).expand(SIDE, SIDE)
    return clean, clean + ct_noise(0)


def place_and_width(profile):
    """Half height, and the distance from 10 to 90 %, in pixels by linear interpolation."""
    share = (profile - profile[:40].mean()) / (profile[-40:].mean() - profile[:40].mean())

    def crossing(level):
        after = int((share > level).nonzero()[0, 0])
        return after - ((share[after] - level) / (share[after] - share[after - 1])).item()

    return crossing(0.5), crossing(0.9) - crossing(0.1)


@pytest.mark.parametrize("family", STATISTICAL)
def test_statistical_reconstruction_makes_noise_coarser(family):
    noise = ct_noise(1, cutoff=0.5)
    after = smooth(noise + 40, family) - 40
    (peak, mean), (peak_after, mean_after) = peak_and_mean_frequency(noise), peak_and_mean_frequency(after)
    assert after.std() < 0.75 * noise.std()
    assert peak_after < 0.8 * peak
    assert mean_after < 0.85 * mean


@pytest.mark.parametrize("family", FAMILIES)
def test_a_strong_edge_stays_where_it_was_and_as_sharp(family, blurred_step):
    clean, noisy = blurred_step
    place, width = place_and_width(clean.mean(0))
    place_after, width_after = place_and_width(smooth(noisy, family).mean(0))
    assert place_after == pytest.approx(place, abs=0.1)
    assert width_after == pytest.approx(width, rel=0.15)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_slice_gives_the_same_slice(family, blurred_step):
    assert torch.equal(smooth(blurred_step[1], family), smooth(blurred_step[1], family))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_slice_is_left_as_it_was(family, blurred_step):
    hu = blurred_step[1].clone()
    smooth(hu, family)
    assert torch.equal(hu, blurred_step[1])


@pytest.mark.parametrize("family", FAMILIES)
def test_of_a_mirrored_slice_the_mirrored_noise_is_taken(family):
    noise = ct_noise(2)
    taken, mirrored = smooth(noise, family) - noise, (smooth(noise.flip(1), family) - noise.flip(1)).flip(1)
    assert torch.corrcoef(torch.stack([taken.flatten(), mirrored.flatten()]))[0, 1] > 0.97


def test_noise_is_smoothed_most_where_it_is_strongest():
    noise = ct_noise(3, 192)
    noise[:, 96:] *= 2
    after = smooth(noise, "statistical")
    left, right = (after[:, side].std() / noise[:, side].std() for side in (slice(8, 60), slice(132, 184)))
    assert right < 0.9 * left


def test_the_noise_ratio_tells_where_there_is_more_noise_than_elsewhere():
    noise = ct_noise(3, 192)
    assert noise_level(noise).item() == pytest.approx(NOISE_HU, rel=0.5)
    assert (noise_ratio(noise) - 1).abs().max() < 0.15
    noise[:, 96:] *= 2
    ratio = noise_ratio(noise)
    assert ratio[:, 160].mean() > 1.6 * ratio[:, 32].mean()
    assert torch.equal(noise_ratio(torch.full((40, 40), -1000.0)), torch.ones(40, 40))


def test_the_network_denoises_any_hu_alike():
    noise = ct_noise(4)
    torch.testing.assert_close(smooth(noise + 300, "network") - 300, smooth(noise, "network"), atol=0.01, rtol=0)


def test_the_packaged_weights_are_small_and_readable_by_everyone():
    with resources.as_file(resources.files(simulation).joinpath(WEIGHTS)) as path:
        assert path.stat().st_size < 120_000
        assert path.stat().st_mode & 0o444 == 0o444
        weights = load_file(path)
    assert {value.dtype for value in weights.values()} == {torch.float16}
    assert sum(value.numel() for value in weights.values()) == 21_384
    DenoisingStandIn().load_state_dict(weights)


def test_importing_the_simulator_does_not_read_the_weights():
    code = (
        "from diffusionct_pipeline.simulation import degradation, denoising_network as network, simulate_pair;"
        "print(network._trained.cache_info().currsize)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"


def test_the_script_trains_the_network(tmp_path):
    path = tmp_path / "weights.safetensors"
    done = subprocess.run([sys.executable, SCRIPT, "--quick", "--output", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    DenoisingStandIn().load_state_dict(load_file(path))


def test_every_one_is_a_family():
    assert set(FAMILIES) <= set(SMOOTHERS)
