"""What the README and the model card tell people to type exists, and the Python snippet runs."""

import re
import shlex
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from diffusionct_pipeline.cli import build_parser
from diffusionct_pipeline.pipeline import PRETRAINED

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
CARD = (ROOT / "model_card.md").read_text()


def blocks(text, language):
    """Code blocks of a Markdown text."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


BASH = "\n".join(blocks(README, "bash")).replace("\\\n", " ")
COMMANDS = [line.split("  #")[0].strip() for line in BASH.splitlines() if line]


def test_the_readme_holds_commands():
    programs = {"make", "pip", "diffusionct", "python", "accelerate", "training/train_all.sh", "training/train_systems.sh"}
    assert {line.split()[0] for line in COMMANDS} == programs


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("diffusionct")])
def test_command_lines_parse(line):
    program, *arguments = shlex.split(line)
    assert build_parser().parse_args(arguments).command == arguments[0]


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("make")])
def test_make_targets_exist(line):
    assert re.search(rf"^{line.split()[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("accelerate")])
def test_training_scripts_and_their_options_exist(line):
    from diffusionct_pipeline.train import AutoencoderOptions, LatentOptions, parse_options

    program, launch, script, *arguments = shlex.split(line)
    assert (ROOT / script).is_file()
    options = AutoencoderOptions if "autoencoder" in Path(script).name else LatentOptions
    assert parse_options(options, argv=arguments).output.startswith("runs/")


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("python")])
def test_scripts_and_their_options_exist(line):
    program, script, *arguments = shlex.split(line)
    text = (ROOT / script).read_text()
    assert all(f'"{argument}"' in text for argument in arguments if argument.startswith("--"))


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("training/")])
def test_shell_scripts_exist(line):
    assert (ROOT / line.split()[0]).is_file()


@pytest.mark.skipif(not (PRETRAINED / "model_index.json").is_file(), reason="no embedded checkpoint")
@pytest.mark.parametrize("text", [README, CARD], ids=["README", "model card"])
def test_the_first_python_snippet_runs(text, tmp_path, monkeypatch):
    (tmp_path / "slice.dcm").write_bytes(Path(get_testdata_file("CT_small.dcm")).read_bytes())
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(blocks(text, "python")[0], names)
    names["standardized"].save_as("out.dcm", enforce_file_format=True)
    assert dcmread("out.dcm").ConvolutionKernel == names["standardized"].ConvolutionKernel
    assert isinstance(names["standardized"], Dataset)
    assert "synth" in names["standardized"].ConvolutionKernel


@pytest.mark.parametrize("name", re.findall(r"`([a-z_]+(?:/|\.py))`", README))
def test_the_folders_and_files_it_names_exist(name):
    assert (ROOT / name).exists() or (ROOT / "diffusionct_pipeline" / name).exists()


@pytest.mark.parametrize("link", re.findall(r"\]\((?!http)([^)]+)\)", README))
def test_links_lead_somewhere(link):
    if not (PRETRAINED / "model_index.json").is_file() and ("pretrained" in link or link.endswith(".png")):
        pytest.skip("no embedded checkpoint, which makes the picture")
    assert (ROOT / link).is_file()


def test_it_opens_with_purpose_picture_and_warning():
    opening = README.split("## Two commands")[0]
    assert "not a medical device" in opening.lower() and "docs/demo.png" in opening
