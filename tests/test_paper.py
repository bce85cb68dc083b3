"""docs/paper.md names code that exists, and its recipe is legal."""

import ast
import re
import shlex
from pathlib import Path

import pytest

import diffusionct_pipeline
from diffusionct_pipeline.train import LiteralAutoencoderOptions, LiteralLatentOptions, parse_options

ROOT = Path(__file__).parents[1]
PAPER = (ROOT / "docs" / "paper.md").read_text()
NAMES = sorted(set(re.findall(r"`([\w/]+\.py):([\w.]+)`", PAPER)))
COMMANDS = re.search(r"```bash\n(.*?)```", PAPER, re.DOTALL).group(1).replace("\\\n", " ").splitlines()


def test_it_leads_to_code():
    assert len(NAMES) > 20


@pytest.mark.parametrize(("file", "name"), NAMES)
def test_every_name_exists(file, name):
    body = ast.parse((Path(diffusionct_pipeline.__file__).parent / file).read_text()).body
    for part in name.split("."):
        found = [node for node in body if getattr(node, "name", None) == part]
        assert found, f"{file} has no {name}"
        body = found[0].body


@pytest.mark.parametrize("path", re.findall(r"`((?:tests|benchmarks|training)/[\w/]+\.py)", PAPER))
def test_every_file_exists(path):
    assert (ROOT / path).is_file()


@pytest.mark.parametrize(("options", "line"), list(zip((LiteralAutoencoderOptions, LiteralLatentOptions), COMMANDS)))
def test_the_recipe_is_one_command_for_each_phase(options, line):
    program, launch, script, *arguments = shlex.split(line)
    assert len(COMMANDS) == 2 and (ROOT / script).is_file()
    given = parse_options(options, argv=arguments)
    assert (given.weight_decay, given.ema_decay) == (0, 0)
