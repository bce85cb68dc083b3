import pytest
import torch
from diffusionct_pipeline.models.texture.target_curve import TargetCurve

RINGS, CHANNELS = 3, 5


@pytest.fixture
def curve():
    torch.manual_seed(0)
    curve = TargetCurve(RINGS, hidden=16, heads=4).eval().requires_grad_(False)
    torch.nn.init.normal_(curve.change[-1].weight)  # zero at first
    return curve


def inputs(length=12, tokens=7):
    generator = torch.Generator().manual_seed(1)
    latent_a = torch.randn(2, CHANNELS, length, generator=generator)
    latent_a[:, 1] = 0.4  # tissue
    return latent_a, torch.randn(2, tokens, CHANNELS, generator=generator)


def test_one_value_a_ring(curve):
    assert curve(*inputs()).shape == (2, RINGS)


def test_neither_order_of_positions_nor_of_tokens_counts(curve):
    latent_a, reference = inputs()
    torch.testing.assert_close(curve(latent_a.flip(2), reference.flip(1)), curve(latent_a, reference), atol=1e-5, rtol=1e-4)


def test_slices_do_not_see_each_other(curve):
    latent_a, reference = inputs()
    torch.testing.assert_close(curve(latent_a[1:], reference[1:]), curve(latent_a, reference)[1:], atol=1e-5, rtol=1e-4)


def test_air_does_not_count(curve):
    latent_a, reference = inputs()
    latent_a[:, 1, 8:] = -1.7  # -1000 HU
    other = latent_a.clone()
    other[:, 2:, 8:] += 3
    torch.testing.assert_close(curve(other, reference), curve(latent_a, reference), atol=0.1, rtol=0.02)


@pytest.mark.parametrize("changed", (0, 1))
def test_slice_and_reference_count(curve, changed):
    before = list(inputs())
    after = [part.clone() for part in before]
    after[changed][..., 2] += 1
    assert (curve(*before) - curve(*after)).abs().max() > 1e-3
