"""Names and side files of BIDS for derived volumes: the Brain Imaging Data Structure 1.10, "Derivatives".

BIDS knows no CT yet: the suffix of a source is kept, and a `.bidsignore` tells its validator to pass these files over.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..method.provenance import Derivation
from ..utils.usage import UsageError
from ..utils.version import __version__
from ..volumes import volume_suffix
from ..volumes.files import MADE_BY
from .report import REPORT_FILE, SeriesEntry

DESCRIPTION_FILE, IGNORE_FILE = "dataset_description.json", ".bidsignore"
BIDS_VERSION = "1.10.0"
SOURCE = "source"  # what links of the derived dataset call the one that it was made from
IGNORED = (REPORT_FILE, "preview", "page_*.html", ".series", "**/*_ct.*")
DONE = "standardized"
NAME = re.compile(
    r"(?P<source>sub-[a-zA-Z0-9]+(?:_[a-z]+-[a-zA-Z0-9+]+)*?)(?:_desc-(?P<desc>[a-zA-Z0-9+]+))?_(?P<suffix>[a-zA-Z0-9]+)"
)


def require_dataset(folder: Path) -> None:
    """Refuse an input that is no dataset.

    Raises:
        UsageError: naming it and what is missing.
    """
    if not (folder / DESCRIPTION_FILE).is_file():
        raise UsageError(f'`bids` needs a BIDS dataset as input, but "{folder}" holds no {DESCRIPTION_FILE}.')


def derivative_name(name: Path) -> Path:
    """Return the name of the result of a volume: with `desc-standardized` as its last entity, the rest as it was.

    It does not name the target: whether that was reached is measured and said in the sidecar.

    Args:
        name: Of the source, below the dataset; one that is not named as BIDS wants stays as it is.
    """
    extension = volume_suffix(name)
    stem = name.name[: len(name.name) - len(extension)]
    found = NAME.fullmatch(stem)
    if found is None:
        return name
    desc = DONE if found["desc"] is None else found["desc"] + DONE.capitalize()
    return name.with_name(f"{found['source']}_desc-{desc}_{found['suffix']}{name.name[len(stem) :]}")


def is_named(name: Path) -> bool:
    """Tell whether a volume is named as BIDS wants."""
    return derivative_name(name) != name


def sidecar_name(name: Path) -> Path:
    """Return the name of the JSON file beside a volume."""
    return name.with_name(name.name[: len(name.name) - len(volume_suffix(name))] + ".json")


def sidecar(name: Path, entry: SeriesEntry, derivation: Derivation, seed: int, warnings: Sequence[str]) -> str:
    """Say in JSON what a result was made from and how.

    Args:
        name: Of the source, below the dataset.
        entry: Of the volume.
        derivation: Of its result.
        seed: Of the run.
        warnings: What was not reached and what makes the result doubtful, a sentence each.
    """
    options = derivation.options(seed)
    return _text(
        {
            "Description": f"CT with the texture of {derivation.target_name}; research use only, not for diagnosis",
            "Sources": [f"bids:{SOURCE}:{name.as_posix()}"],
            "SpatialReference": "orig",
            "ConvolutionKernel": entry.kernel_out,
            "SliceThickness": entry.thickness_mm,
            MADE_BY: {
                "Version": __version__,
                "Model": derivation.model_id,
                "Target": derivation.target_name,
                "Reference": derivation.reference,
                "Noise": derivation.noise,
                "InferenceSteps": derivation.num_inference_steps,
                "Seed": options["seed"],
                "Precision": derivation.precision,
                "SourceKernelToldBy": entry.told_by,
                "Measured": derivation.measured,
                "Warnings": list(warnings),
            },
        }
    )


def dataset_description(source: Path, output: Path, derivation: Derivation) -> str:
    """Describe the derived dataset in JSON.

    Args:
        source: Dataset that it is made from.
        output: Where it is.
        derivation: Of the run.
    """
    description: dict[str, Any] = {
        "Name": f"CT standardized to {derivation.target_name}",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": MADE_BY, "Version": __version__, "Description": derivation.model_id}],
        "DatasetLinks": {SOURCE: Path(os.path.relpath(source, output)).as_posix()},
    }
    doi = _read(source / DESCRIPTION_FILE).get("DatasetDOI")
    if isinstance(doi, str):
        description["SourceDatasets"] = [{"DOI": doi}]
    return _text(description)


def require_ours(path: Path) -> None:
    """Refuse to replace the description of somebody else's dataset.

    Raises:
        FileExistsError: naming it.
    """
    makers = _read(path).get("GeneratedBy") if path.exists() else [{"Name": MADE_BY}]
    if not isinstance(makers, list) or not all(
        isinstance(item, dict) and item.get("Name") == MADE_BY for item in makers
    ):
        raise FileExistsError(f'"{path}" exists and is not of a dataset by {MADE_BY}; choose another output folder.')


def _read(path: Path) -> dict[str, Any]:
    """Read a JSON file; an empty dict where it cannot be read."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _text(values: dict[str, Any]) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"
