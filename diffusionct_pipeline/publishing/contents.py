"""The files of a published checkpoint: the checkpoint's own weights, byte for byte, and the same in float16.

`save_pretrained(variant="fp16")` only names its files so: what they hold is what the weights are cast to before.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from diffusers.utils import SAFE_WEIGHTS_INDEX_NAME

from ..method.checkpoint import NETWORKS, weight_files
from ..models.weights import halve
from ..pipeline import DiffusionCTPipeline

HALF = "fp16"
CARD, METRICS = "README.md", "metrics.json"
COMPONENTS = (*NETWORKS, "scheduler")


def write_contents(checkpoint: str | Path, folder: str | Path) -> None:
    """Copy what belongs to a checkpoint, and nothing else, into an empty folder.

    Args:
        checkpoint: Folder of a pipeline.
        folder: Gets configs, weights as they are, weights in float16 (those that must stay exact in float32),
            and card and metrics if there are any.

    Raises:
        ValueError, OSError: If the checkpoint cannot be loaded or the folder not be written.
    """
    checkpoint, folder = Path(checkpoint), Path(folder)
    pipeline = DiffusionCTPipeline.from_pretrained(checkpoint)
    for model in pipeline.models:
        halve(model)
    pipeline.save_pretrained(folder, variant=HALF)
    remove_places(folder)
    for component in NETWORKS:
        for path in weight_files(checkpoint / component):
            shutil.copyfile(path, folder / component / path.name)
    optional = [CARD, METRICS, *(f"{component}/{SAFE_WEIGHTS_INDEX_NAME}" for component in NETWORKS)]
    for name in optional:  # an index is there where weights are in several files
        if (checkpoint / name).is_file():
            shutil.copyfile(checkpoint / name, folder / name)


def remove_places(folder: str | Path) -> None:
    """Take out of the JSON files below a folder where their pipeline was loaded from, which diffusers notes."""
    for path in Path(folder).rglob("*.json"):
        values = json.loads(path.read_text())
        if values.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(values, indent=2) + "\n")
