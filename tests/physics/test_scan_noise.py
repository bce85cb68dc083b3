"""The noise of a scan is a field in space: white in a slice, correlated along its normal, the same whoever asks."""

import pytest
import torch

from diffusionct_pipeline.physics import scan_noise as noise
from diffusionct_pipeline.physics.scan_noise import scan_noise
from diffusionct_pipeline.utils.seeds import derive_seed

SHAPE = (1, 256, 256)


def correlation(one, other):
    return torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1].item()


@pytest.mark.parametrize(("position_mm", "thickness_mm"), [(0.0, None), (0.3, 1.0), (-7.77, 2.5), (1234.5, 0.6)])
def test_unit_variance_and_zero_mean_anywhere(position_mm, thickness_mm):
    noise = scan_noise(SHAPE, 1, position_mm, thickness_mm)
    assert noise.shape == SHAPE and noise.dtype == torch.float32
    assert noise.std().item() == pytest.approx(1, abs=0.015) and abs(noise.mean()) < 0.015


def test_white_in_the_plane():
    noise = scan_noise(SHAPE, 2, 0.7, 1.0)[0]
    power = torch.fft.rfft2(noise, norm="ortho").abs().square()
    assert abs(correlation(noise[:, 1:], noise[:, :-1])) < 0.02 and abs(correlation(noise[1:], noise[:-1])) < 0.02
    assert power[:64, :64].mean().item() == pytest.approx(1, abs=0.05)  # slow
    assert power[64:192, 64:].mean().item() == pytest.approx(1, abs=0.05)  # fast


@pytest.mark.parametrize("thickness_mm", [1.0, 3.0])
@pytest.mark.parametrize(("distance", "expected"), [(0.5, 0.75), (1.0, 0.32), (3.0, 0.0)])
@pytest.mark.parametrize("start_mm", [0.0, 0.37])
def test_correlation_falls_with_the_distance_in_thicknesses(thickness_mm, distance, expected, start_mm):
    one, other = (scan_noise(SHAPE, 3, start_mm + step * thickness_mm, thickness_mm) for step in (0, distance))
    assert correlation(one, other) == pytest.approx(expected, abs=0.05)


def test_a_slice_has_the_same_bytes_in_any_order():
    positions = [-3.0, 0.0, 0.5, 10.25]
    forward = {z: scan_noise((4, 9), 5, z, 1.5) for z in positions}
    backward = {z: scan_noise((4, 9), 5, z, 1.5) for z in reversed(positions)}
    assert all(torch.equal(forward[z], backward[z]) for z in positions)
    assert not torch.equal(forward[0.0], forward[0.5])


def test_seeds_are_independent():
    one, other = (scan_noise(SHAPE, derive_seed(0, purpose), 0.0, 1.0) for purpose in ("texture", "latent"))
    assert abs(correlation(one, other)) < 0.02


def test_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    scan_noise((8, 8), 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_neighbours_share_their_planes_and_get_the_bytes_they_have_alone(monkeypatch):
    """Planes make most of the time of a noise field."""
    drawn, original = [], torch.randn
    monkeypatch.setattr(torch, "randn", lambda *shape, **options: drawn.append(shape) or original(*shape, **options))
    positions = [0.0, 0.5, 1.0, 1.5, 2.0]
    alone = []
    for z in positions:
        noise._plane.cache_clear()
        alone.append(scan_noise((4, 9), 5, z, 1.0))
    one_by_one, _ = len(drawn), drawn.clear()
    noise._plane.cache_clear()
    assert all(torch.equal(scan_noise((4, 9), 5, z, 1.0), other) for z, other in zip(positions, alone, strict=True))
    assert len(drawn) == one_by_one // len(positions) + len(positions) - 1
