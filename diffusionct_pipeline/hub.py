"""Make a trained pipeline publishable: half precision, small shards, model card and metrics beside the weights."""

import json
import shutil
from pathlib import Path

from .pipeline import DiffusionCTPipeline

SHARD_SIZE = "15MB"


def export_checkpoint(source, output, *, card, metrics):
    """Write a checkpoint folder that `from_pretrained` loads and `push_to_hub` or an upload can publish.

    Args:
        source: Folder of a trained pipeline, as `train_latent` saves it.
        output: Folder to write; replaced if it exists.
        card: Path of the model card (Markdown).
        metrics: Dict for metrics.json: what the checkpoint was trained on, for how long, and its scores.

    Returns:
        Size of the checkpoint in bytes.
    """
    pipeline = DiffusionCTPipeline.from_pretrained(source)
    output = Path(output)
    partial = output.with_name(output.name + ".part")
    shutil.rmtree(partial, ignore_errors=True)
    for model in (pipeline.autoencoder, pipeline.denoiser):
        exact = set(model._keep_in_fp32_modules or ())
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if tensor.is_floating_point() and not exact & set(name.split(".")):
                tensor.data = tensor.data.half()
    pipeline.save_pretrained(partial, max_shard_size=SHARD_SIZE)
    for path in partial.rglob("*.json"):  # diffusers notes where the pipeline was loaded from: nobody else's concern
        values = json.loads(path.read_text())
        if values.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(values, indent=2) + "\n")
    shutil.copy(card, partial / "README.md")
    (partial / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    shutil.rmtree(output, ignore_errors=True)
    partial.rename(output)
    return sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
