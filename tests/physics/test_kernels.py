import json
from importlib import resources

import pytest
import torch

from diffusionct_pipeline import physics
from diffusionct_pipeline.physics.kernels import find_kernel, get_kernel, transfer
from diffusionct_pipeline.simulation import KERNELS, Kernel, mtf

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


TABLE = json.loads(resources.files(physics).joinpath("data/kernels.json").read_text(encoding="utf-8"))["kernels"]
WITH_PEAK = [name for name, entry in TABLE.items() if "peak" in entry]


@pytest.mark.parametrize("name", WITH_PEAK)
def test_the_law_has_the_peak_that_was_measured(name):
    height, at = TABLE[name]["peak"]
    curve = mtf(torch.linspace(0, 20, 2000, dtype=torch.float64), name)
    assert curve.max().item() == pytest.approx(height, rel=0.01)
    assert mtf(torch.tensor([at]), name).item() == pytest.approx(height, rel=0.01)


def test_most_sharp_kernels_have_a_measured_peak():
    assert len(WITH_PEAK) > 15


class TestNames:
    @pytest.mark.parametrize("name", ["Br40d", "Br40f", "Br40f_3", "Br40f\\3", "Br40_2"])
    def test_suffixes_do_not_count(self, name):
        found = find_kernel(name)
        assert found.name == name and found.confidence == KERNELS["Br40"].confidence
        frequency = torch.linspace(0, 12, 30)
        torch.testing.assert_close(mtf(frequency, found), mtf(frequency, "Br40"))

    def test_the_table_itself_is_not_touched(self):
        assert find_kernel("GE_LUNG") is KERNELS["GE_LUNG"] and find_kernel("Qr40") is KERNELS["Qr40"]
        assert find_kernel("Qr40") != find_kernel("Br40"), "families of one index differ"

    def test_an_index_between_two_of_the_family_lies_between_them(self):
        below, found, above = KERNELS["Br59"], find_kernel("Br62"), KERNELS["Br64"]
        assert found.name == "Br62" and found.confidence == "interpolated" and "Br59 and Br64" in found.source
        for field in ("mtf50", "mtf10", "boost", "boost_peak"):
            low, high = getattr(below, field), getattr(above, field)
            assert getattr(found, field) == pytest.approx(low + (high - low) * 3 / 5)

    @pytest.mark.parametrize(
        "name", ["", "Q", "Br99", "Br20", "Zz40", "br40", "Br4", "Br400", "Br40 synthetic", "SOFT", "B19f"]
    )
    def test_others_are_unknown(self, name):
        assert find_kernel(name) is None
        with pytest.raises(ValueError, match="must be a Kernel or one of"):
            get_kernel(name)

    def test_a_kernel_passes_through(self):
        kernel = Kernel("x", 3, 6, 0, 3)
        assert get_kernel(kernel) is kernel and get_kernel("Br40d").name == "Br40d"


def test_sharp_kernels_pass_more_than_soft_ones():
    frequency = torch.linspace(1, 12, 50)
    assert (mtf(frequency, "Br64") > mtf(frequency, "Br40")).all()
    seen = frequency[frequency < 5 / 0.7]  # Bl64 is what pixels of 0.7 mm show
    assert (mtf(seen, "Bl64") > mtf(seen, "Br40")).all()


def test_jitter_scales_a_kernel_within_its_bounds_and_follows_the_generator():
    draw = [KERNELS["Bl64"].jittered(0.15, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1, 2, 3, 4)]
    assert draw[0] == draw[1] != draw[2]
    for kernel in draw:
        factor = kernel.mtf50 / KERNELS["Bl64"].mtf50
        assert 0.85 <= factor <= 1.15 and kernel.mtf10 == pytest.approx(factor * KERNELS["Bl64"].mtf10)
    assert KERNELS["Bl64"].jittered(0.0, torch.Generator()) == KERNELS["Bl64"]


def test_unknown_kernel_is_refused_with_the_legal_names():
    with pytest.raises(ValueError, match="must be a Kernel or one of .*Br40.*, got 'Br99'"):
        mtf(torch.ones(1), "Br99")


@pytest.mark.parametrize("numbers", [(6, 4, 0, 3), (0, 4, 0, 3), (3, 6, -0.1, 3), (3, 6, 0.1, 0)])
def test_impossible_kernels_are_refused(numbers):
    with pytest.raises(ValueError, match="kernel 'x' must have .*, got"):
        Kernel("x", *numbers)


def test_one_law_for_a_kernel_and_for_many_at_once():
    frequency, names = torch.linspace(0, 14, 50), ("Br40", "Bl64", "GE_LUNG")
    kernels = [KERNELS[name] for name in names]
    columns = torch.tensor([[*kernel.roll_off(), kernel.boost, kernel.boost_peak] for kernel in kernels])
    together = transfer(frequency, *columns.T[..., None])
    torch.testing.assert_close(together, torch.stack([mtf(frequency, kernel) for kernel in kernels]))
