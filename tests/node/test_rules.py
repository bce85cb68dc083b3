"""The rules of the node: the first one that fits a series counts, and a wrong one is named before anything starts."""

import pytest

from diffusionct_pipeline.commands._main import main
from diffusionct_pipeline.node.rules import Rule, first_rule, read_rules
from diffusionct_pipeline.utils.usage import UsageError

RULES = """
[[rule]]
name = "thin lung"
modality = "CT"
kernel = ["B70f", "Bl*"]
thickness = [0.5, 1.5]
body_part = "CHEST"
calling_ae = "SCANNER?"
target = "Br40"
noise = "target"

[[rule]]
name = "nothing of B10"
kernel = "B10*"
skip = true

[[rule]]
name = "all else"
modality = "CT"
"""
FITTING = {
    "Modality": "CT",
    "ConvolutionKernel": "b70f",
    "SliceThickness": "1.000",
    "BodyPartExamined": "CHEST",
    "calling AE": "SCANNER1",
}


@pytest.fixture
def rules(tmp_path):
    (tmp_path / "rules.toml").write_text(RULES)
    return read_rules(tmp_path / "rules.toml")


class TestTheFirst:
    def test_that_fits_counts(self, rules):
        assert first_rule(rules, FITTING).name == "thin lung"
        assert (rules[0].target, rules[0].noise, rules[1].skip, rules[2].target) == ("Br40", "target", True, None)

    @pytest.mark.parametrize(
        "other",
        [{"ConvolutionKernel": "B31f"}, {"SliceThickness": "3"}, {"SliceThickness": ""}, {"BodyPartExamined": None},
         {"calling AE": "SCANNER12"}, {"SliceThickness": "thin"}],
        ids=str,
    )  # fmt: skip
    def test_must_fit_in_all_that_it_names(self, rules, other):
        assert first_rule(rules, {**FITTING, **other}).name == "all else"

    def test_may_say_that_a_series_is_left_alone(self, rules):
        assert first_rule(rules, {**FITTING, "ConvolutionKernel": "B10s"}).skip

    def test_is_none_for_another_modality(self, rules):
        assert first_rule(rules, {**FITTING, "Modality": "MR"}) is None

    def test_without_conditions_fits_anything(self):
        assert Rule("any").fits({})


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "must hold tables"),
        ("x = 1\n[[rule]]\n", "'x'"),
        ("[[rule]\n", "must be TOML"),
        ("[[rule]]\nkernal = 'B70f'\n", "got 'kernal'"),
        ("[[rule]]\nkernel = 7\n", "`kernel` must be a text or a list"),
        ("[[rule]]\nthickness = 1\n", "[from, to] in mm, got 1"),
        ("[[rule]]\nnoise = -1\n", "got -1"),
        ("[[rule]]\nskip = 'no'\n", "`skip` must be a bool"),
        ("[[rule]]\ntarget = 'Br40'\nreference = '.'\n", "only one of"),
        ("[[rule]]\nreference = '/no such'\n", "does not exist"),
    ],
)
def test_a_wrong_one_is_named(tmp_path, text, said, capsys):
    (tmp_path / "rules.toml").write_text(text)
    with pytest.raises(UsageError) as error:
        read_rules(tmp_path / "rules.toml")
    assert said in str(error.value) and "rules.toml" in str(error.value)
    command = [
        "serve",
        "--orthanc",
        "http://127.0.0.1:9",
        "--rules",
        str(tmp_path / "rules.toml"),
        "--work",
        str(tmp_path),
    ]
    assert main(command) == 2


def test_serve_wants_rules_and_a_folder(capsys):
    assert main(["serve", "--orthanc", "http://127.0.0.1:9"]) == 2
    assert "--rules and --work are required" in capsys.readouterr().err
