"""Groups of similar series: clustering by resolution, noise, grain and slice thickness, in octaves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from .measure import MeasuredSeries

# A scan repeated at half the dose has 0.5 octaves more noise, and the next kernel of a family 0.25 more resolution.
ALIKE_OCTAVES = 0.5
TISSUE = "soft tissue"  # every scan has some
UNLIKE_OCTAVES = 3.0  # between series that share no figure


def style(item: MeasuredSeries) -> np.ndarray:
    """Return log2 of MTF50, noise and mean noise frequency in soft tissue, and thickness, (4,); NaN where unknown."""
    spectrum = item.noise.get(TISSUE)
    return np.log2([
        item.mtf50 or np.nan,
        item.noise_hu.get(TISSUE, np.nan),
        spectrum.mean_frequency if spectrum else np.nan,
        item.protocol.thickness_mm or np.nan,
    ])  # fmt: skip


def distances(items: Sequence[MeasuredSeries]) -> np.ndarray:
    """Return twice the root mean squared difference of styles in octaves, (N, N), over the figures that both series have.

    Two is the root of the number of figures: where none is missing, this is the Euclidean distance.
    """
    styles = np.array([style(item) for item in items])
    apart = styles[:, None] - styles[None]
    known = np.isfinite(apart)
    square = np.where(known, apart, 0.0) ** 2
    mean = square.sum(-1) / known.sum(-1).clip(1)
    return np.where(known.any(-1), np.sqrt(mean * styles.shape[1]), UNLIKE_OCTAVES) * (1 - np.eye(len(items)))


def group(items: Sequence[MeasuredSeries]) -> list[int]:
    """Return the group number of each series, from 1, in order of appearance (average linkage)."""
    if len(items) < 2:
        return [1] * len(items)
    labels = fcluster(linkage(squareform(distances(items), checks=False), "average"), ALIKE_OCTAVES, "distance")
    order = list(dict.fromkeys(labels.tolist()))
    return [order.index(label) + 1 for label in labels.tolist()]
