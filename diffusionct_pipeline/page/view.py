"""What a viewer is told of a series, and which of its slices it is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..metrics.regions import spread

MOST_SLICES = 12
MOST_PIXELS = MOST_SLICES * 512 * 512  # of a page, before and after: some 9 MB as base64 of what gzip leaves of noise


@dataclass(frozen=True, eq=False)
class View:
    """A series as a viewer shows it, without its pixels. Nothing in it names a patient, a path or a date.

    Attributes:
        slices: How many the series has.
        indices: Of those that are shown.
        shape: (rows, columns).
        spacing_mm: Side of a pixel.
        kernels: Of source and result, as far as they look like the name of a kernel.
        facts: Short statements about the result.
        missed: Whether the result was measured not to have the kernel that was asked for.
    """

    slices: int
    indices: list[int]
    shape: tuple[int, int]
    spacing_mm: float
    kernels: tuple[str, str]
    facts: list[str]
    missed: bool

    def to_json(self) -> dict[str, Any]:
        """What `viewer.js` wants to know, but for the pixels."""
        return {
            "count": len(self.indices), "slices": self.slices, "numbers": [index + 1 for index in self.indices],
            "rows": self.shape[0], "columns": self.shape[1], "spacing_mm": self.spacing_mm, "kernels": list(self.kernels),
        }  # fmt: skip


def shown_indices(count: int, shape: tuple[int, int]) -> list[int]:
    """Indices of up to `MOST_SLICES` of `count` slices (rows, columns), evenly spread; fewer if they are large."""
    rows, columns = shape
    return spread(range(count), max(1, min(MOST_SLICES, MOST_PIXELS // (rows * columns))))


def whole_hu(hu: np.ndarray) -> np.ndarray:
    """HU of any shape -> rounded to int16, little-endian; what lies beyond is cut off."""
    return np.rint(hu).clip(-32768, 32767).astype("<i2")
