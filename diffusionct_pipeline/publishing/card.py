"""The model card: front matter for the Hub, the checkpoint's own text, and how to load the publication."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..pipeline import DiffusionCTPipeline
from ..utils.files import write_whole
from .contents import CARD, HALF, METRICS

TASK = "image-to-image"  # the closest of the Hub's pipeline tags
TAGS = ("diffusers", "diffusionct", "ct", "medical-imaging", "image-standardization", "radiomics", "latent-diffusion")
SCORES = {"CCC": "ccc", "within 15 %": "share_within_15_percent"}  # name in metrics.json -> type of the model index
LOADING = "## Loading from the Hub"

DEFAULT_TEXT = """
# {name}

Standardizes CT slices of one reconstruction kernel to the texture of another.

**Research use only. Not a medical device; not for diagnosis, treatment or any decision about a patient.**

## What it is

| part | |
|---|---|
| `autoencoder` | `{autoencoder}` |
| `denoiser` | `{denoiser}` |
| `scheduler` | `{scheduler}`, {default_num_inference_steps} steps |
| standard | {standard_name}, the reconstruction kernel whose texture slices get |
"""

LOADING_TEXT = """
{heading}

With the package `diffusionct_pipeline` installed:

```python
import diffusionct_pipeline  # makes its classes known to diffusers
from diffusers import DiffusionPipeline

pipe = DiffusionPipeline.from_pretrained("{repo_id}")
```

Without the first line, diffusers looks for a file `autoencoder/diffusionct_pipeline.py` in the repository, which does not
exist: `trust_remote_code` is not needed. `variant="{half}"` downloads the weights in float16, except those that need
float32; networks run in float32 in both cases. Research use only.
"""


def write_card(folder: str | Path, repo_id: str, license: str | None = None) -> None:
    """Complete the README.md of a checkpoint, or write one.

    Args:
        folder: Folder of the checkpoint; an existing README.md keeps its text, and the licence and task of its front matter.
        repo_id: "user/repo".
        license: The Hub's name of a licence; None takes that of the front matter.

    Raises:
        ValueError: if there is no licence, or the front matter or metrics.json cannot be read.
    """
    folder = Path(folder)
    index = json.loads((folder / DiffusionCTPipeline.config_name).read_text())
    path, name = folder / CARD, repo_id.split("/")[1]
    try:
        card = ModelCard(path.read_text() if path.is_file() else default_text(name, index))
    except Exception as error:  # of the YAML reader or of the Hub's client
        raise ValueError(f"{CARD} has front matter that cannot be read: {error}") from error
    data = card.data
    assert isinstance(data, ModelCardData)  # as every model card's
    data.license = license or data.license
    if not data.license:
        raise ValueError(f'`license` must be given, such as "apache-2.0", as {CARD} of the checkpoint names none.')
    data.library_name, data.pipeline_tag = "diffusers", data.pipeline_tag or TASK
    data.tags = [*(data.tags or ()), *(tag for tag in TAGS if tag not in (data.tags or ()))]
    data.model_name, data.eval_results = name, list(eval_results(folder, index)) or None
    own = card.text.partition(f"\n{LOADING}")[0].rstrip()
    own = own.replace("from_pretrained()", f'from_pretrained("{repo_id}")')
    loading = LOADING_TEXT.format(heading=LOADING, repo_id=repo_id, half=HALF)
    write_whole(path, f"---\n{data.to_yaml()}\n---\n{own}\n{loading}")


def default_text(name: str, index: Mapping[str, Any]) -> str:
    """Return the text of the card of a checkpoint without one."""
    values = {key: value[1] if isinstance(value, list) else value for key, value in index.items()}
    return DEFAULT_TEXT.format(name=name, **values)


def eval_results(folder: Path, index: Mapping[str, Any]) -> Iterator[EvalResult]:
    """Yield the checkpoint's own scores in metrics.json, each with that of the input for comparison.

    metrics.json holds them as scores -> study -> data set -> system -> score; entries of other forms are left out.

    Raises:
        ValueError: if the file is not a JSON object.
    """
    if not (folder / METRICS).is_file():
        return
    try:
        metrics = json.loads((folder / METRICS).read_text())
        studies = dict(metrics.get("scores", {}))
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"{METRICS} must hold a JSON object, but cannot be read: {error}") from error
    ours = {
        f"DDPM, {index['default_num_inference_steps']} steps": "",
        "DiffusionCT": "",
        "DiffusionCT, reference": " to a reference",
    }
    for study, data_sets in studies.items():
        for data_set, systems in as_mapping(data_sets).items():
            before = as_mapping(as_mapping(systems).get("input"))
            for system, how in ours.items():
                scores = as_mapping(as_mapping(systems).get(system))
                for name in (name for name in SCORES if name in scores):
                    compared = f" (input: {before[name]:.2f})" if name in before else ""
                    yield EvalResult(
                        task_type=TASK,
                        dataset_type=re.sub(r"[^a-z0-9]+", "-", f"{study} {data_set}".lower()).strip("-"),
                        dataset_name=f"{study}: {data_set}",
                        metric_type=SCORES[name],
                        metric_name=f"{name}{how}{compared}",
                        metric_value=round(scores[name], 4),
                    )


def as_mapping(value: Any) -> Mapping[str, Any]:
    """Return a value if it is a mapping, otherwise an empty mapping."""
    return value if isinstance(value, Mapping) else {}
