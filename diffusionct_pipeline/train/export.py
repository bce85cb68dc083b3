"""Make a trained pipeline publishable: half precision, small shards, model card and metrics beside the weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from ..models.weights import halve
from ..pipeline import DiffusionCTPipeline
from ..publishing.contents import strip_local_paths
from ..utils.files import whole_folder

SHARD_SIZE = "15MB"


def export_checkpoint(source: str | Path, output: str | Path, *, card: str | Path, metrics: dict) -> int:
    """Write a checkpoint folder that `from_pretrained` loads and `push_to_hub` or an upload can publish.

    Args:
        source: Folder of a trained pipeline, as `train_latent` saves it.
        output: Folder to write; replaced if it exists.
        card: Path of the model card (Markdown).
        metrics: Content of metrics.json: training data, training time and scores.

    Returns:
        Size of the checkpoint in bytes.

    Raises:
        ValueError, OSError: if the pipeline cannot be loaded or the folder cannot be written.
    """
    pipeline = DiffusionCTPipeline.from_pretrained(source)
    for model in pipeline.models:
        halve(model)
    with whole_folder(output, replace=True) as part:
        pipeline.save_pretrained(part, max_shard_size=SHARD_SIZE)
        strip_local_paths(part)
        shutil.copy(card, part / "README.md")
        (part / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    return sum(path.stat().st_size for path in Path(output).rglob("*") if path.is_file())
