"""Choose the crops of a slice's pictures: the square that holds most lung, and the one that holds most soft tissue."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..image_processor import PREVIEW_WINDOW_HU

CROP_PIXELS = 96  # side of a square: 66 mm at .7 mm
LEAST_SHARE = 0.25  # of a square that must be tissue; in noisy air a sixth of the pixels may have the HU of lung


class CropKind(NamedTuple):
    """Define what a crop shows.

    Attributes:
        name: Name of the tissue.
        tissue_hu: Lowest and highest HU of the tissue.
        window_hu: Lowest and highest HU of the window.
    """

    name: str
    tissue_hu: tuple[float, float]
    window_hu: tuple[float, float]


CROP_KINDS = (
    CropKind("lung", (-950.0, -600.0), PREVIEW_WINDOW_HU),
    CropKind("soft tissue", (0.0, 130.0), (-160.0, 240.0)),  # centre 40, width 400
)


def find_crops(hu: np.ndarray) -> list[tuple[CropKind, tuple[int, int]]]:
    """Find the squares of `CROP_PIXELS` that hold most pixels of each tissue, the first of several equal ones.

    Args:
        hu: (H, W) slice in HU.

    Returns:
        Each kind with (top, left) of its square in pixels. A kind that fills less than `LEAST_SHARE` of every square is
        left out, and so are all kinds if the slice is smaller than a square.
    """
    side = CROP_PIXELS
    found: list[tuple[CropKind, tuple[int, int]]] = []
    if min(hu.shape) < side:
        return found
    for kind in CROP_KINDS:
        low, high = kind.tissue_hu
        sums = np.pad(((hu >= low) & (hu <= high)).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        counts = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
        top, left = np.unravel_index(counts.argmax(), counts.shape)
        if counts[top, left] >= LEAST_SHARE * side**2:
            found.append((kind, (int(top), int(left))))
    return found
