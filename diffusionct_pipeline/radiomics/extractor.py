"""Extract 1,401 IBEX-style radiomic features of a region: crop, quantize, measure six classes. Start at `extract`.

The breakdown is inferred from IBEX's function lists and counting rule (GLCM 1,254, GLRLM 33, NID 10, ID 47, IH 31,
GOH 26 add up exactly to the 1,401 of Selim et al. 2023); it is documented nowhere. IBEX works on the voxel grid: it
does not resample, and uses millimetres only to decide how many slices a NID neighbourhood spans.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from .feature_class import Box, FeatureClass, Region
from .glcm import GLCM, IN_PLANE_AS_SPATIAL
from .glrlm import GLRLM
from .goh import GOH
from .intensity import INTENSITY, grey_levels
from .nid import NID, neighbourhood_slices
from .settings import CT_NUMBER_OF_WATER, DEFAULT_SETTINGS, RadiomicSettings

IBEX = (GLCM, GLRLM, NID, INTENSITY, GOH)  # the 1,401
CLASS_OF_FAMILY = {family: name for each in IBEX for family, name in each.families.items()}
FEATURE_CLASSES = ("GOH", "GLCM", "GLRLM", "ID", "IH", "NID")  # the paper's order (its Table 1)


class Features(dict):
    """Map the name of each feature of one region to its value, in the order of `feature_names`.

    Attributes:
        undefined: name -> reason, for every feature whose value is NaN.
    """

    def __init__(self, values: dict[str, float], undefined: dict[str, str]):
        super().__init__(values)
        self.undefined = undefined


def extract(
    hu: ArrayLike,
    mask: ArrayLike,
    spacing: float | Sequence[float] | None = None,
    settings: RadiomicSettings = DEFAULT_SETTINGS,
    classes: tuple[FeatureClass, ...] = IBEX,
) -> Features:
    """Extract the 1,401 features of one region, or those of other classes.

    Args:
        hu: (rows, columns) or (slices, rows, columns), Hounsfield units. Pixels around the region matter to local
            statistics and gradients: give whole slices, not a crop of the region. The image is mirrored at its border.
        mask: Same shape, bool or 0/1 integers: the region. It may be in several pieces.
        spacing: Voxel size in mm: in-plane side, (row, column) or (slice, row, column). Rows and columns must be equal,
            or the names of the directions would be wrong. With a slice spacing the neighbourhood of NID3 is as long
            in mm across slices as within them; without one it has as many voxels. Other features count voxels.
        settings: The declared choices; use the same for all regions that are compared.
        classes: The classes to measure.

    Returns:
        Features: 1,401 floats by default; undefined ones are NaN, with the reason in `.undefined`. In a single-slice
        region the 594 GLCM3 features of directions across slices are undefined, and so is NID3 where its
        neighbourhood reaches into other slices.

    Raises:
        ValueError: The shapes differ, the mask is empty or holds values other than 0 and 1, HU are not finite, or the
            pixels are not square.
    """
    # 1. Check inputs; nothing is repaired silently.
    hu, mask = checked(hu, mask, spacing)
    # 2. Crop with the margin that the widest window needs, and convert HU to CT numbers.
    ct, mask, box, seen = _crop(hu, mask, settings.margin)
    # 3. Grey levels, 0 outside the region.
    inside = ct[mask]
    limits = settings.grey_limits or (float(inside.min()), float(inside.max()))
    labels = np.zeros(ct.shape, np.intp)
    labels[mask] = grey_levels(inside, limits, settings.levels)
    mm = np.zeros(0) if spacing is None else np.atleast_1d(spacing)
    nid_slices = neighbourhood_slices(settings.nid_window, mm[-1], mm[0]) if len(mm) == 3 else settings.nid_window
    region = Region(ct, mask, labels, box, seen, limits, settings, nid_slices)
    # 4. Class by class.
    values: dict[str, float] = {}
    reasons: dict[str, str] = {}
    for each in classes:
        measured, undefined = each.extract(region)
        values |= measured
        reasons |= undefined
    # 5. One stable order.
    return Features({name: values[name] for name in feature_names(settings, classes)}, reasons)


@lru_cache(maxsize=8)
def feature_names(
    settings: RadiomicSettings = DEFAULT_SETTINGS, classes: tuple[FeatureClass, ...] = IBEX
) -> tuple[str, ...]:
    """Return the 1,401 names, or those of other classes: unique, in the order of `extract`."""
    return tuple(name for each in classes for name in each.names(settings))


def feature_class(name: str) -> str:
    """Return the class of `FEATURE_CLASSES` that a feature is reported in: GLCM for GLCM25 and GLCM3, and so on.

    Raises:
        ValueError: `name` is not the name of a feature.
    """
    family = name.split("/")[0]
    if family not in CLASS_OF_FAMILY:
        raise ValueError(f'`name` must be like "GLCM25/Contrast/d=1/dir=45/bins=64", got "{name}".')
    return CLASS_OF_FAMILY[family]


def least_value(name: str) -> float:
    """Return the lower bound of a feature by its definition: 0 for most, -1 for correlations, -inf for skewness.

    Raises:
        ValueError: `name` is not the name of a feature.
    """
    feature_class(name)
    feature = name.split("/")[1]
    if feature in ("Skewness", "ClusterShade"):
        return -np.inf
    return -1.0 if feature in ("Correlation", "InformationMeasureCorr1") else 0.0


@lru_cache(maxsize=8)
def duplicate_features(settings: RadiomicSettings = DEFAULT_SETTINGS) -> dict[str, str]:
    """Map each feature that repeats an earlier one by construction to that one; about a quarter of the 1,401 do.

    In-plane GLCM3 equals GLCM25, GLCM Variance equals ClusterTendency, IH of values repeats ID, and some quantiles are
    percentiles. Agreement on the others (`feature_names` without these keys) weights every measurement once.
    """
    quantile = {
        "Quantile/q=0.25": "Percentile/p=25", "Quantile/q=0.5": "GlobalMedian", "Quantile/q=0.75": "Percentile/p=75",
    }  # fmt: skip
    spatial = {v: k for k, v in IN_PLANE_AS_SPATIAL.items()}
    names, duplicates = set(feature_names(settings)), {}
    for name in feature_names(settings):
        family, feature, *rest = name.split("/")
        keys = dict(part.split("=") for part in rest)
        twin = name
        if family == "GLCM3" and keys["dir"] in spatial:
            twin = f"GLCM25/{feature}/d={keys['d']}/dir={spatial[keys['dir']]}/bins={keys['bins']}"
        if family.startswith("GLCM") and feature == "Variance":
            twin = twin.replace("/Variance/", "/ClusterTendency/")
        if family in ("ID", "IH"):
            tail = name.split("/", 1)[1]
            of = "IH" if family == "IH" and settings.histogram_of == "heights" else "ID"
            twin = f"{of}/{quantile.get(tail, tail)}"
        if twin != name and twin in names:
            duplicates[name] = twin
    return duplicates


def checked(
    hu: ArrayLike, mask: ArrayLike, spacing: float | Sequence[float] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return `hu` and a bool `mask` with three axes, or raise as `extract` does."""
    hu, mask = np.asarray(hu), np.asarray(mask)
    if hu.ndim not in (2, 3):
        raise ValueError(f"`hu` must be (rows, columns) or (slices, rows, columns), got shape {hu.shape}.")
    if hu.shape != mask.shape:
        raise ValueError(f"`mask` must have the shape of `hu`, {hu.shape}, got {mask.shape}.")
    if mask.dtype != bool:
        if mask.dtype.kind not in "iu" or mask.min() < 0 or mask.max() > 1:
            found = f"{mask.dtype} values from {mask.min()} to {mask.max()}"
            raise ValueError(f"`mask` must be bool or integers 0 and 1 (for one label: mask == label), got {found}.")
        mask = mask.astype(bool)
    if not mask.any():
        raise ValueError("`mask` must hold at least one voxel, got an empty one.")
    if spacing is not None:
        mm = np.atleast_1d(np.asarray(spacing, float))
        if mm.ndim != 1 or len(mm) > 3 or not (np.isfinite(mm) & (mm > 0)).all():
            raise ValueError(f"`spacing` must be one to three positive numbers in mm, got {spacing!r}.")
        if len(mm) > 1 and not np.isclose(mm[-1], mm[-2], rtol=1e-4):
            raise ValueError(f"`spacing` must be that of square pixels, got {spacing!r}; resample first.")
    return (hu[None], mask[None]) if hu.ndim == 2 else (hu, mask)


def _crop(hu: np.ndarray, mask: np.ndarray, margin: int) -> tuple[np.ndarray, np.ndarray, Box, Box]:
    """Crop to the region's bounding box with an in-plane margin, mirrored at the image border.

    Returns:
        ct: float64 CT numbers, max(HU + 1000, 0).
        mask: bool, False in what was mirrored.
        box, seen: As in `Region`.
    """
    index, boxes, seens = [], [], []
    for axis, m in enumerate((0, margin, margin)):
        inside = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        start, stop, size = inside[0], inside[-1] + 1, mask.shape[axis]
        wanted = np.arange(start - m, stop + m)
        folded = wanted % (2 * size)
        index.append(np.where(folded < size, folded, 2 * size - 1 - folded))
        boxes.append(slice(m, m + stop - start))
        seens.append(slice(max(m - start, 0), len(wanted) - max(stop + m - size, 0)))
    box, seen = (boxes[0], boxes[1], boxes[2]), (seens[0], seens[1], seens[2])
    grid = np.ix_(*index)
    ct = hu[grid].astype(float) + CT_NUMBER_OF_WATER
    if not np.isfinite(ct).all():
        raise ValueError(
            "`hu` must be finite in and near the region, got NaN or infinity; replace the bad voxels first."
        )
    cropped = np.zeros(ct.shape, bool)
    cropped[box] = mask[grid][box]
    return np.maximum(ct, 0), cropped, box, seen
