"""The script that trains all rivals: each of them once, with equal budgets, and one record."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from diffusionct_pipeline.systems import ALL_SYSTEMS, SYSTEMS
from diffusionct_pipeline.train import LiteralAutoencoderOptions, LiteralLatentOptions, SystemOptions, parse_options

ROOT = Path(__file__).parents[2]
# Stands for `accelerate`: notes its arguments, quoted, and writes what the real one would write last.
STUB = """#!/usr/bin/env bash
printf '%q ' "$@" >> "$CALLS"; echo >> "$CALLS"
output=$(echo "$*" | sed 's/.*--output \\([^ ]*\\).*/\\1/')
mkdir -p "$output/checkpoints/step-00000010"
if [ -n "${STOP_AT:-}" ] && [[ "$*" == *"$STOP_AT"* ]]; then exit 1; fi
echo '{"system": {"steps": 10, "seconds": 5.0}}' > "$output/metrics.json"
"""
OPTIONS = {
    "train_system.py": SystemOptions,
    "train_literal_autoencoder.py": LiteralAutoencoderOptions,
    "train_literal_latent.py": LiteralLatentOptions,
}


@pytest.fixture
def run(tmp_path):
    """Runs the script; returns its exit code, what it printed, and script and options of each training."""
    (tmp_path / "accelerate").write_text(STUB)
    (tmp_path / "accelerate").chmod(0o755)
    (tmp_path / "python").symlink_to(sys.executable)
    calls = tmp_path / "calls"

    def run_all(*objects, **settings):
        calls.write_text("")
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CALLS": str(calls), "PYTHONPATH": str(ROOT)}
        command = ["bash", str(ROOT / "training/train_systems.sh"), "600", str(tmp_path / "out"), *objects]
        environment = os.environ | environment | settings
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
        called = []
        for line in calls.read_text().splitlines():
            launch, script, *arguments = shlex.split(line)
            called.append(parse_options(OPTIONS[Path(script).name], argv=arguments))
        return done.returncode, done.stdout + done.stderr, called

    return run_all


def test_every_system_that_is_trained_and_equal_budgets(run, tmp_path):
    code, printed, called = run("sharp ct", "more")
    assert code == 0, printed
    record = json.loads((tmp_path / "out/record.json").read_text())
    assert set(record["systems"]) == set(ALL_SYSTEMS) - set(SYSTEMS) and record["budget_seconds"] == 600
    rivals = [options for options in called if isinstance(options, SystemOptions)]
    assert [options.max_seconds for options in rivals] == [600] * len(rivals) == [600] * 9
    assert [options.max_seconds for options in called[9:]] == [300, 300]
    assert called[10].autoencoder.endswith("encoder_decoder/autoencoder")
    assert all(options.objects == ["sharp ct", "more"] and not options.resume for options in called)
    for name, entry in record["systems"].items():
        assert (tmp_path / "out" / entry["folder"] / "metrics.json").is_file()
        assert entry["seconds"] == (10 if "literal" in name else 5)
    assert not list((tmp_path / "out").glob("*/checkpoints"))


def test_goes_on_where_it_stopped(run, tmp_path):
    code, _, called = run(STOP_AT="GANai")
    assert code == 1 and len(called) == 4 and not (tmp_path / "out/record.json").exists()
    code, printed, called = run()
    assert code == 0 and len(re.findall("skipped", printed)) == 3
    assert [options.resume for options in called] == ["latest"] + [""] * 7


def test_small_networks_and_options(run):
    called = run(SMALL="1", OPTIONS="--batch-size 4", LITERAL="--cpu", SYSTEMS="U-Net, L1;STAN-CT;DDPM")[2]
    assert [options.system for options in called] == ["U-Net, L1", "STAN-CT", "DDPM"]
    assert all(options.batch_size == 4 and options.crop == 128 for options in called)
    assert called[1].network_arguments == {"downs": 7, "base_channels": 32}
    assert called[1].validation_steps == 500 and called[2].validation_steps == 0
