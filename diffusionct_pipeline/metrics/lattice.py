"""Detect whether a network leaves a pattern of its stride, which no measure of texture shows."""

from __future__ import annotations

import numpy as np

PERIOD = 32  # pixels: the stride of the latent, and a multiple of every smaller one
CHANCES = 20


def folded_ratio(difference: np.ndarray, period: int = PERIOD, seed: int = 0) -> float:
    """Measure how much an image repeats itself every `period` pixels: about 1 for chance, above for a lattice.

    The image is cut into tiles. The result is the standard deviation of the mean tile over the mean standard deviation
    of mean tiles whose members are rolled by random numbers of pixels. For a series, the mean slice is used: what is at
    the same position in all slices, a couch or a rib, would otherwise count once for every slice.

    Args:
        difference: (H, W) or (N, H, W), output minus input of slices, H and W of at least `period`.
        period: Side of a tile in pixels.
        seed: Seed of the rolls.

    Raises:
        ValueError: if the image holds fewer than two tiles.
    """
    image = np.asarray(difference, np.float64)
    image = image.mean(0) if image.ndim == 3 else image
    height, width = (size // period * period for size in image.shape)
    image = image[:height, :width].reshape(height // period, period, width // period, period)
    tiles = image.transpose(0, 2, 1, 3).reshape(-1, period, period)
    if len(tiles) < 2:
        raise ValueError(
            f"`difference` must have room for two tiles of {period} pixels, got shape {np.shape(difference)}."
        )
    tiles = tiles - tiles.mean((1, 2), keepdims=True)
    draw = np.random.default_rng(seed)
    rolled = [
        np.mean([np.roll(tile, draw.integers(period, size=2), (0, 1)) for tile in tiles], axis=0).std()
        for _ in range(CHANCES)
    ]
    chance = float(np.mean(rolled))
    return float(tiles.mean(0).std() / chance) if chance else 1.0
