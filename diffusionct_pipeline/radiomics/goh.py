"""Measure the gradient orientation histogram, IBEX's GOH: 6 statistics, 10 percentiles and 10 percentile areas.

It is not the HOG descriptor: one unweighted histogram of the gradient's in-plane orientation over the whole region.
"""

from __future__ import annotations

import numpy as np

from .feature_class import FeatureClass
from .intensity import PERCENTILES, SHAPE, percentile, percentile_areas, shape_statistics

_NO_GRADIENT = "the region has no intensity gradient"


def goh_feature_names() -> list[str]:
    """Return the 26 names."""
    percentiles = [f"GOH/Percentile/p={p}" for p in PERCENTILES]
    return [f"GOH/{n}" for n in SHAPE] + percentiles + [f"GOH/PercentileArea/p={p}" for p in PERCENTILES]


def goh_features(ct: np.ndarray, mask: np.ndarray, bins: int) -> tuple[dict[str, float], dict[str, str]]:
    """Measure all GOH features of a region.

    Args:
        ct: (slices, rows, columns) CT numbers, including the region's neighbours inside the image.
        mask: bool, same shape: the region.
        bins: Bins over 0 to 360 degrees.

    Returns:
        values: name -> value in degrees, NaN where undefined.
        reasons: name -> why, for every NaN.
    """
    angles = np.sort(gradient_orientations(ct, mask))
    if len(angles) == 0:
        return dict.fromkeys(goh_feature_names(), np.nan), dict.fromkeys(goh_feature_names(), _NO_GRADIENT)
    shape, shape_reasons = shape_statistics(angles)
    percentiles = {f"Percentile/p={p}": v for p, v in zip(PERCENTILES, percentile(angles, PERCENTILES))}
    histogram, _ = np.histogram(angles, bins, (0.0, 360.0))
    areas, area_reasons = percentile_areas(histogram, (np.arange(bins) + 0.5) * 360 / bins)
    values = {f"GOH/{n}": float(v) for n, v in {**shape, **percentiles, **areas}.items()}
    return values, {f"GOH/{n}": r for n, r in {**shape_reasons, **area_reasons}.items()}


def gradient_orientations(ct: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return orientations of the in-plane gradient in degrees, [0, 180), for voxels of the region that have a gradient.

    Differences are central, and one-sided at the border of `ct`; atan(row gradient / column gradient), negatives + 180.
    """
    rows, columns = (
        np.gradient(ct, axis=axis)[mask] if ct.shape[axis] > 1 else np.zeros(np.count_nonzero(mask)) for axis in (1, 2)
    )
    sloped = (rows != 0) | (columns != 0)
    rows, columns = rows[sloped], columns[sloped]
    angles = np.degrees(np.arctan2(rows, columns))  # (-180, 180]
    angles[angles < 0] += 180
    return np.where(angles >= 180, 0.0, angles)


GOH = FeatureClass(
    families={"GOH": "GOH"},
    names=lambda settings: tuple(goh_feature_names()),
    extract=lambda region: goh_features(
        region.ct[region.seen], region.mask[region.seen], region.settings.orientation_bins
    ),
)
