import pytest
import torch

from diffusionct_pipeline.simulation import KERNELS, Kernel, mtf
from diffusionct_pipeline.simulation.kernels import transfer

CONFIDENCE = {"measured", "weak", "interpolated", "extrapolated", "from memory, unverified"}


@pytest.mark.parametrize("name", KERNELS)
def test_the_table_says_where_its_numbers_come_from(name):
    kernel = KERNELS[name]
    assert kernel.confidence in CONFIDENCE
    assert (kernel.source == "none") == (kernel.confidence == "from memory, unverified")


@pytest.mark.parametrize("name", KERNELS)
def test_closed_form_hits_both_points_of_the_table(name):
    kernel = KERNELS[name]
    at = torch.tensor([0.0, kernel.mtf50, kernel.mtf10], dtype=torch.float64)
    assert mtf(at, name).tolist() == pytest.approx([1.0, 0.5, 0.1], abs=1e-12)


@pytest.mark.parametrize("name", KERNELS)
def test_mtf_decays_beyond_the_boost(name):
    kernel = KERNELS[name]
    curve = mtf(torch.linspace(0, 20, 401), name)
    assert curve.max() <= 1 + kernel.boost
    beyond = mtf(torch.linspace(kernel.boost_peak, 20, 200), name)
    assert (beyond.diff() <= 0).all()


def test_sharp_kernels_pass_more_than_soft_ones():
    frequency = torch.linspace(1, 12, 50)
    assert (mtf(frequency, "Bl64") > mtf(frequency, "Br40")).all()


def test_jitter_scales_a_kernel_within_its_bounds_and_follows_the_generator():
    draw = [KERNELS["Bl64"].jittered(0.15, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1, 2, 3, 4)]
    assert draw[0] == draw[1] != draw[2]
    for kernel in draw:
        assert 0.85 <= kernel.mtf50 / 8.1 <= 1.15
        assert kernel.mtf10 / kernel.mtf50 == pytest.approx(12.0 / 8.1)
    assert KERNELS["Bl64"].jittered(0.0, torch.Generator()) == KERNELS["Bl64"]


def test_unknown_kernel_is_refused_with_the_legal_names():
    with pytest.raises(ValueError, match="'Br99'.*Br40"):
        mtf(torch.ones(1), "Br99")


@pytest.mark.parametrize("numbers", [(6, 4, 0, 3), (0, 4, 0, 3), (3, 6, -0.1, 3), (3, 6, 0.1, 0)])
def test_impossible_kernels_are_refused(numbers):
    with pytest.raises(ValueError, match="kernel 'x'.*legal"):
        Kernel("x", *numbers)


def test_one_law_for_a_kernel_and_for_many_at_once():
    frequency, names = torch.linspace(0, 14, 50), ("Br40", "Bl64", "GE_LUNG")
    kernels = [KERNELS[name] for name in names]
    columns = torch.tensor([[*kernel.roll_off(), kernel.boost, kernel.boost_peak] for kernel in kernels])
    together = transfer(frequency, *columns.T[..., None])
    torch.testing.assert_close(together, torch.stack([mtf(frequency, kernel) for kernel in kernels]))
