"""`diffusionct adapt`: adapt a checkpoint to folders of two protocols, and write it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from ..dicom.reading import read_dataset
from ..evaluation.geometry import find_series, match_slices
from ..image_processor import HUSlice
from ..metrics.regions import spread
from ..publishing.contents import strip_local_paths
from ..standardize.loading import load_pipeline
from ..utils.files import require_new, require_writable, whole_folder, write_whole
from ..utils.stages import stage
from ..utils.usage import UsageError
from .pairs import Adaptation, SlicePair, adapt

MOST_PAIRS = 40  # at two seconds each
MOST_TARGETS = 16
PathLike: TypeAlias = str | os.PathLike
CARD = """---
library_name: diffusers
license: apache-2.0
tags: [medical-imaging, computed-tomography, radiomics, diffusers]
---

# DiffusionCT, adapted to {standard}

Made by `diffusionct adapt`: the networks of a DiffusionCT checkpoint with {standard} as the standard. {pairs}
Research use only. Not a medical device; not for diagnosis.

{table}"""


def adapt_folders(
    sources: Sequence[PathLike],
    targets: Sequence[PathLike],
    out: PathLike,
    *,
    model: PathLike | None = None,
    unpaired: bool = False,
    standard_name: str = "",
) -> Adaptation:
    """Adapt to series and write the checkpoint.

    Args:
        sources: Folders with one series each, of the protocol that is to be standardized; none with `unpaired`.
        targets: As many folders, of the same scans under the protocol that becomes the standard; with `unpaired`, of any
            scans.
        out: New folder.
        model: Checkpoint to start from; None for the embedded one.
        unpaired: Whether only the texture of the targets is learnt.
        standard_name: Kernel of the target; "" takes it from the headers.

    Raises:
        ValueError: for folders that do not match, or if the result is significantly worse than before; then nothing is
            written.
        DicomError, OSError: naming the file or folder.
    """
    if not targets or (not unpaired and len(sources) != len(targets)) or (unpaired and sources):
        wanted = "targets and no sources" if unpaired else "one source for each target"
        raise UsageError(f"the folders must be {wanted}, got {len(sources)} sources and {len(targets)} targets.")
    require_new(out)
    require_writable(Path(out).parent)
    pipe = load_pipeline(model)

    def load(path: Path) -> HUSlice:
        (item,) = pipe.image_processor.load(path)
        return item

    stage("reading the series")
    pairs: list[SlicePair] = []
    others: list[HUSlice] = []
    if unpaired:
        paths = [path for folder in targets for path in find_series(folder).paths]
        others, found = [load(path) for path in spread(paths, MOST_TARGETS)], len(paths)
    else:
        matched = [both for folders in zip(sources, targets) for both in matched_paths(*folders)]
        chosen = spread(matched, MOST_PAIRS)
        pairs, found = [SlicePair(load(source), load(target)) for source, target in chosen], len(matched)
    stage("measuring the slices and the result on held-out ones")
    adapted = replace(adapt(pipe, pairs, others, standard_name), used=len(pairs) or len(others), found=found)
    worse = adapted.worse_than()
    if worse:
        share = {name: f"{agreement.reproducible:.0%}" for name, agreement in adapted.scores.items()}
        raise ValueError(
            f"the adapted checkpoint is worse than {'the original' if worse == 'before' else 'no standardization'} on held-out "
            f"slices: {share['adapted']} of the texture figures are within 15 % of the target's, against {share[worse]}. "
            "Nothing was written. Do the series show the same scans, under the intended protocols?"
        )
    with whole_folder(out) as part:
        save(adapted, part, len(pairs))
    return adapted


def matched_paths(source: PathLike, target: PathLike) -> list[tuple[Path, Path]]:
    """Return pairs of files of two series of one scan that show the same slice.

    Raises:
        ValueError: naming both folders, if they share no slice or hold the same series.
    """
    one, other = find_series(source), find_series(target)
    try:
        places = match_slices(one.geometry, other.geometry)
    except ValueError as error:
        raise ValueError(f'"{source}" and "{target}" are not a pair: {error}') from None
    uid, same = (read_dataset(series.paths[0], header_only=True).get("SeriesInstanceUID") for series in (one, other))
    if os.path.samefile(source, target) or (uid and uid == same):
        raise ValueError(f'"{source}" and "{target}" must be two series of one scan, but both hold series {uid}.')
    return [(path, other.paths[place]) for path, place in zip(one.paths, places) if place >= 0]


def save(adapted: Adaptation, folder: Path, pairs: int) -> None:
    """Write checkpoint, card and metrics.json."""
    standard = adapted.pipe.config["standard_name"]
    scores = {
        name: {"CCC": agreement.mean_ccc, "within 15 %": agreement.reproducible, "squares": len(agreement.target)}
        for name, agreement in adapted.scores.items()
    }
    adapted.pipe.save_pretrained(folder)
    strip_local_paths(folder)
    summary = {"adapted": {"standard": standard, "pairs": pairs}, "scores": scores}
    write_whole(folder / "metrics.json", json.dumps(summary, indent=2) + "\n")
    rows = [f"| {name} | {row['CCC']:.2f} | {row['within 15 %']:.0%} |" for name, row in scores.items()]
    head = [
        "| squares of pairs that were left out of the adaptation | CCC | texture figures within 15 % |",
        "|---|---|---|",
    ]
    slices = "1 slice" if pairs == 1 else f"{pairs} slices"
    of_pairs = (
        f"It was corrected by {slices} under both protocols."
        if pairs
        else "Only the texture of unpaired series was used."
    )
    table = "\n".join([*head, *rows, ""]) if rows else ""
    write_whole(folder / "README.md", CARD.format(standard=standard, pairs=of_pairs, table=table))
