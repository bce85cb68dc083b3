"""Extend images beyond their border and beyond the circular field of view."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import binary_dilation, gaussian_filter

SCALES = (16.0, 8.0, 4.0, 2.0, 1.0)  # pixels, sigmas of the extension, the finest nearest to the measured pixels
RIM = 3  # width in pixels of the rim of the field of view; if all of it is air, the extension is air, too
RIM_HU = -500.0


def beyond_circle(hu: np.ndarray, air_hu: float) -> np.ndarray:
    """Find the pixels that were not reconstructed although their value is air: those outside the inscribed circle.

    Args:
        hu: (H, W) HU.
        air_hu: HU of air; a constant above it does not count as air.

    Returns:
        (H, W) bool; all False unless the outside of the circle has a single value and a body or table reaches its rim.
    """
    height, width = hu.shape
    nowhere = np.zeros(hu.shape, bool)
    if height != width or len({*hu[[0, 0, -1, -1], [0, -1, 0, -1]].tolist()}) != 1 or hu[0, 0] > air_hu:
        return nowhere
    y, x = np.ogrid[:height, :width]
    radius = np.hypot(y - (height - 1) / 2, x - (width - 1) / 2)
    outside = radius > height / 2
    rim = (radius < height / 2) & (radius > height / 2 - RIM)
    if (hu[outside] != hu[0, 0]).any() or hu[rim].max(initial=air_hu) < RIM_HU:
        return nowhere
    return outside


def extend_into_padding(hu: np.ndarray, padding: np.ndarray, air_hu: float) -> np.ndarray:
    """Extend a slice beyond its field of view, fading into air.

    A body or table that the field of view cuts off would end there in a step to air that is not anatomy, and a sharpening filter
    would turn the step into a rim within the field of view. The extension is the local mean of the measured pixels, the finer the
    nearer to them, so that there is neither a step nor a pattern.

    Args:
        hu: (H, W) HU.
        padding: (H, W) bool, True where nothing was measured.
        air_hu: HU of air.

    Returns:
        float32 (H, W), equal to `hu` where it was measured.
    """
    hu = np.asarray(hu, np.float32)
    if not padding.any() or padding.all():
        return np.where(padding, np.float32(air_hu), hu)
    filled = np.where(padding, np.float32(air_hu), hu)
    if hu[binary_dilation(padding, iterations=RIM) & ~padding].max(initial=air_hu) < RIM_HU:
        return filled
    measured, of_measured = (~padding).astype(np.float32), np.where(padding, 0, hu)
    for sigma in SCALES:
        weight = gaussian_filter(measured, sigma)
        mean = gaussian_filter(of_measured, sigma) / weight.clip(1e-6)
        near = (2 * weight).clip(0, 1)  # half of the neighbourhood of a pixel at a straight rim was measured
        filled[padding] = (filled + near * (mean - filled))[padding]
    return filled


def pad_odd_reflect(image: torch.Tensor, left: int, right: int, top: int, bottom: int) -> torch.Tensor:
    """Pad by odd reflection, 2 x border - mirrored, repeated as often as a small image needs.

    Slopes continue unchanged. Plain mirroring folds them: the fold is sharper than any kernel, and a sharpening filter turns it
    into a frame where the field of view cuts off the body.

    Args:
        image: (B, C, H, W), H and W at least 2.
        left, right, top, bottom: Pixels to add.

    Returns:
        (B, C, top + H + bottom, left + W + right).
    """
    for axis, before, after in ((-1, left, right), (-2, top, bottom)):
        while before or after:
            inner = image.shape[axis] - 1
            first, last = image.narrow(axis, 0, 1), image.narrow(axis, inner, 1)
            more, further = min(before, inner), min(after, inner)
            left_part = 2 * first - image.narrow(axis, 1, more).flip(axis)
            right_part = 2 * last - image.narrow(axis, inner - further, further).flip(axis)
            image = torch.cat([left_part, image, right_part], axis)
            before, after = before - more, after - further
    return image
