"""Whether results have the kernel that they are named after."""

import json

import pytest
from helpers.estimates import kernel_estimate

from diffusionct_pipeline.method.reached import UNCERTAIN, Reached, check_results, last_above
from diffusionct_pipeline.physics.kernels import kernel_mtf
from diffusionct_pipeline.simulation import KERNELS

WANTED = KERNELS["Br59"].mtf50


def reached(before, after, wanted=WANTED, noise=(17.0, 92.0), ratio=1.0):
    return Reached("Br59", wanted, (before, after), None if after is None or wanted is None else ratio, noise)


class TestLabel:
    @pytest.mark.parametrize("after", [WANTED, 0.9 * WANTED, 1.1 * WANTED])
    def test_results_with_the_targets_mtf_have_its_name(self, after):
        found = reached(3.5, after)
        assert found.is_reached and not found.is_missed and found.label == "Br59" and found.remark == ""

    @pytest.mark.parametrize("after", [0.8 * WANTED, 1.2 * WANTED, 3.0])
    def test_others_have_not(self, after):
        found = reached(3.5, after)
        assert found.is_missed and not found.is_reached and found.label == UNCERTAIN and found.remark

    @pytest.mark.parametrize(("ratio", "side"), [(0.7, "softer"), (1.3, "sharper")])
    def test_the_right_mtf50_is_not_enough(self, ratio, side):
        found = reached(3.5, WANTED, ratio=ratio)
        assert found.is_missed and found.label == UNCERTAIN and found.remark.startswith(f"stayed {side}")

    @pytest.mark.parametrize(
        ("after", "wanted", "words"), [(None, WANTED, "too little bare skin"), (7.0, None, "is not known")]
    )
    def test_what_cannot_be_seen_is_neither(self, after, wanted, words):
        found = reached(3.5, after, wanted)
        assert not found.is_reached and not found.is_missed and found.label == UNCERTAIN and words in found.remark


class TestRemark:
    def test_softer_than_it_was_comes_before_softer_than_the_target(self):
        assert (
            reached(7.1, 4.5).remark == "became softer than it was: MTF50 4.5 lp/cm, the source has 7.1, Br59 has 8.3"
        )
        assert (
            reached(4.5, 4.6).remark
            == "stayed softer than its target: MTF50 4.6 lp/cm, Br59 has 8.3; MTF 1.00 times the target's"
        )
        assert reached(None, 4.6).remark.startswith("stayed softer")

    def test_a_sharp_source_of_a_soft_target_did_not_become_softer_by_mistake(self):
        assert (
            reached(12.0, 11.0).remark
            == "stayed sharper than its target: MTF50 11.0 lp/cm, Br59 has 8.3; MTF 1.00 times the target's"
        )
        assert reached(12.0, 8.3).remark == ""

    def test_in_words(self):
        assert reached(3.31, 6.6).in_words() == "MTF50 3.3 to 6.6 lp/cm, noise 17 to 92 HU"
        assert reached(None, 6.6, noise=(17.0, None)).in_words() == "MTF50 ? to 6.6 lp/cm, noise 17 to ? HU"


class TestCheck:
    def test_reads_what_estimates_say_of_skin_and_soft_tissue(self):
        wanted = kernel_mtf(KERNELS["Br59"])
        source = kernel_estimate("Br40", noise_hu={"soft tissue": 17.04, "lung": 40.0})
        found = check_results("Br59", wanted, source, kernel_estimate("Br59", noise_hu={"fat": 80.0}))
        assert found.wanted_mtf50 == found.mtf50[1] == pytest.approx(WANTED, abs=0.02) and found.is_reached
        assert found.mtf50[0] == pytest.approx(3.85, abs=0.02) and found.noise_hu == (17.0, None)
        assert found.mtf_ratio == pytest.approx(1, abs=0.01)

    def test_no_more_is_wanted_than_pixels_can_show(self):
        coarse = kernel_estimate("Br59", spacing_mm=0.9)
        found = check_results("Br80", kernel_mtf(KERNELS["Br80"]), None, coarse)
        assert found.wanted_mtf50 == found.mtf50[1] == pytest.approx(5 / 0.9, abs=0.01)

    def test_a_kernel_that_was_not_told_by_skin_is_not_seen(self):
        seen, unseen = kernel_estimate("Br40"), kernel_estimate("Br40", witnesses=("noise", "header"))
        wanted = kernel_mtf(KERNELS["Br40"])
        assert check_results("Br40", wanted, unseen, seen).mtf50 == (None, pytest.approx(3.85, abs=0.02))
        assert not check_results("Br40", wanted, seen, unseen).is_reached
        assert check_results("x", None, None, None) == Reached("x", None, (None, None), None, (None, None))

    @pytest.mark.parametrize("name", ["Br40", "Br59", "Qr40"])
    def test_last_above(self, name):
        assert last_above(kernel_mtf(KERNELS[name]), 0.5) == pytest.approx(KERNELS[name].mtf50, abs=0.02)


@pytest.mark.parametrize("found", [reached(3.5, 8.2), reached(None, None, None, (None, None))], ids=str)
def test_json_and_back(found):
    assert Reached.from_json(json.loads(json.dumps(found.to_json()))) == found
