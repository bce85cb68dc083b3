"""Measure the neighbourhood intensity difference, IBEX's NID25 (in-plane) and NID3 (cube): 2 x 5 features.

It is not IBSI's NGTDM: only voxels whose whole neighbourhood lies in the region count (IBEX's IncludeEdge 0, as in both
feature sets that it ships), grey levels enter with their location in CT numbers, and the formulas are normalized
differently. The neighbourhood is as long across slices as within them, in millimetres (NHoodSym 1). After Amadasun and
King, IEEE Trans. SMC 19, 1989, as IBEX writes it.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from .feature_class import FeatureClass
from .intensity import grey_locations

FEATURES = ("Busyness", "Coarseness", "Complexity", "Contrast", "TextureStrength")
FAMILIES = {"NID25": False, "NID3": True}  # family -> does the neighbourhood reach into the next slices?
_EPSILON = 1e-10  # IBEX's guard against division by zero, part of its definition
_ROUNDING = 1e-9  # CT numbers: a smaller neighbourhood difference is rounding of the moving sum


def nid_feature_names(levels: int, window: int) -> list[str]:
    """Return the 10 names in the order of `nid_features`."""
    return [f"{family}/{feature}/nhood={window}/bins={levels}" for family in FAMILIES for feature in FEATURES]


def nid_features(
    ct: np.ndarray,
    mask: np.ndarray,
    labels: np.ndarray,
    levels: int,
    limits: tuple[float, float],
    window: int,
    slices: int | None = None,
) -> tuple[dict[str, float], dict[str, str]]:
    """Measure all NID features of a region.

    Args:
        ct: (slices, rows, columns) CT numbers; values outside the region do not matter.
        mask: bool, same shape: the region.
        labels: int, same shape: 1..levels inside the region.
        levels: Number of grey levels.
        limits: (low, high) CT numbers spanned by the levels.
        window: Side of the neighbourhood in voxels, odd.
        slices: Slices that it spans in NID3, odd; None: `window`. See `neighbourhood_slices`.

    Returns:
        values: name -> value, NaN where undefined.
        reasons: name -> why, for every NaN.
    """
    location = grey_locations(limits, levels)
    values, reasons = {}, {}
    for family, across in FAMILIES.items():
        size = ((slices or window) if across else 1, window, window)
        counts, differences = neighbourhood_differences(ct, mask, labels, levels, size)
        for feature, value in zip(FEATURES, _features(counts, differences, location)):
            name = f"{family}/{feature}/nhood={window}/bins={levels}"
            values[name] = value
            if np.isnan(value):
                reasons[name] = _reason(feature, int(np.count_nonzero(counts)))
    return values, reasons


def _reason(feature: str, occupied: int) -> str:
    """Say why a feature is undefined, given the number of grey levels that hold voxels."""
    if occupied == 0:
        return "no voxel of the region has its whole neighbourhood in the region"
    if occupied == 1 and feature != "Coarseness":
        return "the region has one grey level, so there are no two to compare"
    return "no voxel differs from its neighbourhood, so there is nothing to divide by"


def neighbourhood_slices(window: int, spacing_mm: float, slice_spacing_mm: float) -> int:
    """Return how many slices match a neighbourhood of `window` pixels in millimetres.

    The number is rounded, and an even one is raised by 1, as in IBEX: 3 pixels of 0.7 mm are 3 slices 1 mm apart, or
    1 slice of 3 mm.
    """
    slices = round(window * spacing_mm / slice_spacing_mm)
    return slices + (slices % 2 == 0)


def neighbourhood_differences(
    ct: np.ndarray,
    mask: np.ndarray,
    labels: np.ndarray,
    levels: int,
    size: tuple[int, int, int],
    *,
    partial: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Count voxels per grey level, and sum their |value - mean of the neighbours|.

    Args:
        ct, mask, labels, levels: As in `nid_features`.
        size: (slices, rows, columns) of the neighbourhood, odd.
        partial: Count every voxel that has a neighbour inside the region, using only those neighbours (IBSI's rule);
            otherwise count only voxels whose neighbours are all inside (IBEX's rule).

    Returns:
        counts: float64 (levels,), voxels.
        differences: float64 (levels,), in the unit of `ct`.
    """
    cells = np.prod(size)
    neighbours = np.round(ndimage.uniform_filter(mask.astype(float), size, mode="constant") * cells) - 1
    total = ndimage.uniform_filter(np.where(mask, ct, 0), size, mode="constant") * cells - ct
    mask = mask & (neighbours >= (1 if partial else cells - 1))
    difference = np.abs(ct[mask] - total[mask] / neighbours[mask])
    difference[difference < _ROUNDING] = 0
    label = labels[mask] - 1
    return np.bincount(label, minlength=levels).astype(float), np.bincount(label, difference, levels)


def _features(counts: np.ndarray, differences: np.ndarray, location: np.ndarray) -> list[float]:
    """Measure the five features in the order of `FEATURES`; n, S, b are those of the formulas, over occupied levels."""
    occupied = counts > 0
    n, S, b = counts[occupied], differences[occupied], location[occupied]
    if len(n) == 0:
        return [np.nan] * len(FEATURES)
    N, total = n.sum(), S.sum()
    p = n / N
    distance = np.abs(b[:, None] - b[None, :])
    busy = np.abs((b * p)[:, None] - (b * p)[None, :]).sum()
    complexity = distance / (n[:, None] + n[None, :]) * ((p * S)[:, None] + (p * S)[None, :])
    features = {
        "Busyness": total / N / (_EPSILON + busy),
        "Coarseness": 1 / (_EPSILON + total / N),
        "Complexity": complexity.sum(),
        "Contrast": total / N * (distance**2 * p[:, None] * p[None, :]).mean(),
        "TextureStrength": ((p[:, None] + p[None, :]) * distance**2).sum() / (_EPSILON + total),
    }
    if total == 0:  # the guard alone would determine the value
        features["Coarseness"] = features["TextureStrength"] = np.nan
    if len(n) < 2:
        features = {name: value if name == "Coarseness" else np.nan for name, value in features.items()}
    return [float(features[name]) for name in FEATURES]


NID = FeatureClass(
    families={"NID25": "NID", "NID3": "NID"},
    names=lambda settings: tuple(nid_feature_names(settings.levels, settings.nid_window)),
    extract=lambda region: nid_features(
        region.ct[region.box],
        region.mask[region.box],
        region.labels[region.box],
        region.settings.levels,
        region.limits,
        region.settings.nid_window,
        region.nid_slices,
    ),  # fmt: skip
)
