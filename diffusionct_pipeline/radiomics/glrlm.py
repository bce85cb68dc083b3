"""Measure in-plane grey-level run lengths, IBEX's GLRLM25: 11 features x (0 degrees, 90 degrees, average) = 33.

The slices' matrices are added up; "average" is the mean of the two matrices. The definitions are those of the IBSI
reference manual, except that IBEX divides both non-uniformities by the number of voxels once more.
"""

from __future__ import annotations

import numpy as np

from .feature_class import FeatureClass

DIRECTIONS = ("0", "90")
FEATURES = (
    "GrayLevelNonuniformity", "HighGrayLevelRunEmpha", "LongRunEmphasis", "LongRunHighGrayLevelEmpha",
    "LongRunLowGrayLevelEmpha", "LowGrayLevelRunEmpha", "RunLengthNonuniformity", "RunPercentage",
    "ShortRunEmphasis", "ShortRunHighGrayLevelEmpha", "ShortRunLowGrayLevelEmpha",
)  # fmt: skip


def glrlm_feature_names(levels: int) -> list[str]:
    """Return the 33 names in the order of `glrlm_features`."""
    return [f"GLRLM25/{f}/dir={d}/bins={levels}" for d in ("avg", *DIRECTIONS) for f in FEATURES]


def glrlm_features(labels: np.ndarray, levels: int) -> dict[str, float]:
    """Measure all run-length features of a region; none of them can be undefined.

    Args:
        labels: (slices, rows, columns) integers, 1..levels inside the region and 0 outside; at least one inside.
        levels: Number of grey levels.
    """
    matrices = [run_length_counts(labels, levels, direction) for direction in DIRECTIONS]
    voxels = int(np.count_nonzero(labels))
    values = [run_length_features(m, voxels) for m in (np.mean(matrices, axis=0), *matrices)]
    return dict(zip(glrlm_feature_names(levels), np.concatenate(values).tolist()))


def run_length_counts(labels: np.ndarray, levels: int, direction: str) -> np.ndarray:
    """Count runs by grey level and length, summed over slices (Galloway 1975).

    Args:
        labels: (slices, rows, columns) integers, 1..levels inside the region and 0 outside.
        levels: Number of grey levels.
        direction: In-plane direction in degrees: "0", "45", "90" or "135" (45 goes up and right).

    Returns:
        float64 (levels, longest side of a slice); column r - 1 holds the runs of r voxels.
    """
    longest = max(labels.shape[1:])
    # 1. One long line: every row, column or diagonal of every slice, each ending with the outside label 0.
    line = np.concatenate([[0], _lines(labels, direction).ravel(), [0]])
    # 2. A run lies between two changes of the label.
    start = np.flatnonzero(np.diff(line)) + 1
    level, length = line[start[:-1]], np.diff(start)
    inside = level > 0
    cell = (level[inside] - 1) * longest + length[inside] - 1
    return np.bincount(cell, minlength=levels * longest).reshape(levels, longest).astype(float)


def _lines(labels: np.ndarray, direction: str) -> np.ndarray:
    """Return (lines, positions): the voxels of every line in a row, with zeros after its end."""
    slices, rows, columns = labels.shape
    if direction == "0":
        return np.pad(labels.reshape(-1, columns), ((0, 0), (0, 1)))
    if direction == "90":
        return np.pad(labels.transpose(0, 2, 1).reshape(-1, rows), ((0, 0), (0, 1)))
    if direction not in ("45", "135"):
        raise ValueError(f'`direction` must be "0", "45", "90" or "135", got {direction!r}.')
    # Rows of width W, read as rows of width W + 1, each shift one column to the left, so diagonals become columns.
    # Zeros on the right (as many as there are rows) keep the diagonals apart.
    if direction == "45":
        labels = labels[:, :, ::-1]
    width = rows + columns
    wide = np.pad(labels, ((0, 0), (0, 0), (0, rows))).reshape(slices, -1)
    sheared = np.pad(wide, ((0, 0), (0, rows))).reshape(slices, rows, width + 1)
    return np.pad(sheared.transpose(0, 2, 1).reshape(-1, rows), ((0, 0), (0, 1)))


def run_length_features(counts: np.ndarray, voxels: int) -> np.ndarray:
    """Measure the 11 features of a run-length matrix (levels, lengths), in the order of `FEATURES`."""
    runs = counts.sum()
    grey2 = np.arange(1.0, counts.shape[0] + 1)[:, None] ** 2
    run2 = np.arange(1.0, counts.shape[1] + 1)[None, :] ** 2

    def expect(weight: np.ndarray) -> float:
        return (counts * weight).sum() / runs

    features = {
        "GrayLevelNonuniformity": (counts.sum(1) ** 2).sum() / runs / voxels,
        "HighGrayLevelRunEmpha": expect(grey2),
        "LongRunEmphasis": expect(run2),
        "LongRunHighGrayLevelEmpha": expect(run2 * grey2),
        "LongRunLowGrayLevelEmpha": expect(run2 / grey2),
        "LowGrayLevelRunEmpha": expect(1 / grey2),
        "RunLengthNonuniformity": (counts.sum(0) ** 2).sum() / runs / voxels,
        "RunPercentage": runs / voxels,
        "ShortRunEmphasis": expect(1 / run2),
        "ShortRunHighGrayLevelEmpha": expect(grey2 / run2),
        "ShortRunLowGrayLevelEmpha": expect(1 / (grey2 * run2)),
    }
    return np.array([features[name] for name in FEATURES])


GLRLM = FeatureClass(
    families={"GLRLM25": "GLRLM"},
    names=lambda settings: tuple(glrlm_feature_names(settings.levels)),
    extract=lambda region: (glrlm_features(region.labels[region.box], region.settings.levels), {}),
)
