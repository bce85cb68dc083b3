"""Groups of series that look alike: clustering by resolution, noise, its grain and slice thickness, in octaves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from .measure import MeasuredSeries

ALIKE_OCTAVES = (
    0.5  # a scan repeated at half the dose has .5 more noise, the next kernel of a family .25 more resolution
)
TISSUE = "soft tissue"  # every scan has some
UNLIKE_OCTAVES = 3.0  # of series that share no figure


def style(item: MeasuredSeries) -> np.ndarray:
    """(4,) MTF50, noise and mean frequency of its spectrum in soft tissue, thickness; log2, NaN where unknown."""
    spectrum = item.noise.get(TISSUE)
    return np.log2([
        item.mtf50 or np.nan,
        item.noise_hu.get(TISSUE, np.nan),
        spectrum.mean_frequency if spectrum else np.nan,
        item.protocol.thickness_mm or np.nan,
    ])  # fmt: skip


def distances(items: Sequence[MeasuredSeries]) -> np.ndarray:
    """(N, N) root mean squared difference of the styles in octaves, times two, over what both series have.

    Times two, the root of the number of figures: the Euclidean distance where none is missing.
    """
    styles = np.array([style(item) for item in items])
    apart = styles[:, None] - styles[None]
    known = np.isfinite(apart)
    square = np.where(known, apart, 0.0) ** 2
    mean = square.sum(-1) / known.sum(-1).clip(1)
    return np.where(known.any(-1), np.sqrt(mean * styles.shape[1]), UNLIKE_OCTAVES) * (1 - np.eye(len(items)))


def group(items: Sequence[MeasuredSeries]) -> list[int]:
    """Number of the group of each series, from 1, in order of appearance (average linkage)."""
    if len(items) < 2:
        return [1] * len(items)
    labels = fcluster(linkage(squareform(distances(items), checks=False), "average"), ALIKE_OCTAVES, "distance")
    order = list(dict.fromkeys(labels.tolist()))
    return [order.index(label) + 1 for label in labels.tolist()]
