"""The numbered examples and the tutorial run as they stand, offline, in an empty folder.

They load the embedded checkpoint; where a source tree has none yet, a tiny random one takes its place, as the examples
must run but their figures are not asserted.
"""

import importlib.util
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from accelerate.state import AcceleratorState
from helpers.dicom import make_slice, save
from helpers.scans import coarsen
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
    assert derived.ConvolutionKernel in ("Bl64 synthetic", "uncertain synth")  # a slice of 128 pixels shows little skin
    assert derived.DerivationDescription in printed


def test_02_standardize_to_a_reference(run):
    assert [line.split()[0] for line in run("02_standardize_to_a_reference.py")] == ["input", "output", "target"]


def test_03_swap_the_scheduler(run):
    printed = run("03_swap_the_scheduler.py")
    assert [line.split()[0] for line in printed] == ["DDPMScheduler", "DDIMScheduler", "DPMSolverMultistepScheduler"]
    assert printed[0].endswith(" 0.00 HU")  # the same scheduler twice


def test_04_simulate_and_train_tiny(run, tmp_path, monkeypatch):
    coarsen(monkeypatch)
    AcceleratorState._reset_state(reset_partial_state=True)  # one process trains once; other tests train too
    printed = [line for line in run("04_simulate_and_train_tiny.py", "out") if " HU" in line]
    assert [line.split()[0] for line in printed] == ["Br40", "standardized", "Bl64"]
    soft, ours, sharp = (float(line.split()[-2]) for line in printed)
    assert soft < ours  # even a toy raises the noise towards that of the sharp kernel
    assert (tmp_path / "out/phase2/model_index.json").is_file()


def test_06_monai_and_torchio(run):
    """With whichever of the two is installed."""
    printed = run("06_monai_and_torchio.py")
    absent = [name for name in ("MONAI", "TorchIO") if not importlib.util.find_spec(name.lower())]
    assert [line.split()[0] for line in printed if "is not installed" in line] == absent
    printed = printed[len(absent) :]
    assert [line.split()[0] for line in printed][:2] == ["input", "tensor"]
    assert len({line.split(maxsplit=1)[1] for line in printed[1:]}) == 1, "the same in every kind"


def test_07_simpleitk_and_mirp(run):
    """With MIRP where it is installed."""
    pytest.importorskip("SimpleITK")
    printed = [
        line
        for line in run("07_simpleitk_and_mirp.py")
        if line.split()[0] in ("input", "standardized", "target", "MIRP")
    ]
    assert [line.split()[0] for line in printed[:3]] == ["input", "standardized", "target"]
    assert all("spacing (0.7, 0.7, 2.0) mm" in line for line in printed[:3])
    if importlib.util.find_spec("mirp"):
        assert [line.split()[0] for line in printed[3:]] == ["input", "standardized", "target"]
    else:
        assert printed[3:] == ["MIRP is skipped, as it is not installed: pip install mirp"]


def test_05_agreement_on_a_phantom(run, tmp_path):
    """On a tiny pair; without arguments it simulates one."""
    pytest.importorskip("matplotlib")
    noise = np.rint(np.random.default_rng(0).normal(40, 60, (64, 96)))
    for series, (name, hu) in enumerate({"sharp": noise, "soft": np.rint(noise / 2)}.items(), start=1):
        (tmp_path / name).mkdir()
        save(make_slice(hu, series=series), tmp_path / name / "1.dcm")
    printed = run("05_agreement_on_a_phantom.py", "out", "sharp", "soft")
    assert printed[0].startswith("soft against sharp in 6 regions")
    assert [line.split()[0] for line in printed[1:]] == ["GOH", "GLCM", "GLRLM", "ID", "IH", "NID", "all"]
    assert (tmp_path / "out/report.md").is_file()


def test_the_paper_in_one_file(run):
    tiny = ("--steps", 2, "--batch", 1, "--crop", 32, "--size", 64, "--sampling-steps", 2)
    printed = run("paper_in_one_file.py", *tiny)
    assert [line.split("  ")[0] for line in printed[:8]] == ["phase one"] * 2 + ["phase two"] * 6
    rows = ["A", "decode(Z_A)", "decode(DDPM(Z_A))", "decode(Z_B)", "B"]
    assert [line.split()[0] for line in printed[-5:]] == rows
    assert printed[-1].endswith("within 15 % 100%   CCC  1.00")  # B is the standard itself


def test_the_paper_in_one_file_is_one_page():
    assert len((EXAMPLES / "paper_in_one_file.py").read_text().splitlines()) <= 300


def test_the_tutorial(run, tmp_path):
    """Its cells as a script, which needs no Jupyter."""
    cells = json.loads((EXAMPLES / "tutorial.ipynb").read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    (tmp_path / "tutorial.py").write_text("\n\n".join(code))
    printed = run(tmp_path / "tutorial.py")
    assert [line.split()[0] for line in printed] == ["(256,", "Br40,", "standardized", "Bl64,", "fine", "samples"]
    assert printed[-1].startswith("samples (3, 256, 256)")


@pytest.mark.slow
def test_the_tutorial_in_jupyter(tmp_path):
    client, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(EXAMPLES / "tutorial.ipynb", as_version=4)
    nbformat.validate(notebook)
    client.NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}}).execute()
