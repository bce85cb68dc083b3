"""All rivals of the comparison: each of them once, with equal budgets, and one record."""

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest

from diffusionct_pipeline.comparison.systems import ALL_SYSTEMS, SYSTEMS
from diffusionct_pipeline.comparison.training import RIVALS, RivalsOptions, rivals, train_rivals
from diffusionct_pipeline.comparison.training.rivals import ENCODER_DECODER, LITERAL, folder_of
from diffusionct_pipeline.train import parse_options

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "training/train_systems.sh"


@pytest.fixture
def trained(monkeypatch):
    """Options of every training, in turn; trainings only note them and write what the real ones write last."""
    called = []

    def train(options, *phase):
        called.append(options)
        folder = Path(options.output)
        (folder / "checkpoints/step-00000010").mkdir(parents=True, exist_ok=True)
        if getattr(options, "system", "") == train.stop_at:
            raise KeyboardInterrupt
        (folder / "metrics.json").write_text('{"system": {"steps": 10, "seconds": 5.0}}')

    train.stop_at = None
    called_with = lambda: called  # noqa: E731
    called_with.stop_at = lambda name: setattr(train, "stop_at", name)
    monkeypatch.setattr(rivals, "train", train)
    monkeypatch.setattr(rivals, "train_system", train)
    return called_with


def test_every_system_that_is_trained_and_equal_budgets(trained, tmp_path):
    record = train_rivals(RivalsOptions(output=str(tmp_path), budget_seconds=600, objects=["a", "b"]))
    assert record == json.loads((tmp_path / "record.json").read_text()) and record["budget_seconds"] == 600
    assert set(record["systems"]) == set(RIVALS) == set(ALL_SYSTEMS) - set(SYSTEMS)
    assert [options.max_seconds for options in trained()] == [600] * 9 + [300] * 2
    assert trained()[-1].autoencoder == str(tmp_path / "encoder_decoder/autoencoder")
    assert all(options.objects == ["a", "b"] and not options.resume for options in trained())
    for name, entry in record["systems"].items():
        assert (tmp_path / entry["folder"] / "metrics.json").is_file()
        assert entry["seconds"] == (10 if name == LITERAL else 5)
    assert not list(tmp_path.glob("*/checkpoints"))


def test_goes_on_where_it_stopped(trained, tmp_path):
    options = RivalsOptions(output=str(tmp_path))
    trained.stop_at("GANai")
    with pytest.raises(KeyboardInterrupt):
        train_rivals(options)
    assert len(trained()) == 4 and not (tmp_path / "record.json").exists()
    trained.stop_at(None)
    train_rivals(options)
    assert [options.resume for options in trained()[4:]] == ["latest"] + [""] * 7


def test_small_networks_for_a_cpu(trained, tmp_path):
    wanted = ["U-Net, L1", "STAN-CT", "DDPM"]
    train_rivals(RivalsOptions(output=str(tmp_path), systems=wanted, size="small", batch_size=4, cpu=True))
    assert [options.system for options in trained()] == wanted
    assert all(options.batch_size == 4 and options.crop == 128 and options.cpu for options in trained())
    assert trained()[1].network_arguments == {"downs": 7, "base_channels": 32}
    assert trained()[1].validation_steps == 500 and trained()[2].validation_steps == 0


def test_the_papers_recipe_brings_its_first_phase(trained, tmp_path):
    record = train_rivals(RivalsOptions(output=str(tmp_path), systems=[LITERAL]))
    assert set(record["systems"]) == {ENCODER_DECODER, LITERAL}


def test_folders_differ():
    assert len({folder_of(name) for name in RIVALS}) == len(RIVALS)


@pytest.mark.parametrize(("name", "value"), [("systems", ["pix3pix"]), ("budget_seconds", 0), ("size", "large")])
def test_wrong_options_are_named(name, value):
    with pytest.raises(ValueError, match=f"`{name}` "):
        RivalsOptions(**{name: value})


def test_the_script_hands_its_arguments_on(tmp_path):
    (tmp_path / "accelerate").write_text("#!/usr/bin/env bash\nprintf '%q ' \"$@\"\n")
    (tmp_path / "accelerate").chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "OPTIONS": "--size small --cpu"}
    command = ["bash", str(SCRIPT), "600", "out", "sharp ct", "more"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=True)
    launch, script, *arguments = shlex.split(done.stdout)
    assert launch == "launch" and (ROOT / script).is_file()
    options = parse_options(RivalsOptions, argv=arguments)
    assert (options.budget_seconds, options.output, options.objects) == (600, "out", ["sharp ct", "more"])
    assert options.size == "small" and options.cpu
