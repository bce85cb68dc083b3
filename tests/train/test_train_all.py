"""The script that trains everything: its stages, in order, each of them once."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from diffusionct_pipeline.train import AutoencoderOptions, LatentOptions, parse_options

ROOT = Path(__file__).parents[2]
# Stands for `python` and `accelerate`: notes its arguments and writes what the real one would write last.
STUB = """#!/usr/bin/env bash
echo "$(basename "$0") $*" >> "$CALLS"
if [ -n "${STOP_AT:-}" ] && [[ "$*" == *"$STOP_AT"* ]]; then mkdir -p "$OUT/latent/checkpoints/step-00000010"; exit 1; fi
case "$*" in
    *train_autoencoder*) mkdir -p "$OUT/autoencoder"; touch "$OUT/autoencoder/metrics.json" ;;
    *train_latent*) mkdir -p "$OUT/latent"; touch "$OUT/latent/metrics.json" ;;
    *export_checkpoint*) mkdir -p "$OUT/checkpoint"; touch "$OUT/checkpoint/metrics.json" ;;
esac
"""


@pytest.fixture
def run(tmp_path):
    """Runs the script; returns its exit code, what it printed and what it called."""
    for name in ("python", "accelerate"):
        (tmp_path / name).write_text(STUB)
        (tmp_path / name).chmod(0o755)
    calls = tmp_path / "calls"

    def run_all(*objects, **settings):
        calls.write_text("")
        path = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CALLS": str(calls), "OUT": str(tmp_path / "out")}
        command = ["bash", str(ROOT / "training/train_all.sh"), str(tmp_path / "out"), *objects]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ | path | settings)
        return done.returncode, done.stdout.splitlines(), calls.read_text().splitlines()

    return run_all


def test_four_stages_with_their_seconds(run):
    code, printed, called = run("sharp ct")
    assert code == 0 and [re.fullmatch(r"(\w+): \d+ s", line).group(1) for line in printed] == [
        "scans", "autoencoder", "latent", "export",
    ]  # fmt: skip
    scripts = [re.search(r"training/(\w+)\.py", line).group(1) for line in called]
    assert scripts == ["simulate_scans", "train_autoencoder", "train_latent", "export_checkpoint"]
    assert "--objects sharp ct" in called[0] and not any("--resume" in line for line in called)


@pytest.mark.parametrize(("number", "options"), [(1, AutoencoderOptions), (2, LatentOptions)])
def test_the_options_of_the_phases_exist(run, number, options):
    called = run()[2]
    program, launch, script, *arguments = shlex.split(called[number])
    assert parse_options(options, argv=arguments).scans.endswith("out/scans")


def test_a_second_time_what_is_done_is_skipped(run):
    run()
    code, printed, called = run()
    assert code == 0 and len(called) == 1 and "simulate_scans" in called[0]  # which leaves the scans that are there
    assert sum("skipped" in line for line in printed) == 3


def test_it_stops_at_a_failure_and_goes_on_there(run):
    code, printed, _ = run(STOP_AT="train_latent")
    assert code == 1 and len(printed) == 2
    code, printed, called = run()
    assert code == 0 and len(called) == 3 and "--resume latest" in called[1]


def test_stages_take_options(run):
    called = run(SCANS="--groups 3", LATENT="--max-steps 5 --cpu")[2]
    assert called[0].endswith("--groups 3") and called[2].endswith("--max-steps 5 --cpu")
