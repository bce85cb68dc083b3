"""1,401 IBEX-style radiomic features of a region: crop, quantize, six classes. Start reading at `extract`.

The breakdown is inferred from IBEX's function lists and counting rule (GLCM 1,254, GLRLM 33, NID 10, ID 47, IH 31,
GOH 26 add up exactly to the 1,401 of Selim et al. 2023); it is documented nowhere. IBEX works on the voxel grid: it
neither resamples nor uses millimetres.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .glcm import IN_PLANE_AS_SPATIAL, glcm_feature_names, glcm_features
from .glrlm import glrlm_feature_names, glrlm_features
from .goh import goh_feature_names, goh_features
from .intensity import grey_levels, intensity_feature_names, intensity_features
from .nid import nid_feature_names, nid_features
from .settings import CT_NUMBER_OF_WATER, DEFAULT_SETTINGS, RadiomicSettings

FEATURE_CLASSES = ("GOH", "GLCM", "GLRLM", "ID", "IH", "NID")  # the paper's order (its Table 1)


class Features(dict):
    """name -> value of one region, in the order of `feature_names`.

    Attributes:
        undefined: name -> reason, for every feature whose value is NaN.
    """

    def __init__(self, values: dict[str, float], undefined: dict[str, str]):
        super().__init__(values)
        self.undefined = undefined


def extract(hu, mask, spacing=None, settings: RadiomicSettings = DEFAULT_SETTINGS) -> Features:
    """Extract the 1,401 features of one region.

    Args:
        hu: (rows, columns) or (slices, rows, columns), Hounsfield units. Voxels around the region matter to local
            statistics, gradients and neighbourhoods: give the whole image, not a crop of the region. Where the image
            ends it is mirrored.
        mask: Same shape, bool or 0/1 integers: the region. It may be in several pieces.
        spacing: Voxel size in mm, checked only (features count voxels): in-plane side, (row, column) or
            (slice, row, column). Rows and columns must be equal, or the directions would not be what they are called.
        settings: The declared choices; the same for all regions that are compared.

    Returns:
        Features: 1,401 floats; undefined ones are NaN, with the reason in `.undefined`. A single-slice region leaves
        the 594 GLCM3 features of directions across slices undefined.

    Raises:
        ValueError: Shapes differ, the mask is empty or holds other values than 0 and 1, HU are not finite, or the
            spacing is not that of square pixels.
    """
    # 1. Check inputs; nothing is repaired silently.
    hu, mask = _check(hu, mask, spacing)
    # 2. Crop with the margin that the widest neighbourhood needs; HU become CT numbers.
    r = settings.nid_window // 2
    margin = max(settings.entropy_window, settings.range_window, settings.std_window, settings.nid_window) // 2
    ct, mask, core, real = _crop(hu, mask, (r, margin, margin))
    # 3. Grey levels, 0 outside the region.
    region = ct[mask]
    limits = settings.grey_limits or (float(region.min()), float(region.max()))
    labels = np.zeros(ct.shape, np.intp)
    labels[mask] = grey_levels(region, limits, settings.levels)
    # 4. The six classes.
    in_plane = (core[0], slice(None), slice(None))
    glcm, glcm_reasons = glcm_features(labels[core], settings.levels)
    glrlm = glrlm_features(labels[core], settings.levels)
    nid, nid_reasons = nid_features(ct, mask, labels, settings.levels, limits, settings.nid_window)
    intensity, intensity_reasons = intensity_features(ct[in_plane], mask[in_plane], settings, limits)
    goh, goh_reasons = goh_features(ct[real], mask[real], settings.orientation_bins)
    # 5. One stable order.
    values = {**glcm, **glrlm, **nid, **intensity, **goh}
    reasons = {**glcm_reasons, **nid_reasons, **intensity_reasons, **goh_reasons}
    return Features({name: values[name] for name in feature_names(settings)}, reasons)


@lru_cache(maxsize=8)
def feature_names(settings: RadiomicSettings = DEFAULT_SETTINGS) -> tuple[str, ...]:
    """The 1,401 names, unique, in the order of `extract`."""
    return (
        *glcm_feature_names(settings.levels),
        *glrlm_feature_names(settings.levels),
        *nid_feature_names(settings.levels, settings.nid_window),
        *intensity_feature_names(),
        *goh_feature_names(),
    )


def feature_class(name: str) -> str:
    """The paper's class of a feature: GOH, GLCM (GLCM25 and GLCM3), GLRLM, ID, IH or NID (NID25 and NID3)."""
    family = name.split("/")[0]
    merged = {"GLCM25": "GLCM", "GLCM3": "GLCM", "GLRLM25": "GLRLM", "NID25": "NID", "NID3": "NID"}
    found = merged.get(family, family)
    if found not in FEATURE_CLASSES:
        raise ValueError(f'"{name}" is not a feature name; one looks like "GLCM25/Contrast/d=1/dir=45/bins=64"')
    return found


@lru_cache(maxsize=8)
def duplicate_features(settings: RadiomicSettings = DEFAULT_SETTINGS) -> dict[str, str]:
    """name -> the earlier feature that has the same value by construction, for about a quarter of the 1,401.

    In-plane GLCM3 equals GLCM25, GLCM Variance equals ClusterTendency, IH repeats ID, and some quantiles are
    percentiles. Agreement on the others (`feature_names` without these keys) weighs every measurement once.
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
            twin = f"ID/{quantile.get(tail, tail)}"
        if twin != name and twin in names:
            duplicates[name] = twin
    return duplicates


def _check(hu, mask, spacing) -> tuple[np.ndarray, np.ndarray]:
    """`hu` and a bool `mask` with three axes."""
    hu, mask = np.asarray(hu), np.asarray(mask)
    if hu.ndim not in (2, 3):
        raise ValueError(f"hu has shape {hu.shape}; must be (rows, columns) or (slices, rows, columns)")
    if hu.shape != mask.shape:
        raise ValueError(f"mask has shape {mask.shape}, hu {hu.shape}; they must be equal")
    if mask.dtype != bool:
        if mask.dtype.kind not in "iu" or mask.min() < 0 or mask.max() > 1:
            found = f"{mask.dtype} values from {mask.min()} to {mask.max()}"
            raise ValueError(f"mask holds {found}; must be bool or integers 0 and 1 (of one label: mask == label)")
        mask = mask.astype(bool)
    if not mask.any():
        raise ValueError("mask is empty; it must hold at least one voxel")
    if spacing is not None:
        mm = np.atleast_1d(np.asarray(spacing, float))
        if mm.ndim != 1 or len(mm) > 3 or not (np.isfinite(mm) & (mm > 0)).all():
            raise ValueError(f"spacing={spacing!r}; must be one to three positive numbers in mm")
        if len(mm) > 1 and not np.isclose(mm[-1], mm[-2], rtol=1e-4):
            raise ValueError(f"spacing={spacing!r}; rows and columns must be equal (square pixels): resample first")
    return (hu[None], mask[None]) if hu.ndim == 2 else (hu, mask)


def _crop(hu, mask, margin):
    """CT numbers and mask of the region's bounding box with a margin, mirrored where the image ends.

    Returns:
        ct: float64 CT numbers, max(HU + 1000, 0).
        mask: bool, False in what was mirrored.
        core: Slices of the bounding box in the crop.
        real: Slices of what the image really holds, in-plane; the box alone across slices.
    """
    index, core, real = [], [], []
    for axis, m in enumerate(margin):
        inside = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        start, stop, size = inside[0], inside[-1] + 1, mask.shape[axis]
        wanted = np.arange(start - m, stop + m)
        folded = wanted % (2 * size)
        index.append(np.where(folded < size, folded, 2 * size - 1 - folded))
        core.append(slice(m, m + stop - start))
        real.append(slice(max(m - start, 0), len(wanted) - max(stop + m - size, 0)))
    real[0] = core[0]
    grid = np.ix_(*index)
    ct = hu[grid].astype(float) + CT_NUMBER_OF_WATER
    if not np.isfinite(ct).all():
        raise ValueError("hu is not finite in or near the region; replace the bad voxels first")
    cropped = np.zeros(ct.shape, bool)
    core = tuple(core)
    cropped[core] = mask[grid][core]
    return np.maximum(ct, 0), cropped, core, tuple(real)
