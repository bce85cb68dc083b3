"""Compute intervals of features over samples of the same image, and how often they cover the true value.

Percentiles are Weibull's: p is at rank p (K + 1) of K sorted samples, with linear interpolation between ranks. If the
truth is one more draw from the distribution of the samples, it lies below rank r with probability r / (K + 1), so that 5
to 95 % covers it in about 90 % of cases. The usual estimator, at rank 1 + p (K - 1), covers 81 % with K = 20. Both ends
are within the ranks only for K of at least 19; 20 are required here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..radiomics import FEATURE_CLASSES, feature_class
from .agreement import ALL

LEVEL = 0.9  # 5 to 95 %
# Of intervals about their median, as needed on validation tumours (benchmarks/ablation.py --split validation).
WIDENING = 2.2
_ROUNDING = 1e-12  # relative difference of features that count as equal


@dataclass(frozen=True)
class ClassCoverage:
    """Describe the intervals of one feature class.

    Attributes:
        features: Number of features of the class.
        pairs: Number of (tumour, feature) pairs that have an interval and a true value.
        undefined: Share of all pairs that lack one of them.
        covered: Share of `pairs` whose interval covers the true value, NaN without any.
        median_width: Median width of the intervals relative to the true value, over pairs where that is not 0; NaN
            without any.
    """

    features: int
    pairs: int
    undefined: float
    covered: float
    median_width: float


def fewest_samples(level: float = LEVEL) -> int:
    """Return the number of samples that an interval needs: 20 for 90 %."""
    return math.ceil(round(2 / (1 - level), 6))


def sample_intervals(
    samples: ArrayLike, level: float = LEVEL, widening: float = 1.0, least: ArrayLike = -np.inf
) -> tuple[np.ndarray, np.ndarray]:
    """Return central intervals over samples.

    Args:
        samples: (K, ...) of any quantity; NaN is undefined.
        level: Share of draws that an interval is to cover, in (0, 1).
        widening: Factor on both ends' distances from the median: a model has more errors than it samples, so that
            intervals over samples alone cover the truth less often than `level`.
        least: The lowest possible value, (...) or one for all: no end lies below it. For features:
            `radiomics.least_value`.

    Returns:
        Lower and upper ends, (...); NaN where any sample is undefined.

    Raises:
        ValueError: if K is below `fewest_samples(level)`.
    """
    samples = np.asarray(samples, float)
    require_samples(len(samples), level)
    defined = np.isfinite(samples).all(0)
    ends = [(1 - level) / 2, (1 + level) / 2]
    low, middle, high = np.quantile(np.where(defined, samples, 0), [ends[0], 0.5, ends[1]], axis=0, method="weibull")
    low, high = middle - widening * (middle - low), middle + widening * (high - middle)
    low, high = np.maximum(low, least), np.maximum(high, least)
    return np.where(defined, low, np.nan), np.where(defined, high, np.nan)


def needed_widening(samples: ArrayLike, truth: ArrayLike, level: float = LEVEL) -> np.ndarray:
    """Return the smallest `widening` with which each interval covers the true value, (...); NaN where anything is undefined.

    With its quantile at `level` over held-out pairs, intervals of new pairs cover the truth as often as `level` (split
    conformal prediction; Angelopoulos and Bates 2023, section 2.2).
    """
    low, high = sample_intervals(samples, level)
    middle, truth = np.median(np.asarray(samples, float), 0), np.asarray(truth, float)
    distance = np.abs(truth - middle)
    reach = np.where(truth < middle, middle - low, high - middle)
    return np.divide(distance, reach, out=np.where(distance > 0, np.inf, 0 * distance), where=reach > 0)


def require_samples(count: int, level: float = LEVEL) -> None:
    """Raise ValueError if there are too few samples for an interval."""
    if count < fewest_samples(level):
        raise ValueError(f"intervals of {level:.0%} need at least {fewest_samples(level)} samples, got {count}")


def covers(low: ArrayLike, high: ArrayLike, truth: ArrayLike) -> np.ndarray:
    """Return whether each interval covers the true value, including its ends; False where anything is undefined."""
    low, high, truth = (np.asarray(values, float) for values in (low, high, truth))
    slack = _ROUNDING * np.abs(truth)
    return (low - slack <= truth) & (truth <= high + slack)


def relative_width(low: ArrayLike, high: ArrayLike, truth: ArrayLike) -> np.ndarray:
    """Return (high - low) / |truth|; NaN where the truth is 0 or anything is undefined."""
    truth = np.asarray(truth, float)
    return (np.asarray(high, float) - np.asarray(low, float)) / np.where(truth == 0, np.nan, np.abs(truth))


def coverage_by_class(
    low: ArrayLike, high: ArrayLike, truth: ArrayLike, names: Sequence[str]
) -> dict[str, ClassCoverage]:
    """Return coverage and width of every class present in `names`, and of all features together under "all".

    Args:
        low, high: (tumours, features), from `sample_intervals`.
        truth: (tumours, features).
        names: Names of the features.

    Raises:
        ValueError: if shapes and names do not match.
    """
    low, high, truth = (np.asarray(values, float) for values in (low, high, truth))
    if not low.shape == high.shape == truth.shape or truth.ndim != 2 or truth.shape[1] != len(names):
        raise ValueError(
            f"`low`, `high` and `truth` must be (tumours, {len(names)}), one column per name, got shapes "
            f"{low.shape}, {high.shape} and {truth.shape}"
        )
    defined = np.isfinite(low) & np.isfinite(high) & np.isfinite(truth)
    held, width = covers(low, high, truth), relative_width(low, high, truth)
    classes = np.array([feature_class(name) for name in names])
    result = {}
    for name in (*dict.fromkeys([*FEATURE_CLASSES, *classes.tolist()]), ALL):
        chosen = classes == name if name != ALL else np.ones(len(names), bool)
        if not chosen.any():
            continue
        usable = defined[:, chosen]
        widths = width[:, chosen][usable]
        widths = widths[~np.isnan(widths)]
        result[name] = ClassCoverage(
            features=int(chosen.sum()),
            pairs=int(usable.sum()),
            undefined=float(1 - usable.mean()),
            covered=float(held[:, chosen][usable].mean()) if usable.any() else math.nan,
            median_width=float(np.median(widths)) if len(widths) else math.nan,
        )
    return result
