"""Resample image and mask, as the IBSI reference manual defines it (arXiv:1612.07003, section 2.4)."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from ..evaluation.geometry import Spacing


def resample(hu: np.ndarray, mask: np.ndarray, from_mm: Spacing, to_mm: Spacing) -> tuple[np.ndarray, np.ndarray]:
    """Resample an image and a region linearly; grids are aligned at their centres.

    Args:
        hu: (slices, rows, columns) HU.
        mask: bool, same shape.
        from_mm, to_mm: Spacing of slices, rows and columns, above 0.

    Returns:
        HU, rounded, and the mask: voxels whose interpolated mask value is at least .5.

    Raises:
        ValueError: Nothing of the region is left.
    """
    scale = np.divide(to_mm, from_mm)
    shape = tuple(max(math.ceil(size / step), 1) for size, step in zip(hu.shape, scale))
    offset = (np.array(hu.shape) - 1) / 2 - scale * (np.array(shape) - 1) / 2

    def moved(array: np.ndarray) -> np.ndarray:
        return ndimage.affine_transform(array.astype(float), scale, offset, shape, order=1, mode="nearest")

    inside = moved(mask) >= 0.5
    if not inside.any():
        raise ValueError(f"no voxel of the region is left at {tuple(to_mm)} mm; choose smaller voxels")
    return np.rint(moved(hu)), inside
