"""What README, card and pages tell people to type exists, their snippets run, and their links lead somewhere."""

import ast
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import tomllib
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from diffusionct_pipeline import commands
from diffusionct_pipeline.commands._main import build_parser
from diffusionct_pipeline.pipeline import PRETRAINED

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
CARD = (ROOT / "model_card.md").read_text()
HOW_TO = sorted((ROOT / "docs/how-to").glob("*.md"))
# Pages that are written by hand; docs/study holds reports that the study wrote.
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs").glob("*/*.md"))]
PAGES = [page for page in PAGES if page.parent.name != "study"]
LONGEST_README = 8000  # bytes
needs_checkpoint = pytest.mark.skipif(not (PRETRAINED / "model_index.json").is_file(), reason="no embedded checkpoint")


def blocks(text, language):
    """Code blocks of a Markdown text."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands_of(pages):
    """Command lines of Bash blocks, without comments, files for their output and variables that are set for one command."""
    bash = "\n".join("\n".join(blocks(page.read_text(), "bash")) for page in pages).replace("\\\n", " ")
    bash = re.sub(r" > \S+$", "", bash, flags=re.MULTILINE)
    lines = (re.sub(r'^(\w+="[^"]*" )+', "", line.split("  #")[0]).strip() for line in bash.splitlines() if line)
    return list(dict.fromkeys(lines))


# The recipe of docs/paper.md has its own test, tests/test_paper.py.
COMMANDS = commands_of(page for page in PAGES if page.name != "paper.md")


def those_of(program):
    """Command lines that start with a program."""
    return [line for line in COMMANDS if line.startswith(program)]


def test_the_pages_hold_commands():
    programs = {"git", "cd", "pip", "diffusionct", "python", "accelerate", "podman"}
    programs |= {"training/train_all.sh", "training/train_systems.sh"}
    assert {line.split()[0] for line in COMMANDS} == programs


def test_the_readme_installs_and_standardizes():
    lines = commands_of([ROOT / "README.md"])
    assert [line.split()[0] for line in lines] == ["git", "cd", "pip", "diffusionct"]


def test_every_command_has_an_example():
    shown = {line.split()[1] for line in those_of("diffusionct")}
    named = set(re.findall(r"`diffusionct (\w+)", "".join(page.read_text() for page in PAGES)))
    assert set(commands.available()) - shown - named <= {"demo"}  # `make demo` runs it


@pytest.mark.parametrize("line", those_of("diffusionct"))
def test_command_lines_parse(line):
    program, *arguments = shlex.split(line)
    assert build_parser().parse_args(arguments).command == arguments[0]


@pytest.mark.parametrize("target", sorted({t for page in PAGES for t in re.findall(r"`make (\w+)`", page.read_text())}))
def test_make_targets_exist(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("line", those_of("pip"))
def test_extras_exist(line):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = re.search(r"\[(.*)\]", line)[1].split(",")
    assert set(named) <= set(extras) and (ROOT / "constraints.txt").is_file()


@pytest.mark.parametrize("line", those_of("accelerate"))
def test_training_scripts_and_their_options_exist(line):
    from diffusionct_pipeline.train import AutoencoderOptions, LatentOptions, parse_options

    program, launch, script, *arguments = shlex.split(line)
    assert (ROOT / script).is_file()
    options = AutoencoderOptions if "autoencoder" in Path(script).name else LatentOptions
    assert parse_options(options, argv=arguments).output.startswith("runs/")


@pytest.mark.parametrize("line", those_of("python"))
def test_scripts_and_their_options_exist(line):
    program, script, *arguments = shlex.split(line)
    text = (ROOT / script).read_text()
    assert all(f'"{argument}"' in text for argument in arguments if argument.startswith("--"))


@pytest.mark.parametrize("line", those_of("training/"))
def test_shell_scripts_exist(line):
    assert (ROOT / line.split()[0]).is_file()


@pytest.fixture
def scans(tmp_path, monkeypatch):
    """A working folder with the files that the snippets name."""
    slice_bytes = Path(get_testdata_file("CT_small.dcm")).read_bytes()
    (tmp_path / "series_folder").mkdir()
    for path in ("slice.dcm", "series_folder/1.dcm"):
        (tmp_path / path).write_bytes(slice_bytes)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@needs_checkpoint
@pytest.mark.parametrize("page", ["README.md", "model_card.md", "docs/index.md"])
def test_the_first_python_snippet_runs(page, scans):
    names = {}
    exec(blocks((ROOT / page).read_text(), "python")[0], names)
    names["standardized"].save_as("out.dcm", enforce_file_format=True)
    assert dcmread("out.dcm").ConvolutionKernel == names["standardized"].ConvolutionKernel
    assert isinstance(names["standardized"], Dataset)
    assert "synth" in names["standardized"].ConvolutionKernel


@needs_checkpoint
def test_every_snippet_of_the_python_page_runs(scans):
    hu = np.random.default_rng(0).normal(40, 20, (64, 64)).round()
    names = {"hu": hu, "hu_reference": 3 * hu}
    for block in blocks((ROOT / "docs/how-to/python.md").read_text(), "python"):
        exec(block, names)
    assert dcmread("out.dcm").ImageType[0] == "DERIVED"
    assert names["out"].images[0].shape == hu.shape and names["out"].images[0].dtype == np.float32


@needs_checkpoint
def test_the_snippet_of_the_volumes_page_runs(scans):
    nibabel = pytest.importorskip("nibabel")
    from diffusionct_pipeline import DiffusionCTPipeline

    hu = np.random.default_rng(0).normal(40, 20, (64, 64, 2)).round().astype(np.int16)
    nibabel.Nifti1Image(hu, np.diag([-0.7, -0.7, 2.0, 1.0])).to_filename("scan.nii.gz")
    (block,) = blocks((ROOT / "docs/how-to/volumes.md").read_text(), "python")
    exec(block, {"pipe": DiffusionCTPipeline.from_pretrained()})
    assert nibabel.load("standardized.nii.gz").shape == hu.shape


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/training.md"])
def test_the_folders_and_files_it_names_exist(page):
    names = re.findall(r"`([a-z_/]+(?:/|\.py|\.sh))`", (ROOT / page).read_text())
    bases = (ROOT, ROOT / "diffusionct_pipeline", ROOT / "training")
    assert [name for name in names if not any((base / name).exists() for base in bases)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_scripts_that_are_named_exist(page):
    named = re.findall(r"(?<![\w/])(?:benchmarks|examples|training)/\w+\.(?:py|sh|ipynb)", page.read_text())
    assert [name for name in named if not (ROOT / name).is_file()] == []


def messages():
    """Every text of the package, as far as it is not filled in."""
    trees = (ast.parse(path.read_text()) for path in (ROOT / "diffusionct_pipeline").rglob("*.py"))
    nodes = (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return [node.value for node in nodes if isinstance(node.value, str)]


def test_the_messages_of_typical_problems_are_those_of_the_package():
    quoted = re.findall(r'\*\*"([^"]+)"', (ROOT / "docs/troubleshooting.md").read_text())
    texts, unknown = messages(), []
    for quote in quoted:
        fragment = max(re.split(r"\.\.\.|\d+|`\w+`", quote.rstrip(".")), key=len).strip()
        if not any(fragment in text for text in texts):
            unknown.append(quote)
    assert len(quoted) > 3 and unknown == []


def anchors(page):
    """Anchors of the headings of a page, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), re.MULTILINE)
    made = {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
    return made | set(commands.available() if page.name == "command_line.md" else ())  # the site fills them in


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    lost = []
    for link in re.findall(r"\]\((?!http)([^)\s]+)\)", page.read_text()):
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        if not target.is_file() or (anchor and anchor not in anchors(target)):
            lost.append(link)
    assert lost == []


def test_every_page_can_be_reached_from_the_readme():
    reached, ahead = set(), [ROOT / "README.md"]
    while ahead:
        page = ahead.pop().resolve()
        if page in reached or page.suffix != ".md" or not page.is_file():
            continue
        reached.add(page)
        ahead += [page.parent / link for link in re.findall(r"\]\((?!http)([^)#\s]+)", page.read_text())]
    apart = ("index.md", "tutorial.md", "command_line.md")  # of the site
    missing = [page.name for page in [*HOW_TO, *(ROOT / "docs").glob("*.md")] if page.resolve() not in reached]
    assert [name for name in missing if name not in apart] == []


def test_it_is_short_and_opens_with_purpose_picture_and_warning():
    assert len(README.encode()) <= LONGEST_README
    opening = README.split("## Install")[0]
    assert "not a medical device" in opening.lower() and "docs/demo.png" in opening


def test_it_can_be_cited():
    (entry,) = blocks(README, "bibtex")
    assert "2301.08815" in entry and entry.count("{") == entry.count("}")
