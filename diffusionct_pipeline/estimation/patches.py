"""Patches of a slice that see only the inside of the body, on pixels of one size."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.ndimage import binary_erosion, binary_fill_holes, label

COARSE_MM = 2.8  # pixels on which the body is looked for: it has no finer shape that matters, and noise is gone
BODY_HU = -400.0  # mean of a coarse pixel; lungs are filled
VACUUM_HU, DENSEST_HU = -1024.0, 3071.0  # beyond lie padding and metal
SKIN_MM = 6.0  # from the outline: skin tells by itself (skin.py), and may be cloth or table
MARGIN_MM = 11.2  # around a patch, so that resampling sees no border


def patch_centres(hu: np.ndarray, spacing_mm: float, padding: np.ndarray | None, side_mm: float) -> np.ndarray:
    """Return the centres, in pixels (N, 2) row by row, of all squares within the body of a slice.

    Args:
        hu: (H, W) HU.
        spacing_mm: Side of a pixel.
        padding: (H, W) bool, True where nothing was measured, or None.
        side_mm: Of a square.
    """
    block = max(round(COARSE_MM / spacing_mm), 1)
    rows, columns = (size // block for size in hu.shape)
    side = int(np.ceil(side_mm / (spacing_mm * block)))
    if min(rows, columns) < side:
        return np.empty((0, 2), int)
    seen = hu.clip(VACUUM_HU, DENSEST_HU)
    if padding is not None:
        seen = np.where(padding, VACUUM_HU, seen)
    coarse = seen[: rows * block, : columns * block].reshape(rows, block, columns, block).mean((1, 3))
    bodies, count = label(coarse > BODY_HU)
    if not count:
        return np.empty((0, 2), int)
    body = binary_fill_holes(bodies == 1 + np.argmax(np.bincount(bodies.ravel())[1:]))
    inside = binary_erosion(body, iterations=max(round(SKIN_MM / (spacing_mm * block)), 1), border_value=1)
    total = np.pad(inside.astype(int).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    filled = total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side] == side**2
    corners = np.argwhere(filled)
    return np.round((corners + side / 2) * block).astype(int)


def cut_patch(
    hu: np.ndarray,
    spacing_mm: float,
    centre: tuple[int, int],
    pixel_mm: float,
    pixels: int,
    padding: np.ndarray | None = None,
) -> np.ndarray:
    """Return a patch (pixels, pixels) of `pixel_mm` about a pixel of a slice, float32 HU.

    The cosine series of its surroundings is cut at the lower of the two Nyquist frequencies: nothing is blurred below,
    nothing aliased. What lies beyond the slice repeats its border.

    Args:
        hu: (H, W) HU.
        spacing_mm: Side of a pixel.
        centre: Row and column.
        pixel_mm, pixels: Of the patch: side of a pixel, and how many on a side.
        padding: (H, W) bool, True where nothing was measured, or None.
    """
    count = int(np.ceil((pixels * pixel_mm + 2 * MARGIN_MM) / spacing_mm))
    around = np.ix_(*(
        (np.arange(count) + middle - count // 2).clip(0, size - 1) for middle, size in zip(centre, hu.shape)
    ))  # fmt: skip
    seen = hu[around] if padding is None else np.where(padding[around], VACUUM_HU, hu[around])
    return resample(seen.clip(VACUUM_HU, DENSEST_HU).astype(np.float32), spacing_mm, pixel_mm, pixels)


def resample(image: np.ndarray, spacing_mm: float, pixel_mm: float, pixels: int, keep_all: bool = False) -> np.ndarray:
    """Return the middle of a square image on `pixels` pixels of another size, float32.

    Args:
        image: (n, n).
        spacing_mm: Side of its pixels.
        pixel_mm: Side of the new ones.
        pixels: How many on a side; together not larger than the image.
        keep_all: Sample what is faster than the new pixels can hold, too: it is aliased, as in a reconstruction.
    """
    matrix = _resampling_matrix(len(image), round(spacing_mm, 6), round(pixel_mm, 6), pixels, keep_all)
    return matrix @ image @ matrix.T


@lru_cache(maxsize=64)
def _resampling_matrix(count: int, spacing_mm: float, pixel_mm: float, pixels: int, keep_all: bool) -> np.ndarray:
    """(pixels, count): coefficients of the cosine series, then its values at the middles of the new pixels."""
    order = np.arange(count)
    if not keep_all:
        order = order[order / (2 * count * spacing_mm) < 0.5 / max(pixel_mm, spacing_mm) + 1e-9]
    old = np.arange(count) + 0.5
    new = (np.arange(pixels) + 0.5 - pixels / 2) * pixel_mm / spacing_mm + count / 2
    forward = np.cos(np.pi * np.outer(order, old) / count) * np.where(order == 0, 1, 2)[:, None] / count
    return (np.cos(np.pi * np.outer(new, order) / count) @ forward).astype(np.float32)
