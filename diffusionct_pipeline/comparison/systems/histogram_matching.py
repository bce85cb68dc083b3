"""Histogram matching: one lookup table for all slices, the oldest harmonization method of the field."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from .fitted import FittedSystem
from .protocol import FittingPair

LOWEST_HU, HIGHEST_HU = -1024, 3072  # 12 bits
GRID_HU = np.arange(LOWEST_HU, HIGHEST_HU + 1)


class HistogramMatching(FittedSystem):
    """Maps every quantile of the pooled source to that of the pooled target (Gonzalez and Woods, section 3.3.2).

    Pooled over all fitting pairs: matching each image to one reference slice would impose the anatomy of that
    reference. Interpolates linearly between steps of 1 HU, as scikit-image's `match_histograms` does.
    """

    learnt = ("table",)

    def __init__(self) -> None:
        self.table: np.ndarray | None = None  # HU at GRID_HU, never decreasing

    def fit(self, pairs: Iterable[FittingPair]) -> HistogramMatching:
        """Pool the pixels that are measured in both images; return the system itself."""
        counts = np.zeros((2, len(GRID_HU)))
        for source, target, _ in pairs:
            measured = (source > LOWEST_HU) & (target > LOWEST_HU)  # padding is stored at or below
            for side, hu in enumerate((source, target)):
                bins = np.rint(hu[measured].clip(LOWEST_HU, HIGHEST_HU)).astype(int) - LOWEST_HU
                counts[side] += np.bincount(bins, minlength=len(GRID_HU))
        # A pixel counts at the middle of its step, so that equal images map to themselves.
        source_quantile, target_quantile = (np.cumsum(side) - side / 2 for side in counts)
        seen, met = (side > 0 for side in counts)
        mapped = np.interp(source_quantile[seen], target_quantile[met], GRID_HU[met])
        self.table = np.interp(GRID_HU, GRID_HU[seen], mapped)
        return self

    def standardize(self, hu: np.ndarray, pixel_spacing: float) -> np.ndarray:
        """Map (H, W) HU to (H, W) float32 HU, clipped to -1024 to 3072.

        Raises:
            ValueError: if the system is not fitted.
        """
        table = self.require_fit(self.table)
        return np.interp(np.asarray(hu, np.float64), GRID_HU, table).astype(np.float32)
