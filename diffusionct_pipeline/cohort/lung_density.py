"""Measure lung density and nodule size, the figures that clinics use, in given masks or in lungs found by a threshold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage

from ..evaluation.geometry import Spacing
from ..evaluation.measuring import Progress
from .features import CohortFeatures, Identity, RegionTask, region_tasks, table_of, tasks_of
from .images import CohortImage
from .pairing import find_images, find_masks, pair
from .settings import CohortSettings

EMPHYSEMA_HU = (-950, -910)  # below: low attenuation areas, LAA
PERCENT = 15
NODULE_HU = -400  # above: solid and part-solid nodules, and vessels
DENSITY_NAMES = (
    *(f"DENSITY/LAA{-hu}" for hu in EMPHYSEMA_HU), f"DENSITY/Percentile{PERCENT}", "DENSITY/Mean", "DENSITY/Volume",
    f"DENSITY/VolumeAbove{-NODULE_HU}",
)  # fmt: skip
LUNG_HU = -400  # below: lung, air
LEAST_ML = 100.0  # volume of a lung; smaller pieces are bowel gas and airways
THRESHOLDED = "lungs by threshold"


def density(hu: np.ndarray, mask: np.ndarray, spacing_mm: Spacing) -> dict[str, float]:
    """Measure density and volume of a region.

    Args:
        hu: (slices, rows, columns) HU.
        mask: bool, same shape, not empty.
        spacing_mm: Spacing of slices, rows and columns.

    Returns:
        LAA950 and LAA910, the percentage of voxels below -950 and -910 HU; Percentile15 and Mean in HU; Volume, and
        VolumeAbove400, that of the voxels above -400 HU, in millilitres.
    """
    values, voxel_ml = np.asarray(hu, float)[mask], float(np.prod(spacing_mm)) / 1000
    figures = [100 * float((values < below).mean()) for below in EMPHYSEMA_HU]
    figures += [float(np.percentile(values, PERCENT)), float(values.mean())]
    figures += [len(values) * voxel_ml, float((values > NODULE_HU).sum()) * voxel_ml]
    return dict(zip(DENSITY_NAMES, figures, strict=True))


def lungs_by_threshold(hu: np.ndarray, spacing_mm: Spacing) -> np.ndarray:
    """Find air in the patient: voxels below -400 HU, not connected to the border of their slice, pieces of 100 ml or more.

    Vessels are left out. The trachea and large bronchi are included where they touch a lung, and so is bowel gas of that
    size: check the mask if the figures matter, or give one.

    Args:
        hu: (slices, rows, columns) HU, axial slices of the whole patient.
        spacing_mm: Spacing of slices, rows and columns.

    Returns:
        bool, same shape.

    Raises:
        ValueError: There is no such piece.
    """
    air = np.asarray(hu) < LUNG_HU
    inside = np.zeros(air.shape, bool)
    for here, plane in zip(inside, air):
        labels, _ = ndimage.label(plane)
        border = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
        here[:] = plane & ~np.isin(labels, border)
    labels, count = ndimage.label(inside)
    millilitres = np.bincount(labels.ravel(), minlength=count + 1)[1:] * float(np.prod(spacing_mm)) / 1000
    large = np.flatnonzero(millilitres >= LEAST_ML) + 1
    if not len(large):
        raise ValueError(
            f"no piece of at least {LEAST_ML:g} ml of air was found in the patient; give a mask of the lungs."
        )
    return np.isin(labels, large)


def measure_density(
    images: Path,
    masks: Path | None,
    *,
    settings: CohortSettings | None = None,
    labels: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> CohortFeatures:
    """Measure the density of every region of every image below a folder, one row each.

    Args:
        images: Folder with any number of DICOM series, NIfTI and NRRD files, or one file.
        masks: Folder with masks, or one file; None: the lungs, by `lungs_by_threshold`.
        settings: Whether to resample; None: do not.
        labels: Regions to measure; None: all.
        progress: Called as progress(done, total) after each image.

    Raises:
        UsageError: There are no images or masks.
        ValueError: No region could be measured.
    """
    settings = settings or CohortSettings()
    found, failures = find_images(images, masks or images)
    remarks: list[str] = []
    if masks is None:
        tasks = _lungs(found, settings, failures, progress)
    else:
        pairs = pair(found, find_masks(masks, images))
        remarks += [f"{image.name}: has no mask" for image, own in pairs if not own]
        tasks = region_tasks(pairs, settings, labels, failures, remarks, progress)
    rows: list[Identity] = [{**task.identity, **density(task.hu, task.mask, task.spacing_mm)} for task in tasks]
    return CohortFeatures(table_of(rows, DENSITY_NAMES, [*failures, *remarks]), failures, remarks, 0)


def _lungs(
    images: Sequence[CohortImage], settings: CohortSettings, failures: list[str], progress: Progress | None
) -> Iterator[RegionTask]:
    for done, image in enumerate(images):
        if progress is not None:
            progress(done, len(images))
        try:
            hu = np.stack(list(image.hu(range(image.geometry.shape[0])).values()))
            mask = lungs_by_threshold(hu, image.geometry.voxel_mm)
            yield from tasks_of(image, THRESHOLDED, {"lungs": mask}, settings)
        except (ValueError, OSError) as error:  # of this image
            failures.append(f"{image.name}: {error}")
    if progress is not None:
        progress(len(images), len(images))
