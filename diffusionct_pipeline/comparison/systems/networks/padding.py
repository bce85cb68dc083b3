"""Padding of images to sizes that a network can halve without remainder."""

from __future__ import annotations

import torch


def reflected_to(image: torch.Tensor, multiple: int, smallest: int = 1) -> torch.Tensor:
    """Pad at the bottom and right by reflection, repeatedly where an image is small.

    Args:
        image: (..., H, W), sides of at least 2.
        multiple: Both sides become multiples of it.
        smallest: Minimum of both sides.

    Returns:
        (..., H', W'); its top left corner is `image`.
    """
    for axis in (-2, -1):
        size = image.shape[axis]
        wanted = -(-max(size, smallest) // multiple) * multiple
        if wanted > size:
            position = torch.arange(wanted, device=image.device) % (2 * size - 2)
            image = image.index_select(axis, torch.minimum(position, 2 * size - 2 - position))
    return image
