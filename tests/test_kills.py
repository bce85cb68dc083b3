"""Any command, killed or interrupted at any time, leaves whole results, and the same command ends as if undisturbed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.dicom import make_slice, save

TESTS = Path(__file__).parent
SIZE = 96


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two series of one scan and a mask."""
    folder = tmp_path_factory.mktemp("pair")
    draw = np.random.default_rng(0)
    for series, (name, deviation) in enumerate((("soft", 20), ("sharp", 60)), start=1):
        (folder / name).mkdir()
        for number in (1, 2, 3):
            hu = draw.normal(40, deviation, (SIZE, SIZE)).round()
            hu[:20] = -1000
            save(
                make_slice(hu, number=number, series=series, ConvolutionKernel=f"K{series}"),
                folder / name / f"{number}.dcm",
            )
    mask = np.zeros((3, SIZE, SIZE), np.uint8)
    mask[1, 40:60, 40:60] = 1
    np.savez_compressed(folder / "mask.npz", mask=mask)
    return folder


def commands(pair, model):
    soft, sharp = str(pair / "soft"), str(pair / "sharp")
    evaluate = ["evaluate", "--standard", sharp, "--candidate", soft, "--mask", str(pair / "mask.npz"), "--out", "OUT"]
    kernels = ["--kernels", "Br40", "--thickness", "3"]
    return {
        "standardize": ["standardize", soft, "OUT", "--model", model],
        "simulate": ["simulate", "OUT", "--phantoms", "2", "--slices", "1", *kernels],
        "characterise": ["characterise", str(pair), "--out", "OUT", "--model", model],
        "adapt": ["adapt", "--target", sharp, "--unpaired", "--model", model, "--out", "OUT"],
        "publish": ["publish", model, "user/repo", "--license", "apache-2.0", "--dry-run", "OUT"],
        "evaluate": evaluate,
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", commands(Path(), ""))
def test_at_random_times_cost_nothing_but_time(name, pair, tmp_path, model):
    trials = os.environ.get("DIFFUSIONCT_KILLS", "8")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}
    command = [sys.executable, TESTS / "helpers/kill_commands.py", tmp_path / "work", trials, "0"]
    done = subprocess.run([*command, *commands(pair, model)[name]], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    print(name, found)
    assert found["problems"] == []
