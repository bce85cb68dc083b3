"""The layers of the package, read from its sources: an import may only go down, and optional packages stay optional."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import diffusionct_pipeline
from diffusionct_pipeline.optional import OPTIONAL

PACKAGE = Path(diffusionct_pipeline.__file__).parent
SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if "pretrained" not in path.parts)

# Layer of every module or folder, by its longest matching prefix; a module imports from lower layers or its own folder.
LAYERS = {
    "registration": 0,
    "files": 0,
    "usage": 0,
    "devices": 1,
    "archives": 0,
    "seeds": 0,
    "padding": 0,
    "optional": 0,
    "noise": 1,
    "dicom": 1,
    "radiomics": 1,
    "radiomics.ibsi": 2,
    "simulation": 2,
    "evaluation": 3,  # reads masks as volumes are read
    "sample_files": 2,
    "volumes": 2,
    "models": 2,
    "models.texture": 3,
    "losses": 3,
    "image_processor": 3,
    "estimation": 4,
    "checkpoint": 4,
    "preview_crops": 4,
    "preview": 5,
    "sampled": 4,
    "scan_estimate": 5,
    "training_data": 5,
    "step": 6,
    "pipeline_output": 7,
    "reached": 7,
    "provenance": 8,
    "finished": 9,
    "pipeline": 9,
    "run_report": 9,
    "earlier_run": 10,
    "sources": 10,
    "transforms": 10,
    "publishing": 10,
    "characterise": 10,
    "fast": 10,
    "adapt": 10,
    "systems": 11,
    "train": 12,
    "folder_job": 12,
    "folder_scans": 13,
    "adapt_folders": 13,
    "folder_previews": 13,
    "evaluation.series": 13,
    "characterise.measure": 14,
    "characterise.folder": 14,
    "characterise.report": 14,
    "characterise.figures": 14,
    "study": 14,
    "cohort": 14,
    "standardize_volumes": 14,
    "page": 14,
    "standardize_folder": 15,
    "series_list": 11,
    "standardize_listed": 16,
    "node": 16,
    "demo": 16,
    "app": 16,
    "commands": 17,
    "cli": 18,
}
# The first layer is numpy and scipy; only the simulator may use torch.
WITHOUT_TORCH = (
    "dicom", "radiomics", "evaluation.agreement", "registration", "files", "usage", "seeds", "optional", "__init__", "commands",
    "cli",
)  # fmt: skip
MODELS_NEVER_SEE = ("dicom", "image_processor", "simulation", "pydicom")


def module_name(path):
    """diffusionct_pipeline/models/x.py -> "models.x"; a package's own file is named "models.__init__"."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def imports(path, top_level_only=False):
    """Absolute names that a file imports, those of the package without its name: "dicom.reading", "torch"."""
    package = ["diffusionct_pipeline", *path.relative_to(PACKAGE).parent.parts]
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *(node.module or "").split(".")] if node.module else base
            names = [".".join([*base, alias.name]) for alias in node.names]
        else:
            continue
        yield from (name.removeprefix("diffusionct_pipeline.") for name in names)


def layer_of(name):
    """Layer of a module of the package, None for other packages."""
    parts = name.split(".")
    prefixes = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((LAYERS[prefix] for prefix in prefixes if prefix in LAYERS), None)


def is_within(name, packages):
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def violations(package, forbidden, top_level_only=False):
    """Imports of `forbidden` by modules within `package` ("" for all)."""
    return [
        (module_name(path), imported)
        for path in SOURCES
        if not package or is_within(module_name(path), [package])
        for imported in imports(path, top_level_only)
        if is_within(imported, forbidden)
    ]


def test_every_module_has_a_layer():
    names = [module_name(path) for path in SOURCES]
    assert [name for name in names if name != "__init__" and layer_of(name) is None] == [], "add them to LAYERS"


def test_imports_go_down():
    wrong = []
    for path in SOURCES:
        name = module_name(path)
        own_folder = name.rsplit(".", 1)[0] if "." in name else name
        for imported in imports(path):
            layer = layer_of(imported)
            if None in (layer, layer_of(name)) or is_within(imported, [own_folder]):
                continue
            if layer >= layer_of(name):
                wrong.append((name, imported))
    assert wrong == []


@pytest.mark.parametrize("package", WITHOUT_TORCH)
def test_the_lowest_layer_is_free_of_torch(package):
    assert violations(package, ["torch", "diffusers"], top_level_only=True) == []


def test_models_never_see_hounsfield_units():
    assert violations("models", MODELS_NEVER_SEE) == []


@pytest.mark.parametrize("paper", ["models.autoencoder_resnet18", "models.conditional_unet_1d"])
def test_the_papers_networks_know_nothing_of_what_goes_beyond_them(paper):
    assert violations(paper, ["models.texture"]) == []


def test_the_noise_of_a_scan_needs_seeds_only():
    own = [name for name in imports(PACKAGE / "noise.py") if layer_of(name) is not None]
    assert own == ["seeds.derive_seed"]


def test_measures_know_nothing_of_the_report():
    """The study's layer is above; this also holds within the folder, where the test of layers does not look."""
    measures = [path for path in SOURCES if path.parent.name == "evaluation" and path.stem != "__init__"]
    assert len(measures) > 5
    assert [v for path in measures for v in violations(module_name(path), ["evaluation.series"])] == []


def test_the_pipeline_touches_a_dataset_only_through_dicom():
    assert violations("pipeline", ["pydicom"]) == []


@pytest.mark.parametrize("package", sorted(OPTIONAL))
def test_optional_packages_are_imported_where_they_are_needed(package):
    assert violations("", [package], top_level_only=True) == []


def test_the_rules_see_the_package():
    """The tests above must not pass because they find nothing."""
    assert violations("pipeline", ["models", "torch"])
    assert violations("image_processor", ["dicom"])
    assert layer_of("models.AutoencoderResNet18") < layer_of("pipeline")


def test_importing_the_package_imports_neither_torch_nor_diffusers():
    """`diffusionct --help` answers at once."""
    code = "import sys, diffusionct_pipeline; print(sorted({'torch', 'diffusers', 'pydicom'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
