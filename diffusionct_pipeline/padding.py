"""Images continued beyond their border."""

from __future__ import annotations

import torch


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
