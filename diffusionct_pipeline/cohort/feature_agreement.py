"""Measure how well each feature of a cohort agrees between two images: CCC, ICC, bias, limits of agreement, intervals.

Arrays are (regions, features): row i of `source` and of `target` is the same region in the two images. NaN marks an
undefined feature; its pair is left out and counted. Intervals resample patients, with all their regions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from ..metrics.agreement import DEFINED_SHARE, REPRODUCIBLE, feature_ccc, relative_error
from ..radiomics import feature_class
from ..reporting.plots import LIMITS_STD
from .tables import IBSI_FEATURE

THRESHOLDS = (0.75, 0.85, 0.9)
LEVEL = 0.95
FEWEST_PATIENTS = 5  # with fewer, resampling them is meaningless
_CONSTANT = 1e-12  # spread, relative to the magnitude, up to which it counts as rounding


@dataclass(frozen=True, eq=False)
class Robustness:
    """Hold the agreement of each feature, all (F,).

    Attributes:
        names: Names of the features.
        pairs, patients: Numbers of those that have the feature in both images.
        values: "ccc", "icc_a1" and "icc_c1" -> estimates, NaN where fewer than half of the pairs are defined.
        low, high: The same -> ends of 95 % intervals, over resampled patients; NaN with fewer than `FEWEST_PATIENTS`.
        bias, std: Mean and standard deviation of source minus target.
        relative_error: Median over the pairs.
        reproducible: Fraction of the pairs with a relative error below .15, of those that have one.
        above: "ccc", "icc_a1" and "icc_c1" -> threshold -> (resamples,) counts of features above it.
    """

    names: Sequence[str]
    pairs: np.ndarray
    patients: np.ndarray
    values: dict[str, np.ndarray]
    low: dict[str, np.ndarray]
    high: dict[str, np.ndarray]
    bias: np.ndarray
    std: np.ndarray
    relative_error: np.ndarray
    reproducible: np.ndarray
    above: dict[str, dict[float, np.ndarray]]

    @property
    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        """Return lower and upper limits of agreement."""
        return self.bias - LIMITS_STD * self.std, self.bias + LIMITS_STD * self.std

    def count(self, figure: str, threshold: float) -> tuple[int, tuple[float, float] | None]:
        """Count features with a figure above a threshold; with the 95 % interval of that count over resampled patients."""
        drawn, found = self.above[figure][threshold], int((self.values[figure] > threshold).sum())
        if not len(drawn):
            return found, None
        low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
        return found, (low, high)


def robustness(
    source: ArrayLike,
    target: ArrayLike,
    names: Sequence[str],
    patients: Sequence,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Robustness:
    """Measure the agreement of each feature between two images of the same regions.

    Args:
        source, target: (regions, F).
        names: Names of the F features.
        patients: The patient of each region.
        resamples: Bootstrap resamples of the patients; 0 gives no intervals.
        seed: Seed of the resampling.

    Raises:
        ValueError: The shapes do not match.
    """
    source, target = np.asarray(source, float), np.asarray(target, float)
    if source.shape != target.shape or source.ndim != 2 or source.shape != (len(patients), len(names)):
        raise ValueError(
            f"`source` and `target` must have a row for each of `patients` and a column for each of `names`, "
            f"({len(patients)}, {len(names)}), got {source.shape} and {target.shape}."
        )
    defined = np.isfinite(source) & np.isfinite(target)
    source, target = (np.where(defined, part, np.nan) for part in (source, target))
    of_patient, index = np.unique(np.asarray(patients, str), return_inverse=True)
    enough = defined.mean(0) >= DEFINED_SHARE
    # 1. Estimates.
    once = _figures(source, target, np.ones((1, len(source))))
    values = {name: np.where(enough, each[0], np.nan) for name, each in once.items()}
    values["ccc"] = feature_ccc(source, target)
    # 2. The same for resampled patients.
    count = len(of_patient)
    resamples = resamples if count >= FEWEST_PATIENTS else 0
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), resamples)[:, index]
    again = _figures(source, target, drawn.astype(float))
    low, high, above = {}, {}, {}
    for name, each in again.items():
        each[:, ~enough] = np.nan
        low[name], high[name] = _ends(each)
        above[name] = {threshold: (each > threshold).sum(1) for threshold in THRESHOLDS}
    # 3. Figures that need no resampling.
    difference, error = source - target, relative_error(source, target)
    with np.errstate(invalid="ignore", divide="ignore"):
        pairs = defined.sum(0)
        bias = np.where(defined, difference, 0).sum(0) / pairs
        std = np.sqrt((np.where(defined, difference - bias, 0) ** 2).sum(0) / (pairs - 1))
        has_error = ~np.isnan(error)
        reproducible = (error < REPRODUCIBLE).sum(0) / has_error.sum(0)
    return Robustness(
        names=names,
        pairs=pairs,
        patients=np.array([len(set(index[column])) for column in defined.T]),
        values=values,
        low=low,
        high=high,
        bias=bias,
        std=np.where(pairs > 1, std, np.nan),
        relative_error=np.array([np.median(e[h]) if h.any() else np.nan for e, h in zip(error.T, has_error.T)]),
        reproducible=reproducible,
        above=above,
    )


def icc(ratings: ArrayLike, level: float = LEVEL) -> dict[str, tuple[float, float, float]]:
    """Measure intraclass correlations of a table without gaps, with intervals from normal theory.

    Args:
        ratings: (subjects, raters), at least two of each.
        level: Coverage of the intervals.

    Returns:
        "icc_a1" (absolute agreement) and "icc_c1" (consistency), single ratings, two-way: (value, low, high). McGraw and
        Wong, Psychological Methods 1, 1996, cases 2A and 3A; ICC(2,1) and ICC(3,1) of Shrout and Fleiss 1979.

    Raises:
        ValueError: The shape is different, or ratings are undefined.
    """
    x = np.asarray(ratings, float)
    if x.ndim != 2 or min(x.shape) < 2 or not np.isfinite(x).all():
        raise ValueError(f"`ratings` must be finite, with at least 2 subjects and 2 raters, got shape {x.shape}.")
    n, k = x.shape
    rows, columns = x.mean(1, keepdims=True), x.mean(0, keepdims=True)
    msr = k * ((rows - x.mean()) ** 2).sum() / (n - 1)
    msc = n * ((columns - x.mean()) ** 2).sum() / (k - 1)
    mse = ((x - rows - columns + x.mean()) ** 2).sum() / ((n - 1) * (k - 1))
    tail, freedom = 1 - (1 - level) / 2, (n - 1) * (k - 1)
    consistency = (msr - mse) / (msr + (k - 1) * mse)
    ratio = msr / mse if mse else np.inf
    low = ratio / stats.f.ppf(tail, n - 1, freedom)
    high = ratio * stats.f.ppf(tail, freedom, n - 1)
    bounds = [float((f - 1) / (f + k - 1)) if np.isfinite(f) else 1.0 for f in (low, high)]
    c1 = (float(consistency), bounds[0], bounds[1])
    agreement = (msr - mse) / (msr + (k - 1) * mse + k / n * (msc - mse))
    if agreement >= 1:
        return {"icc_a1": (1.0, 1.0, 1.0), "icc_c1": c1}
    a = k * agreement / (n * (1 - agreement))
    b = 1 + k * agreement * (n - 1) / (n * (1 - agreement))
    v = (a * msc + b * mse) ** 2 / ((a * msc) ** 2 / (k - 1) + (b * mse) ** 2 / freedom)
    rest = k * msc + (k * n - k - n) * mse
    below, over = stats.f.ppf(tail, n - 1, v), stats.f.ppf(tail, v, n - 1)
    a1 = (
        float(agreement),
        float(n * (msr - below * mse) / (below * rest + n * msr)),
        float(n * (over * msr - mse) / (rest + n * over * msr)),
    )
    return {"icc_a1": a1, "icc_c1": c1}


def class_of(name: str) -> str:
    """Return the class that a feature is reported in: this package's, IBSI's family, or the middle part of the name."""
    try:
        return feature_class(name)
    except ValueError:
        if IBSI_FEATURE.match(name):
            prefix, tag, _ = name.split("/")
            return f"{prefix} {tag.split('_')[0]}"
        if "/" in name:
            return name.split("/")[0]
        parts = name.replace("-", "_").split("_")
        return parts[1] if len(parts) > 2 else "features"


def _figures(source: np.ndarray, target: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Measure CCC and both ICC of every feature, (B, F), from two ratings, for B rows of weights over the regions."""
    defined = ~np.isnan(source)
    with np.errstate(invalid="ignore"):
        centre = np.where(defined, source + target, 0).sum(0) / (2 * defined.sum(0))
    size = np.max(np.where(defined, np.maximum(np.abs(source), np.abs(target)), 0), axis=0, initial=0)
    x, y = (np.where(defined, part - centre, 0) for part in (source, target))

    with np.errstate(invalid="ignore", divide="ignore"):
        n = weights @ defined.astype(float)
        mean_x, mean_y = (weights @ part / n for part in (x, y))
        var_x, var_y = (weights @ part**2 / n - mean**2 for part, mean in ((x, mean_x), (y, mean_y)))
        covariance = weights @ (x * y) / n - mean_x * mean_y
        between, apart = var_x + var_y, (mean_x - mean_y) ** 2
        # Mean squares of regions, of images and of the residual.
        msr = n * (between + 2 * covariance) / 2 / (n - 1)
        mse = n * (between - 2 * covariance) / 2 / (n - 1)
        msc = n * apart / 2
        figures = {
            "ccc": 2 * covariance / (between + apart),
            "icc_a1": (msr - mse) / (msr + mse + 2 / n * (msc - mse)),
            "icc_c1": (msr - mse) / (msr + mse),
        }
    still = (between + apart <= (_CONSTANT * size) ** 2) | (n < 2)
    return {name: np.where(still, np.nan, each) for name, each in figures.items()}


def _ends(drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the (F,) ends of the intervals over (B, F) resamples; NaN where none is defined."""
    ends = np.full((2, drawn.shape[1]), np.nan)
    some = ~np.isnan(drawn).all(0) if len(drawn) else np.zeros(drawn.shape[1], bool)
    if some.any():
        ends[:, some] = np.nanquantile(drawn[:, some], [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return ends[0], ends[1]
