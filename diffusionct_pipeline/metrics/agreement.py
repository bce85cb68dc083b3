"""Measure the agreement of radiomic features: relative error, reproducible features, concordance, intervals over tumours.

Arrays are (samples, features): row i of `source` and of `target` is the same tumour in the two images. NaN marks an
undefined feature; its pair is left out and counted, never replaced.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import ArrayLike

from ..radiomics import FEATURE_CLASSES, feature_class

REPRODUCIBLE = 0.15  # relative error below which the paper calls a feature reproducible
ALL = "all"  # the key of the row over all classes
DEFINED_SHARE = 0.5  # of the samples in which a feature must be defined to have a concordance
_CONSTANT = 1e-12  # spread relative to the magnitude up to which it is rounding, not variation


@dataclass(frozen=True)
class ClassAgreement:
    """Hold the agreement of one feature class. Intervals are (low, high) over resampled tumours, or None.

    With ten tumours or fewer the intervals are too low: a resample repeats tumours, has less spread, and so agrees less.

    Attributes:
        features: Number of features of the class.
        undefined_features: Number of those without a concordance: defined in fewer than two pairs or half of them, or
            constant in both images.
        undefined_pairs: Share of (sample, feature) pairs in which either value is undefined.
        zero_targets: Share of pairs with a target of 0, which have no relative error.
        attainable: Mean number of features per sample that have a relative error, and so can be reproducible.
        reproducible: Mean number of features per sample within the threshold of relative error.
        reproducible_interval: Interval of `reproducible`.
        ccc_mean, ccc_std: Concordance of each feature across samples, mean and standard deviation over the class.
        ccc_mean_interval: Interval of `ccc_mean`.
        ccc_pooled: Eq. 2 of Selim et al. 2023 taken literally: all values of the class in one pool. The features with
            the largest numbers dominate it.
        ccc_pooled_interval: Interval of `ccc_pooled`.
    """

    features: int
    undefined_features: int
    undefined_pairs: float
    zero_targets: float
    attainable: float
    reproducible: float
    reproducible_interval: tuple[float, float] | None
    ccc_mean: float
    ccc_std: float
    ccc_mean_interval: tuple[float, float] | None
    ccc_pooled: float
    ccc_pooled_interval: tuple[float, float] | None


def relative_error(source: ArrayLike, target: ArrayLike) -> np.ndarray:
    """Return |target - source| / |target|, elementwise; NaN where the target is 0 or either value is undefined.

    The paper divides by the target itself, which makes every negative feature reproducible; this divides by |target|.
    """
    source, target = np.asarray(source, float), np.asarray(target, float)
    safe = np.where(target == 0, np.nan, np.abs(target))
    return np.abs(target - source) / safe


@overload
def reproducible_fraction(source: ArrayLike, target: ArrayLike, threshold: float = REPRODUCIBLE) -> float: ...


@overload
def reproducible_fraction(source: ArrayLike, target: ArrayLike, threshold: ArrayLike) -> np.ndarray: ...


def reproducible_fraction(
    source: ArrayLike, target: ArrayLike, threshold: ArrayLike = REPRODUCIBLE
) -> float | np.ndarray:
    """Return the share of all (sample, feature) pairs whose relative error is below `threshold`; undefined ones are not.

    Args:
        source, target: (samples, features) or (features,).
        threshold: A number or an array of them (the axis of the paper's Figure 4).

    Returns:
        float in [0, 1], or an array like `threshold`. Times 1,401 it is the paper's count of features.
    """
    error = np.sort(relative_error(source, target), axis=None)  # NaN last: never below a threshold
    below = np.searchsorted(error, threshold, side="left") / error.size
    return float(below) if np.ndim(threshold) == 0 else below


def ccc(x: ArrayLike, y: ArrayLike) -> np.ndarray | float:
    """Return Lin's concordance correlation coefficient along the first axis, without undefined pairs.

    2 s_xy / (s_x^2 + s_y^2 + (m_x - m_y)^2) with moments over n (Lin, Biometrics 45, 1989).

    Args:
        x, y: (samples,) or (samples, features).

    Returns:
        float or (features,); NaN for fewer than two pairs, or where both are constant and equal.
    """
    x, y = _same_shape(x, y)
    result = _weighted_ccc(x.reshape(len(x), -1), y.reshape(len(y), -1), np.ones((1, len(x))))[0]
    return float(result[0]) if x.ndim == 1 else result


def feature_ccc(source: ArrayLike, target: ArrayLike) -> np.ndarray:
    """Return the concordance of each feature across samples, (samples, F) and (samples, F) -> (F,), see `ccc`.

    It is NaN also where a feature is defined in less than `DEFINED_SHARE` of the pairs: two pairs out of fourteen do not
    represent the other twelve.
    """
    source, target = _same_shape(source, target)
    return np.where(_mostly_defined(source, target), ccc(source, target), np.nan)


def ccc_by_class(source: ArrayLike, target: ArrayLike, names: Sequence[str]) -> dict[str, tuple[float, float, float]]:
    """Return class -> (mean, std, pooled): concordance per feature over the class, and of the class in one pool."""
    return {
        name: (row.ccc_mean, row.ccc_std, row.ccc_pooled)
        for name, row in agreement_by_class(source, target, names).items()
        if name != ALL
    }


def agreement_by_class(
    source: ArrayLike,
    target: ArrayLike,
    names: Sequence[str],
    *,
    threshold: float = REPRODUCIBLE,
    tumours: Sequence | None = None,
    resamples: int = 0,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, ClassAgreement]:
    """Return the agreement of every class present in `names`, and of all features together under "all".

    For figures on distinct features only, pass the columns and names that are not in `duplicate_features`.

    Args:
        source, target: (samples, features).
        names: Names of the features, in the order of the columns.
        threshold: Relative error below which a feature is reproducible.
        tumours: One label per sample; samples of one tumour are resampled together. None: each is its own tumour.
        resamples: Number of bootstrap resamples of the tumours; 0 gives no intervals.
        level: Coverage of the intervals (percentile method).
        seed: Seed of the resampling.

    Raises:
        ValueError: if shapes, names or labels do not match.
    """
    source, target = _same_shape(source, target)
    if source.ndim != 2 or source.shape[1] != len(names):
        raise ValueError(f"`source` must be (samples, {len(names)}), one column per name, got shape {source.shape}")
    # 1. Row 0 weights every sample once; the others are resampled tumours.
    weights = np.concatenate([np.ones((1, len(source))), _resample(len(source), tumours, resamples, seed)])
    # 2. Independent of the class: concordance per feature, reproducible features per sample.
    per_feature = _weighted_ccc(source, target, weights)  # [1 + B, features]
    per_feature[:, ~_mostly_defined(source, target)] = np.nan
    error = relative_error(source, target)  # [samples, features]
    within, has_error = error < threshold, ~np.isnan(error)
    undefined = np.isnan(source) | np.isnan(target)
    classes = np.array([feature_class(name) for name in names])
    # 3. Class by class.
    result = {}
    for name in (*dict.fromkeys([*FEATURE_CLASSES, *classes.tolist()]), ALL):
        chosen = np.flatnonzero(classes == name) if name != ALL else np.arange(len(names))
        if len(chosen) == 0:
            continue
        single, mean = per_feature[0, chosen], _mean(per_feature[:, chosen])  # [F], [1 + B]
        pooled = _weighted_ccc(source[:, chosen], target[:, chosen], weights, pooled=True)[:, 0]  # [1 + B]
        count = weights @ within[:, chosen].sum(1) / weights.sum(1)
        result[name] = ClassAgreement(
            features=len(chosen),
            undefined_features=int(np.isnan(single).sum()),
            undefined_pairs=float(undefined[:, chosen].mean()),
            zero_targets=float((target[:, chosen] == 0).mean()),
            attainable=float(has_error[:, chosen].sum(1).mean()),
            reproducible=float(count[0]),
            reproducible_interval=_interval(count[1:], level),
            ccc_mean=float(mean[0]),
            ccc_std=float(np.std(single[~np.isnan(single)])) if not np.isnan(single).all() else np.nan,
            ccc_mean_interval=_interval(mean[1:], level),
            ccc_pooled=float(pooled[0]),
            ccc_pooled_interval=_interval(pooled[1:], level),
        )
    return result


def _same_shape(x: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(x, float), np.asarray(y, float)
    if x.shape != y.shape or x.ndim == 0:
        raise ValueError(f"the two sets must have equal shapes, samples first, got {x.shape} and {y.shape}")
    return x, y


def _mostly_defined(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return whether features are defined in at least `DEFINED_SHARE` of the pairs of (samples, features) arrays."""
    return (~(np.isnan(source) | np.isnan(target))).mean(0) >= DEFINED_SHARE


def _weighted_ccc(x: np.ndarray, y: np.ndarray, weights: np.ndarray, pooled: bool = False) -> np.ndarray:
    """Return the CCC of every column for every row of sample weights: (samples, F), (samples, F), (B, samples) -> (B, F).

    With `pooled`, that of all columns in one pool, (B, 1).
    """
    valid = ~(np.isnan(x) | np.isnan(y))
    axis = None if pooled else 0
    pairs = np.atleast_1d(valid.sum(axis))
    # Centred on the mean of the column (the pool), so that the moments below do not cancel.
    with np.errstate(invalid="ignore"):
        centre = (np.where(valid, x, 0).sum(axis) + np.where(valid, y, 0).sum(axis)) / (2 * pairs)
    size = np.max(np.where(valid, np.maximum(np.abs(x), np.abs(y)), 0), axis=axis, initial=0)
    x, y = np.where(valid, x - centre, 0), np.where(valid, y - centre, 0)

    def total(values: np.ndarray) -> np.ndarray:
        return weights @ (values.sum(1, keepdims=True) if pooled else values)

    with np.errstate(invalid="ignore", divide="ignore"):
        n = total(valid.astype(float))
        mean_x, mean_y = total(x) / n, total(y) / n
        var_x, var_y = total(x * x) / n - mean_x**2, total(y * y) / n - mean_y**2
        covariance = total(x * y) / n - mean_x * mean_y
        spread = var_x + var_y + (mean_x - mean_y) ** 2
        result = 2 * covariance / spread
    result[(spread <= (_CONSTANT * size) ** 2) | (n < 2) | (pairs < 2)] = np.nan
    return result


def _resample(samples: int, tumours: Sequence | None, resamples: int, seed: int) -> np.ndarray:
    """Return how often each sample is drawn, (resamples, samples), if tumours are drawn with replacement."""
    labels = np.arange(samples) if tumours is None else np.asarray(tumours)
    if len(labels) != samples:
        raise ValueError(f"`tumours` must have one label for each of the {samples} samples, got {len(labels)}")
    unique, index = np.unique(labels, return_inverse=True)
    drawn = np.random.default_rng(seed).multinomial(len(unique), np.full(len(unique), 1 / len(unique)), resamples)
    return drawn[:, index].astype(float)


def _mean(values: np.ndarray) -> np.ndarray:
    """Return the mean of every row over its defined values; NaN where there are none."""
    defined = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(defined, values, 0).sum(1) / defined.sum(1)


def _interval(values: np.ndarray, level: float) -> tuple[float, float] | None:
    values = values[~np.isnan(values)]
    if len(values) == 0:
        return None
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
