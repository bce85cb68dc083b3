"""Neighbourhood intensity difference, IBEX's NID25 (in-plane) and NID3 (cube): 2 x 5 features.

Not IBSI's NGTDM: the neighbourhood is not limited to the region, grey levels enter with their location in CT numbers,
and the formulas are normalized otherwise. After Amadasun and King, IEEE Trans. SMC 19, 1989, as IBEX writes it.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from .feature_class import FeatureClass

FEATURES = ("Busyness", "Coarseness", "Complexity", "Contrast", "TextureStrength")
FAMILIES = {"NID25": False, "NID3": True}  # family -> does the neighbourhood reach into the next slices?
_EPSILON = 1e-10  # IBEX's guard against division by zero, part of its definition
_ROUNDING = 1e-9  # CT numbers: a smaller neighbourhood difference is the rounding of the moving sum


def nid_feature_names(levels: int, window: int) -> list[str]:
    """The 10 names in the order of `nid_features`."""
    return [f"{family}/{feature}/nhood={window}/bins={levels}" for family in FAMILIES for feature in FEATURES]


def nid_features(
    ct: np.ndarray, mask: np.ndarray, labels: np.ndarray, levels: int, limits: tuple[float, float], window: int
) -> tuple[dict[str, float], dict[str, str]]:
    """All NID features of a region.

    Args:
        ct: (slices, rows, columns) CT numbers with a margin of `window // 2` around the region on every side.
        mask: bool, same shape: the region.
        labels: int, same shape: 1..levels inside the region.
        levels: Number of grey levels.
        limits: (low, high) CT numbers spanned by the levels.
        window: Side of the neighbourhood in voxels, odd.

    Returns:
        values: name -> value, NaN where undefined.
        reasons: name -> why, for every NaN.
    """
    location = limits[0] + (np.arange(levels) + 0.5) * (limits[1] - limits[0]) / levels  # bin centres, CT numbers
    names, values, reasons = nid_feature_names(levels, window), [], {}
    for cube in FAMILIES.values():
        counts, differences = neighbourhood_differences(ct, mask, labels, levels, window, cube=cube)
        values += _features(counts, differences, location)
    one_level = np.count_nonzero(counts) < 2
    for name, value in zip(names, values):
        if np.isnan(value):
            reasons[name] = (
                "the region has one grey level, so there are no two to compare"
                if one_level and "/Coarseness/" not in name
                else "no voxel differs from its neighbourhood, so there is nothing to divide by"
            )
    return dict(zip(names, values)), reasons


def neighbourhood_differences(
    ct: np.ndarray,
    mask: np.ndarray,
    labels: np.ndarray,
    levels: int,
    window: int,
    *,
    cube: bool,
    inside_only: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Voxels per grey level, and their summed |value - mean of the neighbours|.

    Args:
        ct, mask, labels, levels, window: As in `nid_features`.
        cube: Neighbourhood of window^3 voxels instead of window^2 in the plane.
        inside_only: Take only neighbours inside the region, and only voxels that have one (IBSI's rule; IBEX takes
            all neighbours).

    Returns:
        counts: float64 (levels,), voxels.
        differences: float64 (levels,), in the unit of `ct`.
    """
    size = (window if cube else 1, window, window)
    cells = np.prod(size)
    if inside_only:
        neighbours = np.round(ndimage.uniform_filter(mask.astype(float), size, mode="constant") * cells) - 1
        total = ndimage.uniform_filter(np.where(mask, ct, 0), size, mode="constant") * cells - ct
        mask = mask & (neighbours > 0)
        difference = np.abs(ct[mask] - total[mask] / neighbours[mask])
    else:
        total = ndimage.uniform_filter(ct, size) * cells - ct
        difference = np.abs(ct[mask] - total[mask] / (cells - 1))
    difference[difference < _ROUNDING] = 0
    label = labels[mask] - 1
    return np.bincount(label, minlength=levels).astype(float), np.bincount(label, difference, levels)


def _features(counts: np.ndarray, differences: np.ndarray, location: np.ndarray) -> list[float]:
    """The five features in the order of `FEATURES`; n, S, b as in the formulas, over the occupied levels."""
    occupied = counts > 0
    n, S, b = counts[occupied], differences[occupied], location[occupied]
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
    if total == 0:  # the guard alone would decide the value
        features["Coarseness"] = features["TextureStrength"] = np.nan
    if len(n) < 2:
        features = {name: value if name == "Coarseness" else np.nan for name, value in features.items()}
    return [float(features[name]) for name in FEATURES]


NID = FeatureClass(
    families={"NID25": "NID", "NID3": "NID"},
    names=lambda settings: tuple(nid_feature_names(settings.levels, settings.nid_window)),
    extract=lambda region: nid_features(
        region.ct, region.mask, region.labels, region.settings.levels, region.limits, region.settings.nid_window
    ),
)
