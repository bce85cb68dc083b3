"""The layers of the package, read from its sources: an import may only go down, and optional packages stay optional."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import diffusionct_pipeline
from diffusionct_pipeline.utils.optional import OPTIONAL

PACKAGE = Path(diffusionct_pipeline.__file__).parent
SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if "pretrained" not in path.parts)

# Layer of every folder and module of the top level; a module imports from lower layers or its own folder.
LAYERS = {
    "utils": 0,
    "radiomics": 0,
    "dicom": 1,
    "physics": 1,
    "metrics": 1,
    "models": 1,
    "page": 2,
    "volumes": 2,
    "simulation": 2,
    "image_processor": 3,
    "estimation": 4,
    "reporting": 4,
    "method": 5,
    "evaluation": 5,
    "pipeline_output": 6,
    "cohort": 6,
    "pipeline": 7,
    "transforms": 8,
    "publishing": 8,
    "standardize": 8,
    "train": 9,
    "characterise": 9,
    "adapt": 9,
    "node": 9,
    "demo": 9,
    "comparison": 10,
    "app": 10,
    "commands": 11,
}
# What answers before torch is loaded, or is numpy and scipy.
WITHOUT_TORCH = (
    "dicom", "radiomics", "metrics.agreement", "utils.registration", "utils.files", "utils.usage", "utils.seeds", "utils.optional",
    "utils.paths", "__init__", "commands",
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
    return LAYERS.get(name.split(".")[0])


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
        own_folder = name.split(".")[0]
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
    own = [name for name in imports(PACKAGE / "physics/scan_noise.py") if layer_of(name) is not None]
    assert own == ["utils.seeds.derive_seed"]


def test_no_modules_import_each_other():
    """The test of layers does not look inside a folder."""
    graph = {module_name(path).removesuffix(".__init__"): set() for path in SOURCES}
    for path in SOURCES:
        name = module_name(path).removesuffix(".__init__")
        for imported in imports(path):
            found = imported if imported in graph else imported.rpartition(".")[0]
            if found in graph and found != name:
                graph[name].add(found)
    TopologicalSorter(
        {name: found for name, found in graph.items() if name != "__init__"}
    ).prepare()  # CycleError names it


def test_a_run_over_a_folder_needs_no_simulator_and_no_rival():
    """`standardize` loads what it uses."""
    code = (
        "import sys, diffusionct_pipeline.standardize.folder; "
        "print(sorted({name.split('.')[1] for name in sys.modules if name.startswith('diffusionct_pipeline.')}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = ast.literal_eval(done.stdout)
    assert "pipeline" in loaded and not {"simulation", "comparison", "evaluation", "train"} & set(loaded)


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
