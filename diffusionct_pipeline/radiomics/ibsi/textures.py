"""Measure IBSI's texture families: count pairs, runs, zones or neighbours, then compute the features of the counts.

Labels are (slices, rows, columns) integers, from 1 inside the region and 0 outside. Steps are (slice, row, column).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from scipy import ndimage
from skimage import measure

from .. import glcm
from ..nid import neighbourhood_differences

Steps: TypeAlias = Sequence[tuple[int, int, int]]
Counted: TypeAlias = tuple[np.ndarray, np.ndarray]  # grey level and size of every run, zone or voxel

STEPS = {2: tuple(glcm.IN_PLANE.values()), 3: tuple(glcm.SPATIAL.values())}


def cooccurrence(labels: np.ndarray, steps: Steps) -> np.ndarray:
    """Measure the 25 co-occurrence features, (2, 25): averaged over directions, and of the matrix merged over them.

    A feature that is undefined in a direction (no pairs, or pairs of one level only) is averaged over the others.
    """
    counts = glcm.cooccurrence_counts(labels, int(labels.max()), steps)
    found = glcm.cooccurrence_features(np.concatenate([counts, counts.sum(0, keepdims=True)]))
    f = dict(zip(glcm.FEATURES, found.T))
    # Matrices are symmetric, so the variance of i is a quarter of the sum of those of i + j and i - j.
    features = np.stack([
        f["MaxProbability"], f["SumAverage"] / 2, (f["ClusterTendency"] + f["Contrast"]) / 4, f["Entropy"],
        f["Dissimilarity"], f["Contrast"] - f["Dissimilarity"] ** 2, f["DifferenceEntropy"],
        f["SumAverage"], f["ClusterTendency"], f["SumEntropy"],
        f["Energy"], f["Contrast"], f["Dissimilarity"],
        f["Homogeneity"], f["InverseDiffNorm"], f["Homogeneity2"], f["InverseDiffMomentNorm"], f["InverseVariance"],
        f["Correlation"], f["AutoCorrelation"], f["ClusterTendency"], f["ClusterShade"], f["ClusterProminence"],
        f["InformationMeasureCorr1"], f["InformationMeasureCorr2"],
    ], axis=1)  # fmt: skip
    return np.stack([_mean_of_defined(features[:-1]), features[-1]])


def run_lengths(labels: np.ndarray, steps: Steps) -> np.ndarray:
    """Measure the 16 run-length features, (2, 16): averaged over directions, and of the runs of all directions."""
    voxels = int(np.count_nonzero(labels))
    found = [runs(labels, step) for step in steps]
    each = np.array([size_features(*one, voxels)[:-1] for one in found])
    level, length = (np.concatenate(parts) for parts in zip(*found))
    merged = size_features(level, length, voxels * len(steps))[:-1]
    return np.stack([each.mean(0), merged])


def runs(labels: np.ndarray, step: tuple[int, int, int]) -> Counted:
    """Return grey level and length of every run of equal levels in a direction."""
    at = np.nonzero(labels)
    axis = next(axis for axis, move in enumerate(step) if move)
    along = at[axis] * step[axis]
    # Put the voxels of each line next to each other: a line is identified by its position where `along` is 0.
    first = [place - along * move for place, move in zip(at, step)]
    first = [place - place.min() for place in first]
    line = (first[0] * (first[1].max() + 1) + first[1]) * (first[2].max() + 1) + first[2]
    place = line * (np.ptp(along) + 2) + along - along.min()  # + 2: lines do not touch
    order = np.argsort(place, kind="stable")
    place, level = place[order], labels[at][order]
    start = np.flatnonzero(np.concatenate([[True], (np.diff(place) != 1) | (np.diff(level) != 0)]))
    return level[start], np.diff(start, append=len(level))


def zones(labels: np.ndarray, mask: np.ndarray, dimensions: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return grey level, voxels and distance from the border of every zone of connected voxels of one level.

    Args:
        labels: Grey levels.
        mask: bool: the region that the border is of, including voxels without a level.
        dimensions: 3, or 2 for zones and distances within slices.

    Returns:
        All (zones,). A zone that touches the border (4 or 6 neighbours) has a distance of 1.
    """
    if dimensions == 2:  # empty slices in between keep the zones apart
        labels, mask = (np.insert(array, range(1, len(array)), 0, axis=0) for array in (labels, mask))
    zone = measure.label(labels, background=0, connectivity=3)
    neighbours = ndimage.generate_binary_structure(3, 1)
    if dimensions == 2:
        neighbours[[0, 2]] = False
    distance = ndimage.distance_transform_cdt(np.pad(mask, 1), neighbours)[1:-1, 1:-1, 1:-1]
    inside = labels > 0
    zone, level, distance = zone[inside] - 1, labels[inside], distance[inside]
    size = np.bincount(zone)
    of_zone, nearest = np.empty(len(size), level.dtype), np.full(len(size), distance.max())
    of_zone[zone] = level
    np.minimum.at(nearest, zone, distance)
    return of_zone, size, nearest


def dependences(labels: np.ndarray, steps: Steps) -> Counted:
    """Return the grey level of every voxel, and how many voxels of its neighbourhood, itself included, share it."""
    same = np.ones(labels.shape, np.intp)
    for step in steps:
        if (parts := glcm.pairs_apart(labels.shape, step)) is None:
            continue
        head, tail = parts
        equal = labels[head] == labels[tail]
        same[head] += equal
        same[tail] += equal
    inside = labels > 0
    return labels[inside], same[inside]


def size_features(level: np.ndarray, size: np.ndarray, voxels: int) -> np.ndarray:
    """Measure the features that run lengths, zone sizes, zone distances and dependences share.

    Args:
        level, size: (N,) integers from 1: of every run, zone or voxel.
        voxels: Number of voxels that they were counted in.

    Returns:
        (17,) in the order of `names.LEVEL_DEPENDENCE`; the last, the energy, is defined for dependences only.
    """
    n = len(level)
    grey2, size2 = level.astype(float) ** 2, size.astype(float) ** 2
    by_level, by_size = (np.unique(each, return_counts=True)[1] for each in (level, size))
    cells = np.unique(level.astype(np.int64) * (int(size.max()) + 1) + size, return_counts=True)[1]
    grey_uneven, size_uneven = ((each.astype(float) ** 2).sum() / n for each in (by_level, by_size))
    p = cells / n
    return np.array([
        (1 / size2).mean(), size2.mean(), (1 / grey2).mean(), grey2.mean(),
        (1 / (grey2 * size2)).mean(), (grey2 / size2).mean(), (size2 / grey2).mean(), (grey2 * size2).mean(),
        grey_uneven, grey_uneven / n, size_uneven, size_uneven / n,
        n / voxels, level.var(), size.var(), -(p * np.log2(p)).sum() + 0.0, (p**2).sum(),
    ])  # fmt: skip


def tone_differences(labels: np.ndarray, dimensions: int) -> np.ndarray:
    """Measure the five features of neighbourhood grey tone differences; NaN where no voxel has a neighbour.

    Where a formula would divide by zero, the manual sets 10^6 for coarseness and 0 for the others.
    """
    levels, inside = int(labels.max()), labels > 0
    counts, differences = neighbourhood_differences(
        labels.astype(float), inside, labels, levels, (3 if dimensions == 3 else 1, 3, 3), partial=True
    )
    occupied = np.flatnonzero(counts)
    if len(occupied) == 0:
        return np.full(5, np.nan)
    n, s, grey = counts[occupied], differences[occupied], occupied + 1.0
    voxels, total = n.sum(), s.sum()
    p = n / voxels
    gap = grey[:, None] - grey
    pairs = len(n) * (len(n) - 1)
    coarse, busy = p @ s, np.abs((grey * p)[:, None] - grey * p).sum()
    return np.array([
        1 / coarse if coarse else 1e6,
        (p[:, None] * p * gap**2).sum() / pairs * total / voxels if pairs else 0,
        coarse / busy if busy else 0,
        (np.abs(gap) * ((p * s)[:, None] + p * s) / (p[:, None] + p)).sum() / voxels,
        ((p[:, None] + p) * gap**2).sum() / total if total else 0,
    ])  # fmt: skip


def _mean_of_defined(features: np.ndarray) -> np.ndarray:
    defined = np.isfinite(features)
    count = defined.sum(0)
    return np.where(count > 0, np.where(defined, features, 0).sum(0) / np.maximum(count, 1), np.nan)
