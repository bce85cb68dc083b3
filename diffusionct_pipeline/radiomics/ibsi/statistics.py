"""Measure IBSI's features of a region's values regardless of position: statistics, histogram, intensity-volume."""

from __future__ import annotations

import numpy as np

from ..feature_class import Reasons, Values

ONE_LEVEL = "the region has one grey level"
ZERO = "its denominator is zero"


def intensity_statistics(x: np.ndarray) -> tuple[Values, Reasons]:
    """Measure the 18 features of the values themselves.

    Args:
        x: (voxels,) HU.

    Returns:
        Feature without its family -> value, NaN where undefined; and the reason for every NaN.
    """
    values, reasons = _moments(x)
    energy = (x**2).sum()
    return values | {"energy": energy, "rms": np.sqrt(energy / len(x))}, reasons


def histogram_features(levels: np.ndarray) -> tuple[Values, Reasons]:
    """Measure the 23 features of the grey levels.

    Args:
        levels: (voxels,) integers from 1.

    Returns:
        As from `intensity_statistics`.
    """
    values, reasons = _moments(levels.astype(float))
    counts = np.bincount(levels)[1:]
    highest = np.flatnonzero(counts == counts.max()) + 1
    p = counts[counts > 0] / len(levels)
    values |= {
        "mode": highest[np.argmin(np.abs(highest - values["mean"]))],  # of several, the nearest to the mean
        "entropy": -(p * np.log2(p)).sum() + 0.0,
        "uniformity": (p**2).sum(),
    }
    if len(counts) > 1:
        slope = np.gradient(counts.astype(float))
        values |= {
            "max_grad": slope.max(), "max_grad_g": np.argmax(slope) + 1,
            "min_grad": slope.min(), "min_grad_g": np.argmin(slope) + 1,
        }  # fmt: skip
    else:
        lacking = ("max_grad", "max_grad_g", "min_grad", "min_grad_g")
        values, reasons = values | dict.fromkeys(lacking, np.nan), reasons | dict.fromkeys(lacking, ONE_LEVEL)
    return values, reasons


def intensity_volume_features(x: np.ndarray, limits: tuple[float, float] | None = None) -> tuple[Values, Reasons]:
    """Measure the six features of the intensity-volume histogram, in steps of 1 HU.

    Args:
        x: (voxels,) HU.
        limits: HU that count as the minimum and the maximum intensity; None: those of `x`.

    Returns:
        As from `intensity_statistics`.
    """
    low, high = limits or (x.min(), x.max())
    if low == high:
        names = ("v10", "v90", "i10", "i90", "diff_v10_v90", "diff_i10_i90")
        return dict.fromkeys(names, np.nan), dict.fromkeys(names, "all values are equal")
    grid = low + np.arange(np.floor(high - low) + 2)  # with one more step, which no voxel reaches
    ordered = np.sort(x)
    volume = 1 - np.searchsorted(ordered, grid) / len(x)  # fraction of voxels with at least that value
    fraction = (grid - low) / (high - low)

    def volume_at(share: float) -> float:
        return volume[np.argmax(fraction >= share)]

    def intensity_at(share: float) -> float:
        return grid[np.argmax(volume <= share)]

    v10, v90, i10, i90 = volume_at(0.1), volume_at(0.9), intensity_at(0.1), intensity_at(0.9)
    return {
        "v10": v10, "v90": v90, "i10": i10, "i90": i90, "diff_v10_v90": v10 - v90, "diff_i10_i90": i10 - i90,
    }, {}  # fmt: skip


def _moments(x: np.ndarray) -> tuple[Values, Reasons]:
    """Measure the 16 features that statistics and histogram share."""
    mean, median = x.mean(), np.median(x)
    p10, p25, p75, p90 = np.percentile(x, (10, 25, 75, 90))
    deviation = x - mean
    variance = (deviation**2).mean()
    flat = np.ptp(x) == 0
    middle = x[(x >= p10) & (x <= p90)]
    values = {
        "mean": mean,
        "var": 0.0 if flat else variance,
        "skew": 0.0 if flat else (deviation**3).mean() / variance**1.5,
        "kurt": 0.0 if flat else (deviation**4).mean() / variance**2 - 3,
        "median": median,
        "min": x.min(),
        "p10": p10,
        "p90": p90,
        "max": x.max(),
        "iqr": p75 - p25,
        "range": np.ptp(x),
        "mad": np.abs(deviation).mean(),
        "rmad": np.abs(middle - middle.mean()).mean(),
        "medad": np.abs(x - median).mean(),
        "cov": np.sqrt(variance) / mean if mean else np.nan,
        "qcod": (p75 - p25) / (p75 + p25) if p75 + p25 else np.nan,
    }
    return values, {name: ZERO for name in ("cov", "qcod") if np.isnan(values[name])}
