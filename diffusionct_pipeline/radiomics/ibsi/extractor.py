"""Measure IBSI's features of a region, as its reference manual defines them. Start at `extract_ibsi`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from ..extractor import Features, checked
from . import names, textures
from .morphology import NOTHING_IN_RANGE, morphology
from .settings import MOST_LEVELS, IbsiSettings
from .statistics import histogram_features, intensity_statistics, intensity_volume_features

NO_TEXTURE = "the region has too few voxels or one grey level, so there is nothing to divide by"


def extract_ibsi(hu: ArrayLike, mask: ArrayLike, spacing_mm: Sequence[float], settings: IbsiSettings) -> Features:
    """Measure IBSI's features of one region (arXiv:1612.07003, version 11).

    Args:
        hu: (slices, rows, columns) HU; values outside the region do not matter.
        mask: Same shape, bool or 0/1 integers: the region. It may be in several pieces.
        spacing_mm: Spacing of slices, rows and columns.
        settings: How values become grey levels.

    Returns:
        `ibsi_names` -> value; undefined ones are NaN, with the reason in `.undefined`.

    Raises:
        ValueError: The shapes differ, the mask is empty or holds values other than 0 and 1, HU are not finite, the
            spacing is not three lengths, or the values make too many grey levels.
    """
    # 1. Check inputs, and crop.
    hu, mask = checked(hu, mask)
    if len(spacing_mm) != 3 or not all(np.isfinite(mm) and mm > 0 for mm in spacing_mm):
        raise ValueError(f"`spacing_mm` must be three positive numbers (slice, row, column), got {spacing_mm!r}.")
    box = tuple(slice(int(i.min()), int(i.max()) + 1) for i in np.nonzero(mask))
    hu, mask = hu[box].astype(float), mask[box]
    if not np.isfinite(hu[mask]).all():
        raise ValueError("`hu` must be finite in the region, got NaN or infinity; replace the bad voxels first.")
    # 2. Select the voxels whose values count.
    inside = mask if settings.range_hu is None else mask & (hu >= settings.range_hu[0]) & (hu <= settings.range_hu[1])
    x = hu[inside]
    values: dict[str, float] = {}
    reasons: dict[str, str] = {}

    def add(family: str, found: tuple[dict[str, float], dict[str, str]]) -> None:
        values.update({names.feature_name(family, feature): float(value) for feature, value in found[0].items()})
        reasons.update({names.feature_name(family, feature): reason for feature, reason in found[1].items()})

    # 3. Shape, values and grey levels.
    add("morph", morphology(mask, hu, inside, spacing_mm))
    if len(x):
        labels = np.zeros(hu.shape, np.intp)
        labels[inside] = grey_levels(x, settings)
        add("stat", intensity_statistics(x))
        add("ih", histogram_features(labels[inside]))
        add("ivh", intensity_volume_features(x, settings.range_hu))
        # 4. Textures.
        values |= _textures(labels, mask, settings.dimensions)
    order = names.ibsi_names(settings.dimensions)
    values = {name: values.get(name, np.nan) for name in order}
    other = NO_TEXTURE if len(x) else NOTHING_IN_RANGE
    return Features(values, {name: reasons.get(name, other) for name in order if np.isnan(values[name])})


def grey_levels(x: np.ndarray, settings: IbsiSettings) -> np.ndarray:
    """Quantize HU to grey levels from 1: of a fixed width, or a fixed number between the minimum and the maximum.

    Raises:
        ValueError: There are too many levels.
    """
    low = x.min()
    if settings.bins is not None:
        span = np.ptp(x)
        return np.minimum(np.floor(settings.bins * (x - low) / (span or 1)) + 1, settings.bins).astype(np.intp)
    if settings.range_hu is not None:
        low = settings.range_hu[0]
    levels = np.floor((x - low) / settings.bin_width_hu).astype(np.intp) + 1
    if levels.max() > MOST_LEVELS:
        raise ValueError(
            f"`bin_width_hu` must give at most {MOST_LEVELS} grey levels, got {levels.max()} from {settings.bin_width_hu:g} HU "
            f"and values of {low:g} to {x.max():g} HU; give a larger width, or `range_hu`."
        )
    return levels


def _textures(labels: np.ndarray, mask: np.ndarray, dimensions: int) -> dict[str, float]:
    space, steps = names.SPACES[dimensions], textures.STEPS[dimensions]
    voxels = int(np.count_nonzero(labels))
    values: dict[str, float] = {}

    def add(family: str, codes: dict[str, str], aggregation: str, found: np.ndarray) -> None:
        values.update(zip((names.feature_name(family, feature, aggregation) for feature in codes), found.tolist()))

    for family, codes, both in (
        ("cm", names.COOCCURRENCE, textures.cooccurrence(labels, steps)),
        ("rlm", names.RUN_LENGTH, textures.run_lengths(labels, steps)),
    ):
        for merging, found in zip(names.MERGINGS, both):
            add(family, codes, f"{space}_{merging}", found)
    level, size, distance = textures.zones(labels, mask, dimensions)
    add("szm", names.ZONE_SIZE, space, textures.size_features(level, size, voxels)[:-1])
    add("dzm", names.ZONE_DISTANCE, space, textures.size_features(level, distance, voxels)[:-1])
    add("ngt", names.TONE_DIFFERENCE, space, textures.tone_differences(labels, dimensions))
    add("ngl", names.LEVEL_DEPENDENCE, space, textures.size_features(*textures.dependences(labels, steps), voxels))
    return values
