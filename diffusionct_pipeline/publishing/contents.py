"""The files of a published checkpoint: its own weights, byte for byte, and the same in float16.

`save_pretrained(variant="fp16")` only names the files: the weights are cast before.
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
    """Copy the files of a checkpoint, and nothing else, into an empty folder.

    Args:
        checkpoint: Folder of a pipeline.
        folder: Receives configs, the weights as they are and in float16 (or float32 where they must stay exact), and card and
            metrics where they exist.

    Raises:
        ValueError, OSError: if the checkpoint cannot be loaded or the folder cannot be written.
    """
    checkpoint, folder = Path(checkpoint), Path(folder)
    pipeline = DiffusionCTPipeline.from_pretrained(checkpoint)
    for model in pipeline.models:
        halve(model)
    pipeline.save_pretrained(folder, variant=HALF)
    strip_local_paths(folder)
    for component in NETWORKS:
        for path in weight_files(checkpoint / component):
            shutil.copyfile(path, folder / component / path.name)
    optional = [CARD, METRICS, *(f"{component}/{SAFE_WEIGHTS_INDEX_NAME}" for component in NETWORKS)]
    for name in optional:  # an index exists where weights are in several files
        if (checkpoint / name).is_file():
            shutil.copyfile(checkpoint / name, folder / name)


def strip_local_paths(folder: str | Path) -> None:
    """Remove the path that a pipeline was loaded from, which diffusers records, from all JSON files below a folder."""
    for path in Path(folder).rglob("*.json"):
        values = json.loads(path.read_text())
        if values.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(values, indent=2) + "\n")
