"""Describe a series for a viewer, and choose the slices to show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..metrics.regions import spread

MOST_SLICES = 12
MOST_PIXELS = MOST_SLICES * 512 * 512  # of a page, before and after: some 9 MB as base64, as noise hardly compresses


@dataclass(frozen=True, eq=False)
class View:
    """Describe a series for a viewer, without its pixels. Nothing in it identifies a patient, a path or a date.

    Attributes:
        slices: Number of slices of the series.
        indices: Indices of the shown slices.
        shape: (rows, columns).
        spacing_mm: Side of a pixel.
        kernels: Kernels of source and result, as far as they look like the name of a kernel.
        facts: Short statements about the result.
        missed: Whether the result was measured not to have the requested kernel.
    """

    slices: int
    indices: list[int]
    shape: tuple[int, int]
    spacing_mm: float
    kernels: tuple[str, str]
    facts: list[str]
    missed: bool

    def to_json(self) -> dict[str, Any]:
        """Return the data for `viewer.js`, except the pixels."""
        return {
            "count": len(self.indices), "slices": self.slices, "numbers": [index + 1 for index in self.indices],
            "rows": self.shape[0], "columns": self.shape[1], "spacing_mm": self.spacing_mm, "kernels": list(self.kernels),
        }  # fmt: skip


def shown_indices(count: int, shape: tuple[int, int]) -> list[int]:
    """Return the indices of up to `MOST_SLICES` of `count` slices (rows, columns), evenly spread; fewer if they are large."""
    rows, columns = shape
    return spread(range(count), max(1, min(MOST_SLICES, MOST_PIXELS // (rows * columns))))


def whole_hu(hu: np.ndarray) -> np.ndarray:
    """Round HU of any shape to little-endian int16; values beyond are clipped."""
    return np.rint(hu).clip(-32768, 32767).astype("<i2")
