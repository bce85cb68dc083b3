"""The site builds without a warning and is a site: every command, and every public name with what it says of itself."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import diffusionct_pipeline
from diffusionct_pipeline import (
    cohort,
    commands,
    dicom,
    estimation,
    evaluation,
    publishing,
    radiomics,
    simulation,
    volumes,
)
from diffusionct_pipeline.comparison import study
from diffusionct_pipeline.metrics.texture import TEXTURE_FIGURES

ROOT = Path(__file__).parents[1]
PACKAGES = (cohort, dicom, estimation, evaluation, publishing, radiomics, simulation, study, volumes)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    for tool in ("sphinx", "myst_parser", "furo"):
        pytest.importorskip(tool)
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "-d", folder / "trees"]
    done = subprocess.run([*command, ROOT / "docs", folder / "html"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "html"


class TestSite:
    def test_starts_with_the_way_in(self, site):
        text = (site / "index.html").read_text()
        wanted = ("Install", "Quick start", "Research use only", "tutorial.html")
        assert [word for word in wanted if word not in text] == []

    def test_has_the_help_of_every_command(self, site):
        text = (site / "command_line.html").read_text()
        assert [name for name in commands.available() if f"usage: diffusionct {name}" not in text] == []

    def test_shows_the_tutorial(self, site):
        assert "simulate_pair" in (site / "tutorial.html").read_text()

    def test_documents_the_pipelines_call(self, site):
        text = (site / "api/pipeline.html").read_text()
        assert 'id="diffusionct_pipeline.DiffusionCTPipeline.__call__"' in text and "pixel_spacing" in text

    @pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__.split(".")[1])
    def test_documents_every_public_function_and_class(self, site, package):
        name = package.__name__
        text = (site / f"api/{name.split('.')[1]}.html").read_text()
        documented = [item for item in package.__all__ if callable(getattr(package, item))]
        assert documented and [item for item in documented if f'id="{name}.{item}"' not in text] == []


def test_the_glossary_has_every_class_and_figure():
    text = (ROOT / "docs/glossary.md").read_text()
    names = [*radiomics.FEATURE_CLASSES, *(f"`{name}`" for name in TEXTURE_FIGURES)]
    assert [name for name in names if name not in text] == []


def test_the_package_says_that_it_has_types():
    assert (Path(diffusionct_pipeline.__file__).parent / "py.typed").is_file()
    assert '"py.typed"' in (ROOT / "pyproject.toml").read_text()
    # An editable install is then a folder on the path, which mypy and pyright follow; an import hook they do not run.
    assert 'package-dir = {"" = "."}' in (ROOT / "pyproject.toml").read_text()


def test_the_citation_is_of_this_version_and_names_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == diffusionct_pipeline.__version__ and citation["license"] == "Apache-2.0"
    (paper,) = citation["references"]
    assert [author["family-names"] for author in paper["authors"]] == ["Selim", "Zhang", "Brooks", "Wang", "Chen"]
