"""The benchmarks that need a GPU or a quiet machine run anywhere, at a size that says nothing about speed."""

import json
import runpy
import sys
from pathlib import Path

import pytest
from helpers.tiny import tiny_pipeline

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Runs a benchmark with a tiny checkpoint; returns what it printed."""
    pipe = tiny_pipeline()
    pipe.denoiser.deviation[pipe.denoiser.channels.power] = 5.0  # what is sampled must scatter to be followed
    pipe.save_pretrained(tmp_path)
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def run_benchmark(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, "--model", str(tmp_path), *arguments])
        runpy.run_path(str(BENCHMARKS / name), run_name="__main__")
        return capsys.readouterr().out

    return run_benchmark


def test_gpu_runs_on_a_cpu(run):
    result = json.loads(run("gpu.py", "--device", "cpu", "--quick"))
    for precision in ("float32", "fast"):
        assert set(result["batches"][precision]) == {"1", "2"}
        assert all(row["denoise ms"] > 0 and row["memory GiB"] is None for row in result["batches"][precision].values())
        series = result["series"][precision]
        assert series["slices"] == series["equal files"] == 3 and series["run"] > 0
    assert result["agreement"]["regions"] > 0
    assert 0.9 < result["agreement"]["fast against float32"]["CCC"] <= 1


def test_stages_names_each_once(run):
    lines = run("stages.py", "--size", "64", "--runs", "1").splitlines()
    stages = ["read", "noise", "encode", "estimate", "denoise", "decode", "derive", "write", "all"]
    assert [line.split()[0] for line in lines[1:-1]] == stages
    assert all(float(line.split()[1]) > 0 for line in lines[1:-1])
