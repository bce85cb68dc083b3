"""Choose the regions where texture is measured: tumours of a mask, and squares of other tissue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

TUMOUR_PIXELS, SQUARES_A_SLICE = 48, 12  # as large as a tumour of 3 cm
AROUND_PATIENT_HU = -950.0  # squares of a lower mean are air around the patient, lung has a higher mean

Square = tuple[slice, slice]  # rows, columns
T = TypeVar("T")


class Tissue(NamedTuple):
    """Define what counts as one tissue.

    Attributes:
        lowest_hu, highest_hu: Limits of the mean of a square.
        highest_std_hu: Limit of the standard deviation of a square; lower it for homogeneous squares.
    """

    lowest_hu: float
    highest_hu: float
    highest_std_hu: float = np.inf

    def holds(self, hu: np.ndarray) -> bool:
        """Return whether the pixels of a square, HU of any shape, are of this tissue."""
        return bool(self.lowest_hu < hu.mean() < self.highest_hu and hu.std() <= self.highest_std_hu)


PATIENT = Tissue(AROUND_PATIENT_HU, np.inf)


def grid_squares(shape: tuple[int, int], side: int) -> Iterator[Square]:
    """Yield squares of `side` pixels that tile an image of (H, W) = `shape` from its first pixel on, row by row."""
    for top in range(0, shape[0] - side + 1, side):
        for left in range(0, shape[1] - side + 1, side):
            yield np.s_[top : top + side, left : left + side]


def square_mask(square: Square, shape: tuple[int, int]) -> np.ndarray:
    """Return a mask (H, W) = `shape`, True in the square."""
    mask = np.zeros(shape, bool)
    mask[square] = True
    return mask


def tissue_squares(
    hu: np.ndarray, side: int, tissues: Mapping[str, Tissue], avoid: np.ndarray | None = None
) -> dict[str, list[Square]]:
    """Return the name of each tissue -> the squares of a grid that it fills.

    Args:
        hu: (H, W) HU by which squares are chosen.
        side: Side of a square in pixels.
        tissues: Name -> `Tissue`.
        avoid: (H, W) bool; squares that hold any of it are left out.
    """
    squares = [square for square in grid_squares(hu.shape, side) if avoid is None or not avoid[square].any()]
    return {name: [square for square in squares if tissue.holds(hu[square])] for name, tissue in tissues.items()}


def square_regions(
    hu: np.ndarray, side: int, tissue: Tissue = PATIENT, avoid: np.ndarray | None = None
) -> list[np.ndarray]:
    """Return masks (H, W) of the squares of a grid that lie in a tissue, or anywhere in the patient.

    Args:
        hu: (H, W) HU by which squares are chosen.
        side: Side of a square in pixels.
        tissue: The tissue of the squares.
        avoid: (H, W) bool; squares that hold any of it are left out.
    """
    (squares,) = tissue_squares(hu, side, {"": tissue}, avoid).values()
    return [square_mask(square, hu.shape) for square in squares]


def tumour_sized_squares(hu: np.ndarray, avoid: np.ndarray | None = None) -> list[np.ndarray]:
    """Return masks (H, W) of some tumour-sized squares of a slice, evenly spread over the patient."""
    return spread(square_regions(hu, TUMOUR_PIXELS, avoid=avoid), SQUARES_A_SLICE)


def tumour_masks(labels: np.ndarray, fewest_pixels: int = 1) -> list[np.ndarray]:
    """Return masks (H, W) of the labels above 0 of (H, W) integers, ascending, that have at least `fewest_pixels`."""
    masks = [labels == label for label in np.unique(labels[labels > 0])]
    return [mask for mask in masks if np.count_nonzero(mask) >= fewest_pixels]


def every_nth(items: Sequence[T], count: int) -> list[T]:
    """Return at most `count` items at equal distances from the first on, possibly without the last ones."""
    return list(items[:: max(len(items) // count, 1)][:count])


def first_to_last(items: Sequence[T], count: int) -> list[T]:
    """Return `count` items, evenly spread from the first to the last; items repeat if there are fewer."""
    return [items[i] for i in np.linspace(0, len(items) - 1, count).round().astype(int)]


def spread(items: Sequence[T], count: int) -> list[T]:
    """Return at most `count` items, evenly spread from the first to the last, none of them twice."""
    return first_to_last(items, min(count, len(items))) if len(items) else []
