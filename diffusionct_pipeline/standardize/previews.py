"""Write the pictures of a run over a folder, `OUT/preview`."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ..reporting.pictures import preview_png
from ..utils.files import write_whole
from .run import FolderRun

PREVIEW_FOLDER = "preview"
PREVIEW_SLICES = 3  # the middle of each series and a quarter to either side


def preview_indices(count: int) -> list[int]:
    """Return the indices of up to `PREVIEW_SLICES` of `count` slices, evenly spaced, the middle one among them."""
    return sorted({(i + 1) * count // (PREVIEW_SLICES + 1) for i in range(PREVIEW_SLICES)} & set(range(count)))


def write_preview(
    run: FolderRun,
    name: str,
    place: tuple[int, int],
    kernels: tuple[str, str],
    before_hu: np.ndarray,
    after_hu: np.ndarray,
    spacing_mm: float,
    spread_hu: np.ndarray | None = None,
    warning: str = "",
) -> None:
    """Write the picture of a slice of the series that the run is at, titled with its first warning.

    Args:
        run: The run.
        name: What the picture is called after, a path below the output folder.
        place: Index of the slice in its series, and how many that has.
        kernels: Of the source, "" where it is not known, and of the result.
        before_hu, after_hu, spacing_mm, spread_hu: As in `preview_png`.
        warning: What is wrong with the results of the series, "" for nothing.
    """
    number, (index, count) = run.before + len(run.entries), place
    picture = Path(PREVIEW_FOLDER, f"{number:02d}_{name.replace(os.sep, '_')}.png")
    # Without the path, which may name a patient: pictures are shown to others.
    title = f"series {number}, slice {index + 1} of {count}   {kernels[0] or 'unknown kernel'} to {kernels[1]}"
    warning = f"warning: {warning}" if warning else ""
    write_whole(run.output / picture, preview_png(before_hu, after_hu, spacing_mm, title, spread_hu, warning))
    run.results.add(str(picture))
