"""Images continued beyond their border, and beyond the field of view within it."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt, gaussian_filter

REACH = 48  # pixels beyond the field of view where what was continued has faded into air: windows reach as far
SMOOTHED = 3.0  # pixels, sigma of the mean whose slope goes on


def continued_into_padding(hu: np.ndarray, padding: np.ndarray, air_hu: float) -> np.ndarray:
    """Continue a slice beyond its field of view, fading into air.

    A body that the field of view cuts off would end in a step to air there, which is no anatomy: a sharpening filter makes a
    rim of it within the field of view. Texture is mirrored at the nearest pixel that was measured, and what falls there goes on falling.

    Args:
        hu: (H, W) HU.
        padding: (H, W) bool, True where nothing was measured.
        air_hu: HU of air.

    Returns:
        float32 (H, W); `hu` where it was measured.
    """
    hu = np.asarray(hu, np.float32)
    if not padding.any() or padding.all():
        return np.where(padding, np.float32(air_hu), hu)
    distance, (row, column) = distance_transform_edt(padding, return_indices=True)
    near = padding & (distance < REACH)
    y, x = np.nonzero(near)
    edge = row[near], column[near]
    mirrored = (2 * edge[0] - y).clip(0, hu.shape[0] - 1), (2 * edge[1] - x).clip(0, hu.shape[1] - 1)
    inside = ~padding[mirrored]
    mirrored = tuple(np.where(inside, place, at) for place, at in zip(mirrored, edge))
    measured = (~padding).astype(np.float32)
    mean = gaussian_filter(np.where(padding, 0, hu), SMOOTHED) / gaussian_filter(measured, SMOOTHED).clip(1e-3)
    slope = np.minimum(mean[edge] - mean[mirrored], 0)  # up, it would go on without end
    beyond = mean[edge] + slope + hu[mirrored] - mean[mirrored]
    fade = (0.5 + 0.5 * np.cos(np.pi * distance[near] / REACH)).astype(np.float32)
    filled = np.where(padding, np.float32(air_hu), hu)
    filled[near] = air_hu + fade * (beyond - air_hu).clip(0)
    return filled


def continued(image: torch.Tensor, left: int, right: int, top: int, bottom: int) -> torch.Tensor:
    """Padded by reflection in the values at the border, 2 x border - mirrored, as often as a small image needs.

    Slopes go on as they are. A plain mirror folds them: the fold is sharper than any kernel, and a sharpening filter makes
    a frame of it where the body is cut by the field of view.

    Args:
        image: (B, C, H, W), H and W at least 2.
        left, right, top, bottom: Pixels.

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
