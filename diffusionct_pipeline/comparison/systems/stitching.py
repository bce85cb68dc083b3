"""Slices patch by patch, for networks that were trained on patches."""

from __future__ import annotations

from collections.abc import Callable

import torch

from .networks import reflected_to


def stitched(
    draw: Callable[[torch.Tensor], torch.Tensor], image: torch.Tensor, patch: int, stride: int
) -> torch.Tensor:
    """Process overlapping patches and blend them: each counts less towards its border, and the weights sum to 1.

    Args:
        draw: Maps (N, 1, patch, patch) to the same shape.
        image: (B, 1, H, W) of any size.
        patch, stride: Pixels; `patch` is a multiple of `stride`.

    Returns:
        (B, 1, H, W).
    """
    whole = reflected_to(image, stride, smallest=patch)
    ramp = torch.linspace(-1, 1, patch + 2, device=image.device)[1:-1].abs()
    feather = (1 - ramp)[:, None] * (1 - ramp)[None]  # (patch, patch), above 0
    total, weight = torch.zeros_like(whole), torch.zeros_like(whole)
    for top in range(0, whole.shape[-2] - patch + 1, stride):
        for left in range(0, whole.shape[-1] - patch + 1, stride):
            place = (..., slice(top, top + patch), slice(left, left + patch))
            total[place] += feather * draw(whole[place]).to(total.dtype)
            weight[place] += feather
    return (total / weight)[..., : image.shape[-2], : image.shape[-1]]
