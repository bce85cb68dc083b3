"""Measure intensity features: IBEX's IntensityDirect (ID, 47 values) and IntensityHistogram (IH, 31 values).

IH describes the heights of the histogram's bins, or repeats 21 of ID's values (`RadiomicSettings.histogram_of`);
docs/decisions/06_histogram_features_of_heights.md says why. Percentiles follow MATLAB's prctile (numpy's "hazen").
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .feature_class import FeatureClass, Region
from .settings import RadiomicSettings

PERCENTILES = tuple(range(5, 100, 10))
QUANTILES = (0.025, 0.25, 0.5, 0.75, 0.975)
SHAPE = ("InterQuartileRange", "Kurtosis", "MeanAbsoluteDeviation", "MedianAbsoluteDeviation", "Range", "Skewness")
_GLOBAL = (
    "Energy", "EnergyNorm", "GlobalEntropy", "GlobalMax", "GlobalMean", "GlobalMedian", "GlobalMin", "GlobalStd",
    "GlobalUniformity", "RootMeanSquare", "Variance",
)  # fmt: skip
_LOCAL = tuple(f"Local{m}{s}" for m in ("Entropy", "Range", "Std") for s in ("Max", "Mean", "Median", "Min", "Std"))
_ENTROPY_BIN = 4096 / 255  # CT numbers: local entropy divides the 12-bit range into 256 levels of about 16 HU
ALL_EQUAL = "all values are equal, so there is no variance to divide by"
TOO_FEW = "one voxel has no standard deviation"
EQUAL_HEIGHTS = "all histogram bins have the same height, so there is no variance to divide by"
ALL_BEYOND = "no voxel of the region lies within the grey limits"


def intensity_feature_names() -> list[str]:
    """Return the 47 ID names, then the 31 IH names."""
    percentiles = [f"Percentile/p={p}" for p in PERCENTILES]
    quantiles = [f"Quantile/q={q}" for q in QUANTILES]
    areas = [f"PercentileArea/p={p}" for p in PERCENTILES]
    direct = [*_GLOBAL, *SHAPE, *_LOCAL, *percentiles, *quantiles]
    return [f"ID/{n}" for n in direct] + [f"IH/{n}" for n in (*SHAPE, *percentiles, *areas, *quantiles)]


def intensity_features(
    ct: np.ndarray, mask: np.ndarray, settings: RadiomicSettings, limits: tuple[float, float]
) -> tuple[dict[str, float], dict[str, str]]:
    """Measure all ID and IH features of a region.

    Args:
        ct: (slices, rows, columns) CT numbers with a margin around the region that covers the local windows.
        mask: bool, same shape: the region.
        settings: Windows, bins and the reading of the histogram.
        limits: (low, high) CT numbers spanned by the histogram.

    Returns:
        values: name -> value, NaN where undefined.
        reasons: name -> why, for every NaN.
    """
    x = np.sort(ct[mask])
    shape, reasons = shape_statistics(x)
    percentiles = {f"Percentile/p={p}": v for p, v in zip(PERCENTILES, percentile(x, PERCENTILES))}
    quantiles = {f"Quantile/q={q}": v for q, v in zip(QUANTILES, percentile(x, 100 * np.array(QUANTILES)))}
    histogram = np.bincount(grey_levels(x, limits, settings.histogram_bins) - 1, minlength=settings.histogram_bins)
    by_histogram, histogram_reasons = _histogram_features(x, histogram, limits, settings.histogram_of)
    local, local_reasons = _local_statistics(ct, mask, settings)

    direct = {**_global_statistics(x, histogram), **shape, **local, **percentiles, **quantiles}
    direct_reasons = {**reasons, **local_reasons}
    if len(x) < 2:
        direct_reasons.update(GlobalStd=TOO_FEW, Variance=TOO_FEW)
    values = {f"ID/{n}": float(v) for n, v in direct.items()} | {f"IH/{n}": float(v) for n, v in by_histogram.items()}
    return values, {f"ID/{n}": r for n, r in direct_reasons.items()} | {
        f"IH/{n}": r for n, r in histogram_reasons.items()
    }


def _histogram_features(
    x: np.ndarray, histogram: np.ndarray, limits: tuple[float, float], reading: str
) -> tuple[dict[str, float], dict[str, str]]:
    """Measure the 31 IH features.

    Args:
        x: (voxels,) CT numbers, sorted.
        histogram: (bins,) voxels in each bin; the first and last also count voxels beyond the limits.
        limits: (low, high) CT numbers of the first and the last bin.
        reading: `RadiomicSettings.histogram_of`.
    """
    locations = grey_locations(limits, len(histogram))
    # IBEX leaves out an end bin that counts values beyond the limits.
    within = slice(int(x[0] < limits[0]), len(histogram) - int(x[-1] > limits[1]))
    histogram, locations = histogram[within], locations[within]
    areas, area_reasons = percentile_areas(histogram, locations)
    of = x if reading == "values" else np.sort(histogram / len(x))
    shape, reasons = shape_statistics(of)
    if reading == "heights":
        reasons = dict.fromkeys(reasons, EQUAL_HEIGHTS)
    percentiles = {f"Percentile/p={p}": v for p, v in zip(PERCENTILES, percentile(of, PERCENTILES))}
    quantiles = {f"Quantile/q={q}": v for q, v in zip(QUANTILES, percentile(of, 100 * np.array(QUANTILES)))}
    return {**shape, **percentiles, **areas, **quantiles}, {**reasons, **area_reasons}


def grey_levels(ct: np.ndarray, limits: tuple[float, float], levels: int) -> np.ndarray:
    """Quantize CT numbers to grey levels 1..levels: the nearest of `grey_locations`, clipped to the end levels.

    This is IBEX's rule, round((v - low) (levels - 1) / (high - low)) + 1, with halves rounded away from zero as in
    MATLAB. MATLAB's own graycomatrix takes the floor instead.

    Equal limits (a region of one value under adaptive limits) put everything into level 1.
    """
    low, high = limits
    if low == high:
        return np.ones(np.shape(ct), np.intp)
    return np.clip(np.floor((ct - low) * ((levels - 1) / (high - low)) + 1.5), 1, levels).astype(np.intp)


def grey_locations(limits: tuple[float, float], levels: int) -> np.ndarray:
    """Return the (levels,) CT numbers of the grey levels; the first and the last lie on the limits."""
    return np.linspace(*limits, levels)


def percentile(sorted_values: np.ndarray, percents: float | Sequence[float] | np.ndarray) -> np.ndarray:
    """Return percentiles of sorted values by MATLAB's prctile: the k-th of n values is percentile 100 (k - 0.5) / n."""
    n = len(sorted_values)
    return np.interp(percents, (np.arange(n) + 0.5) * (100 / n), sorted_values)


def shape_statistics(sorted_values: np.ndarray) -> tuple[dict[str, float], dict[str, str]]:
    """Measure the six statistics shared by ID, IH and GOH, and say why any is undefined.

    Kurtosis is not the excess (a normal distribution has 3). MedianAbsoluteDeviation is the median of |x - median|,
    MATLAB's mad(x, 1); IBSI uses that name for a mean.
    """
    x = sorted_values
    median = percentile(x, 50)
    first, third = percentile(x, (25, 75))
    centred = x - x.mean()
    squares = centred * centred
    variance = squares.mean()
    equal = x[0] == x[-1]
    values = {
        "InterQuartileRange": third - first,
        "Kurtosis": np.nan if equal else (squares * squares).mean() / variance**2,
        "MeanAbsoluteDeviation": np.abs(centred).mean(),
        "MedianAbsoluteDeviation": np.median(np.abs(x - median)),
        "Range": x[-1] - x[0],
        "Skewness": np.nan if equal else (squares * centred).mean() / variance**1.5,
    }
    return values, {"Kurtosis": ALL_EQUAL, "Skewness": ALL_EQUAL} if equal else {}


def percentile_areas(histogram: np.ndarray, centres: np.ndarray) -> tuple[dict[str, float], dict[str, str]]:
    """Find where the cumulative histogram reaches 5, 15 .. 95 % of its area, linearly between the bins where it grows.

    Across empty bins the line starts at the last bin that holds voxels, or else at the first bin, as in IBEX.
    A percentage is undefined if the first bin alone holds more: the cumulative area then starts above it.
    """
    if not histogram.any():
        names = [f"PercentileArea/p={p}" for p in PERCENTILES]
        return dict.fromkeys(names, np.nan), dict.fromkeys(names, ALL_BEYOND)
    area = np.cumsum(histogram) * 100 / histogram.sum()
    grows = np.diff(area, prepend=-1) > 0
    at = np.interp(PERCENTILES, area[grows], centres[grows], left=np.nan)
    values = {f"PercentileArea/p={p}": v for p, v in zip(PERCENTILES, at)}
    reason = f"the first histogram bin alone holds {area[0]:.0f} % of the region"
    return values, {name: reason for name, v in values.items() if np.isnan(v)}


def _global_statistics(x: np.ndarray, histogram: np.ndarray) -> dict[str, float]:
    p = histogram[histogram > 0] / len(x)
    energy = (x * x).sum()
    variance = x.var(ddof=1) if len(x) > 1 else np.nan
    return {
        "Energy": energy,
        "EnergyNorm": energy / len(x),
        "GlobalEntropy": -(p * np.log2(p)).sum() + 0.0,
        "GlobalMax": x[-1],
        "GlobalMean": x.mean(),
        "GlobalMedian": percentile(x, 50),
        "GlobalMin": x[0],
        "GlobalStd": np.sqrt(variance),
        "GlobalUniformity": (p * p).sum(),
        "RootMeanSquare": np.sqrt(energy / len(x)),
        "Variance": variance,
    }


def _local_statistics(
    ct: np.ndarray, mask: np.ndarray, settings: RadiomicSettings
) -> tuple[dict[str, float], dict[str, str]]:
    """Measure statistics over the region of three maps: in-plane entropy, range and std around every voxel."""
    levels = np.clip(np.round(ct / _ENTROPY_BIN), 0, 255).astype(np.uint8)
    spread = _windows(ct, mask, settings.std_window)
    extent = spread if settings.range_window == settings.std_window else _windows(ct, mask, settings.range_window)
    maps = {
        "Entropy": _local_entropy(levels, mask, settings.entropy_window),
        "Range": extent.max(0) - extent.min(0),
        "Std": spread.std(0, ddof=1),
    }
    values = {}
    for name, m in maps.items():
        values[f"Local{name}Max"], values[f"Local{name}Min"] = m.max(), m.min()
        values[f"Local{name}Mean"], values[f"Local{name}Median"] = m.mean(), np.median(m)
        values[f"Local{name}Std"] = m.std(ddof=1) if len(m) > 1 else np.nan
    return values, {f"Local{name}Std": TOO_FEW for name in maps} if np.count_nonzero(mask) < 2 else {}


def _local_entropy(levels: np.ndarray, mask: np.ndarray, side: int) -> np.ndarray:
    """Return (voxels of the region,): the entropy in bits of the in-plane window around each; `levels` are uint8.

    With c of n window pixels at a level, the entropy is log2 n - sum c log2 c / n: the counts are box sums, level by
    level, and c log2 c is a look-up. It equals skimage's rank entropy, in two thirds of its time.
    """
    r, n = side // 2, side * side
    rows, columns = levels.shape[1] - 2 * r, levels.shape[2] - 2 * r
    c_log_c = np.arange(n + 1.0)
    c_log_c[1:] *= np.log2(c_log_c[1:])
    total = np.zeros((len(levels), rows, columns))
    for level in np.flatnonzero(np.bincount(levels.ravel())):
        here = (levels == level).astype(np.uint8 if n < 256 else np.uint16)
        down = here[:, :rows].copy()
        for d in range(1, side):
            down += here[:, d : d + rows]
        count = down[:, :, :columns].copy()
        for d in range(1, side):
            count += down[:, :, d : d + columns]
        total += np.take(c_log_c, count)
    return np.log2(n) - total[mask[:, r : r + rows, r : r + columns]] / n


def _windows(ct: np.ndarray, mask: np.ndarray, side: int) -> np.ndarray:
    """Return (side * side, voxels of the region): the in-plane window around each; `ct` has a margin of side // 2."""
    shift = np.arange(side) - side // 2
    shifts = (shift[:, None] * ct.shape[2] + shift).ravel()
    return ct.ravel()[np.flatnonzero(mask) + shifts[:, None]]


def _of_region(region: Region) -> tuple[dict[str, float], dict[str, str]]:
    """Measure a region in its own slices only: local statistics are in-plane."""
    in_plane = (region.box[0], slice(None), slice(None))
    return intensity_features(region.ct[in_plane], region.mask[in_plane], region.settings, region.limits)


INTENSITY = FeatureClass(
    families={"ID": "ID", "IH": "IH"}, names=lambda settings: tuple(intensity_feature_names()), extract=_of_region
)
