"""Which target suits a cohort, from the kernels of its series alone."""

from types import SimpleNamespace

import numpy as np
import pytest
from helpers.limbs import SPACING_MM, limb_slice
from helpers.tiny import tiny_pipeline

from diffusionct_pipeline.characterise.advice import (
    MIXED,
    SUGGESTED,
    Advice,
    Choice,
    advice_lines,
    advice_text,
    advise,
    commonest_target,
    is_sure,
    softest_target,
)
from diffusionct_pipeline.estimation import estimate_kernel_of_slices
from diffusionct_pipeline.image_processor import HUSlice
from diffusionct_pipeline.method.reached import Reached
from diffusionct_pipeline.simulation import KERNELS


class TestSoftest:
    @pytest.mark.parametrize(("mtf50", "name"), [([7.3, 3.42, 5.6], "Br36"), ([3.85], "Br40"), ([6.0, 6.1], "D45")])
    def test_is_just_below_the_softest_series(self, mtf50, name):
        choice = softest_target(mtf50)
        assert (choice.kernel.name, choice.series) == (name, (int(np.argmin(mtf50)),))
        assert choice.kernel.mtf50 <= choice.mtf50 == min(mtf50)

    def test_a_kernel_measured_a_hair_softer_than_it_is_keeps_its_target(self):
        assert softest_target([3.38]).kernel.name == "Br36" and softest_target([3.3]).kernel.name == "Br32"

    def test_unsure_series_do_not_count(self):
        assert softest_target([None, 5.6, None]).series == (1,)
        assert softest_target([None, None]) is softest_target([]) is None

    def test_below_the_table_its_softest_kernel_is_left(self):
        choice = softest_target([2.1])
        assert choice.kernel is SUGGESTED[0] and choice.kernel.mtf50 > 2.1
        assert "and would be sharpened" in advice_text(Advice(choice, choice, [], [], [], []), 1, "Bl64")[0]


class TestCommonest:
    def test_is_that_of_most_series(self):
        choice = commonest_target([3.4, 7.3, 7.5, 7.4], ["", "", "", ""])
        assert choice.series == (1, 2, 3) and choice.mtf50 == 7.4
        assert choice.kernel.mtf50 == pytest.approx(7.4, rel=0.02)

    def test_of_two_as_large_the_softer_one_is_taken(self):
        assert commonest_target([7.3, 3.4], ["", ""]).series == (1,)

    def test_the_name_in_the_header_counts_where_the_measurement_bears_it_out(self):
        assert commonest_target([3.8], ["Br40d"]).kernel.name == "Br40d"
        assert commonest_target([3.3], ["Bl64"]).kernel.mtf50 == pytest.approx(3.4)

    def test_unsure_series_do_not_count(self):
        assert commonest_target([None, None, 3.4], ["Bl64", "Bl64", ""]).series == (2,)
        assert commonest_target([None], ["Br40"]) is None


def test_suggested_kernels_are_known_ones_for_the_body():
    names = [kernel.name for kernel in SUGGESTED]
    assert {"Br36", "GE_STANDARD", "Bl64"} < set(names) and not {"B40f", "Hr40", "Ub44"} & set(names)


def test_a_header_alone_is_not_sure():
    air = HUSlice(np.full((96, 96), -1000.0, np.float32), 0.7, np.zeros((96, 96), bool), "np")
    assert not is_sure(estimate_kernel_of_slices([air], "Br40"))
    assert not is_sure(None)


def test_one_noise_level_is_the_highest_that_doses_have_under_the_target():
    pipe, measured = tiny_pipeline(), []
    for noise_hu, after in ((12.0, 7.3), (40.0, 3.0)):
        hu = limb_slice(3.45, noise_hu=noise_hu)
        source = pipe.estimate([HUSlice(hu, SPACING_MM, np.zeros(hu.shape, bool), "np")])
        reached = Reached("Bl64", 7.14, mtf50=(3.45, after), mtf_ratio=1.0, noise_hu=(noise_hu, None))
        trial = SimpleNamespace(source=source, reached=reached)
        protocol = SimpleNamespace(kernel="")
        measured.append(
            SimpleNamespace(mtf50=source.kernel.mtf50, kernel=source.kernel, protocol=protocol, trial=trial)
        )
    advice = advise(pipe, measured)
    low, high = advice.softest.noise_hu
    assert high / low == pytest.approx(40 / 12, rel=0.15) and advice.softest.common_noise_hu >= high
    assert pipe.step(trial.source, pipe.resolve_target(advice.softest.kernel.name)).noise_hu[1] == pytest.approx(high)
    assert (advice.missed, advice.unseen, advice.unsure, advice.smoothed) == ([1], [], [], [])


def test_a_checkpoint_whose_standard_is_unknown_takes_no_target_by_name():
    pipe = tiny_pipeline()
    pipe.register_to_config(standard_name="of this site")
    assert advise(pipe, []) is None


class TestWords:
    def test_mixed_doses_get_the_level_that_all_can_have(self):
        choice = Choice(KERNELS["Br36"], (0,), 3.5, (8.0, 30.2))
        assert choice.common_noise_hu == 31
        advice = Advice(choice, choice, unsure=[4], missed=[0, 2], unseen=[3], smoothed=[])
        text = "".join(advice_text(advice, 5, "Bl64"))
        assert "8 to 30 HU" in text and "`--noise 31`" in text and "`--noise target`" in text
        assert (
            "2 of 5 series would miss the checkpoint's own standard, Bl64 (1, 3)" in text
            and "also the most common kernel" in text
        )
        assert "whether they reach it: 1 (4)" in text and "uncertain, left out of the choice: 1 series (5)" in text
        assert advice_lines(advice)[0].endswith("--target Br36 --noise 31")

    def test_smoothed_series_share_the_noise_of_the_target_with_all_others(self):
        choice = Choice(KERNELS["Br36"], (0,), 3.5, (8.0, 30.2))
        advice = Advice(choice, choice, [], [], [], smoothed=[1, 3])
        assert "noise of 2 series (2, 4) was smoothed" in "".join(advice_text(advice, 5, "Bl64"))
        assert all(line.endswith("--noise target") for line in advice_lines(advice))

    def test_like_doses_get_no_word(self):
        choice = Choice(KERNELS["Br36"], (0,), 3.5, (10.0, 10.0 * MIXED))
        assert choice.common_noise_hu is None and Choice(KERNELS["Br36"], (0,), 3.5).common_noise_hu is None
        assert advice_lines(Advice(choice, choice, [], [], [], []))[1].endswith("--target Br36")
