"""The numbered examples run as they stand, offline, in an empty folder.

They load the embedded checkpoint; where a source tree has none yet, a tiny random one takes its place, as the examples
must run but their figures are not asserted.
"""

import runpy
import sys
from pathlib import Path

import pydicom
import pytest
from helpers.tiny import tiny_pipeline

from diffusionct_pipeline import pipeline

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Runs an example in `tmp_path`; returns the lines that it printed."""
    if not (pipeline.PRETRAINED / "model_index.json").is_file():
        tiny_pipeline().save_pretrained(tmp_path / "checkpoint")
        monkeypatch.setattr(pipeline, "PRETRAINED", tmp_path / "checkpoint")
    monkeypatch.chdir(tmp_path)

    def run_example(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out.splitlines()

    return run_example


def test_01_standardize_one_slice(run, tmp_path):
    printed = run("01_standardize_one_slice.py")
    derived = pydicom.dcmread(tmp_path / "standardized.dcm")
    assert list(derived.ImageType)[0] == "DERIVED"
    assert "Bl64" in derived.ConvolutionKernel
    assert derived.DerivationDescription in printed


def test_02_standardize_to_a_reference(run):
    assert [line.split()[0] for line in run("02_standardize_to_a_reference.py")] == ["input", "output", "target"]


def test_03_swap_the_scheduler(run):
    printed = run("03_swap_the_scheduler.py")
    assert [line.split()[0] for line in printed] == ["DDPMScheduler", "DDIMScheduler", "DPMSolverMultistepScheduler"]
    assert printed[0].endswith(" 0.00 HU")  # the same scheduler twice
