"""Validation during training: texture figures on simulated pairs whose phantoms are not trained on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..metrics.texture import texture_agreement
from ..simulation.splits import VALIDATION, take
from ..simulation.tumour_pairs import SOURCE, TARGET, measured_regions, tumour_pairs, with_smoothed_source

SMOOTHING = ("bilateral", 0.6)  # of half of the pairs
SMOOTHED_FROM = 500  # first number in the split whose pair is smoothed

Standardize = Callable[[np.ndarray, float, np.ndarray], np.ndarray]  # (hu, spacing_mm, target_hu) -> hu


class ValidationSet:
    """Br40/Bl64 pairs, half of them with an edge-preserving smoothing of the Br40 image.

    Args:
        count: Number of pairs; may be 0.
    """

    def __init__(self, count: int):
        smoothed = count // 2
        to_smooth = tumour_pairs(take(VALIDATION, smoothed, SMOOTHED_FROM))
        self.pairs = [
            *tumour_pairs(take(VALIDATION, count - smoothed)),
            *(with_smoothed_source(pair, *SMOOTHING) for pair in to_smooth),
        ]

    def score(self, standardize: Standardize) -> dict[str, float]:
        """Score a method over tumours and squares of other tissue.

        Returns:
            Root mean square error in HU, and the share of texture figures within 15 % of the target's.
        """
        images = []
        for pair in self.pairs:
            output = standardize(pair.hu[SOURCE], pair.spacing_mm, pair.hu[TARGET])
            tumours, squares = measured_regions(pair)
            images.append((output, pair.hu[TARGET], [*tumours, *squares]))
        squared = [np.mean((output - target) ** 2) for output, target, _ in images]
        within = texture_agreement(images).reproducible
        return {"rmse_hu": float(np.sqrt(np.mean(squared))), "within_15_percent": within}
