"""Measure grey-level co-occurrence as IBEX does: one matrix per direction and offset, plus the sum over directions.

GLCM25 adds up the slices' matrices in 4 in-plane directions, GLCM3 uses the 13 directions of the 26-neighbourhood;
22 features x (4 + 1) x 3 + 22 x (13 + 1) x 3 = 1,254 values. Definitions after Zhang et al., "IBEX: an open
infrastructure software platform to facilitate collaborative work in radiomics", Med. Phys. 42, 2015. Twenty of the
22 features agree with the IBSI reference manual; SumVariance and Variance are IBEX's own and do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from .feature_class import FeatureClass

OFFSETS = (1, 4, 7)  # voxels

# Steps are (slice, row, column). Rows grow downwards: 45 degrees goes one row up and one column right (MATLAB).
IN_PLANE = {"0": (0, 0, 1), "45": (0, -1, 1), "90": (0, -1, 0), "135": (0, -1, -1)}
SPATIAL = {
    "0": (0, 1, 0), "1": (0, 0, 1), "2": (1, 0, 0), "3": (0, 1, 1), "4": (0, -1, 1), "5": (1, 0, 1), "6": (-1, 0, 1),
    "7": (1, 1, 0), "8": (-1, 1, 0), "9": (1, 1, 1), "10": (1, -1, 1), "11": (-1, 1, 1), "12": (-1, -1, 1),
}  # fmt: skip
# A symmetric matrix is the same for a step and its opposite: every in-plane direction is one of the 13.
IN_PLANE_AS_SPATIAL = {
    name: next(other for other, s in SPATIAL.items() if s in (step, tuple(-c for c in step)))
    for name, step in IN_PLANE.items()
}

FEATURES = (
    "AutoCorrelation", "ClusterProminence", "ClusterShade", "ClusterTendency", "Contrast", "Correlation",
    "DifferenceEntropy", "Dissimilarity", "Energy", "Entropy", "Homogeneity", "Homogeneity2",
    "InformationMeasureCorr1", "InformationMeasureCorr2", "InverseDiffMomentNorm", "InverseDiffNorm",
    "InverseVariance", "MaxProbability", "SumAverage", "SumEntropy", "SumVariance", "Variance",
)  # fmt: skip


@lru_cache(maxsize=8)
def glcm_feature_names(levels: int) -> tuple[str, ...]:
    """Return the 1,254 names, in the order of `glcm_features`: family, offset, direction ("sum" first), feature."""
    return tuple(
        f"{family}/{feature}/d={offset}/dir={direction}/bins={levels}"
        for family, directions in (("GLCM25", IN_PLANE), ("GLCM3", SPATIAL))
        for offset in OFFSETS
        for direction in ("sum", *directions)
        for feature in FEATURES
    )


def glcm_features(labels: np.ndarray, levels: int) -> tuple[dict[str, float], dict[str, str]]:
    """Measure all GLCM features of a region.

    Args:
        labels: (slices, rows, columns) integers, 1..levels inside the region and 0 outside.
        levels: Number of grey levels.

    Returns:
        values: name -> value, NaN where undefined.
        reasons: name -> why, for every NaN.
    """
    # 1. One matrix per spatial direction and offset.
    steps = [(offset * z, offset * y, offset * x) for offset in OFFSETS for z, y, x in SPATIAL.values()]
    counts = cooccurrence_counts(labels, levels, steps).reshape(len(OFFSETS), len(SPATIAL), levels, levels)
    # 2. Their sums over directions. The in-plane matrices are among those of GLCM3, so no pair is counted twice.
    in_plane = [list(SPATIAL).index(IN_PLANE_AS_SPATIAL[name]) for name in IN_PLANE]
    stacked = np.concatenate(
        [counts[:, in_plane].sum(1, keepdims=True), counts.sum(1, keepdims=True), counts], axis=1
    )  # [3, 2 + 13, L, L]
    # 3. Features of all matrices in one pass, then split between the two families.
    features = cooccurrence_features(stacked.reshape(-1, levels, levels)).reshape(len(OFFSETS), -1, len(FEATURES))
    columns25 = [0] + [2 + i for i in in_plane]
    columns3 = [1] + [2 + i for i in range(len(SPATIAL))]
    values = np.concatenate([features[:, columns25].ravel(), features[:, columns3].ravel()])
    empty = np.broadcast_to(stacked.sum((2, 3))[:, :, None] == 0, features.shape)
    no_pair = np.concatenate([empty[:, columns25].ravel(), empty[:, columns3].ravel()])

    names = glcm_feature_names(levels)
    reasons = {
        names[i]: "no pair of voxels of the region has this offset and direction"
        if no_pair[i]
        else "all voxel pairs have one grey level, so there is no variance or entropy to divide by"
        for i in np.flatnonzero(np.isnan(values))
    }
    return dict(zip(names, values.tolist())), reasons


def cooccurrence_counts(labels: np.ndarray, levels: int, steps: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """Count co-occurrences in a labelled region, symmetrically (Haralick et al. 1973).

    Args:
        labels: (slices, rows, columns) integers, 1..levels inside the region and 0 outside.
        levels: Number of grey levels.
        steps: Displacements (slice, row, column) in voxels.

    Returns:
        float64 (len(steps), levels, levels); every pair is counted both ways.
    """
    side = levels + 1  # the outside is level 0; dropping its row and column is cheaper than masking
    first = labels.astype(np.intp) * side
    second = labels.astype(np.intp)
    counts = np.zeros((len(steps), levels, levels))
    for k, step in enumerate(steps):
        if (parts := pairs_apart(labels.shape, step)) is None:
            continue
        head, tail = parts
        pairs = np.bincount((first[head] + second[tail]).ravel(), minlength=side * side)
        counts[k] = pairs.reshape(side, side)[1:, 1:]
    return counts + counts.transpose(0, 2, 1)


def pairs_apart(shape: Sequence[int], step: Sequence[int]) -> tuple[tuple[slice, ...], tuple[slice, ...]] | None:
    """Return the parts of an array that hold the first and the second voxel of all pairs one step apart; None if there are none."""
    if any(abs(d) >= n for d, n in zip(step, shape)):
        return None
    head = tuple(slice(max(0, -d), n - max(0, d)) for d, n in zip(step, shape))
    tail = tuple(slice(max(0, d), n - max(0, -d)) for d, n in zip(step, shape))
    return head, tail


def cooccurrence_features(counts: np.ndarray) -> np.ndarray:
    """Measure the 22 features of symmetric co-occurrence matrices; logarithms are base 2.

    Args:
        counts: (K, L, L), symmetric, not negative.

    Returns:
        (K, 22) in the order of `FEATURES`. A matrix without counts gives a row of NaN; one with a single grey level
        gives NaN for Correlation and InformationMeasureCorr1 (0 / 0).
    """
    K, L, _ = counts.shape
    # 1. Occupied cells only: p = P(i, j) of matrix k.
    total = counts.sum((1, 2))
    k, row, column = np.nonzero(counts)
    p = counts[k, row, column] / total[k]
    i, j = row + 1.0, column + 1.0
    difference, s = np.abs(i - j).astype(np.intp), (i + j).astype(np.intp)

    def expect(weight: np.ndarray) -> np.ndarray:  # sum over i, j of P(i, j) weight
        return np.bincount(k, p * weight, K)

    # 2. Marginals: P(i) (rows and columns are alike), P(i + j), P(|i - j|).
    level, sums, differences = np.arange(1.0, L + 1), np.arange(2.0, 2 * L + 1), np.arange(float(L))
    p_level = counts.sum(2) / np.where(total == 0, 1, total)[:, None]  # [K, L]
    p_sum = np.bincount(k * (2 * L - 1) + s - 2, p, K * (2 * L - 1)).reshape(K, -1)  # [K, 2 L - 1]
    p_difference = np.bincount(k * L + difference, p, K * L).reshape(K, L)  # [K, L]
    mean = p_level @ level
    variance = (p_level * (level - mean[:, None]) ** 2).sum(1)
    centred = sums - 2 * mean[:, None]  # i + j - mu_x - mu_y
    tendency = (p_sum * centred**2).sum(1)

    # 3. Entropies. The marginals of P make HXY1 and HXY2 of Haralick both equal to HX + HY = 2 HX.
    joint_entropy = np.bincount(k, -p * np.log2(p), K)
    level_entropy, sum_entropy = _entropy(p_level), _entropy(p_sum)
    mutual_information = np.maximum(2 * level_entropy - joint_entropy, 0)  # rounding can go below 0

    flat = (p_level > 0).sum(1) < 2  # one grey level
    safe_variance, safe_entropy = np.where(flat, np.nan, variance), np.where(flat, np.nan, level_entropy)
    inverse_square = np.zeros(L)
    inverse_square[1:] = 1 / differences[1:] ** 2
    features = {
        "AutoCorrelation": expect(i * j),
        "ClusterProminence": (p_sum * centred**4).sum(1),
        "ClusterShade": (p_sum * centred**3).sum(1),
        "ClusterTendency": tendency,
        "Contrast": p_difference @ differences**2,
        "Correlation": expect((i - mean[k]) * (j - mean[k])) / safe_variance,
        "DifferenceEntropy": _entropy(p_difference),
        "Dissimilarity": p_difference @ differences,
        "Energy": expect(p),
        "Entropy": joint_entropy,
        "Homogeneity": p_difference @ (1 / (1 + differences)),
        "Homogeneity2": p_difference @ (1 / (1 + differences**2)),
        "InformationMeasureCorr1": -mutual_information / safe_entropy,
        "InformationMeasureCorr2": np.sqrt(1 - np.exp(-2 * mutual_information)),
        "InverseDiffMomentNorm": p_difference @ (1 / (1 + (differences / L) ** 2)),
        "InverseDiffNorm": p_difference @ (1 / (1 + differences / L)),
        "InverseVariance": p_difference @ inverse_square,
        "MaxProbability": counts.max((1, 2)) / np.where(total == 0, 1, total),
        "SumAverage": p_sum @ sums,
        "SumEntropy": sum_entropy,
        "SumVariance": (p_sum * (sums - sum_entropy[:, None]) ** 2).sum(1),  # about SumEntropy: IBEX, not IBSI
        "Variance": tendency,  # IBEX, not IBSI
    }
    out = np.stack([features[name] for name in FEATURES], axis=1)
    out[total == 0] = np.nan
    return out


def _entropy(p: np.ndarray) -> np.ndarray:
    """Return -sum p log2 p of every row, with 0 log 0 = 0."""
    return -(p * np.log2(np.where(p > 0, p, 1))).sum(1) + 0.0  # + 0.0: no negative zero


GLCM = FeatureClass(
    families={"GLCM25": "GLCM", "GLCM3": "GLCM"},
    names=lambda settings: glcm_feature_names(settings.levels),
    extract=lambda region: glcm_features(region.labels[region.box], region.settings.levels),
)
