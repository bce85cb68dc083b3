"""Run `diffusionct features`: measure every region of every image of a cohort, one row each."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from ..evaluation.comparison import cut_out, find_regions
from ..evaluation.geometry import Geometry, Spacing
from ..evaluation.masks import read_mask
from ..evaluation.measuring import MeasuredFeatures, Progress, kept_until_done
from ..evaluation.result import Region
from ..radiomics import Features, extract
from ..radiomics.ibsi import extract_ibsi
from ..utils.files import require_writable
from ..utils.optional import import_optional
from ..utils.version import __version__
from .images import CohortImage
from .pairing import MaskFile, find_images, find_masks, pair
from .resampling import resample
from .settings import CohortSettings
from .tables import IDENTITY, require_table_name, write_table

if TYPE_CHECKING:
    from pandas import DataFrame

Identity: TypeAlias = dict[str, str | int | float]
HASH_DIGITS = 16
WAITING = 2  # regions read ahead for each process


@dataclass(frozen=True, eq=False)
class CohortFeatures:
    """Hold what was measured.

    Attributes:
        table: One row per region, with the columns `IDENTITY`, then the features.
        failures: A sentence for each image or mask that could not be measured.
        remarks: What is unusual about the others.
        measured_before: How many regions an interrupted run had measured.
    """

    table: DataFrame
    failures: list[str]
    remarks: list[str]
    measured_before: int


@dataclass(frozen=True, eq=False)
class CohortInput:
    """Hold the images of a cohort with their masks, of which only headers have been read.

    Attributes:
        pairs: Every image with its masks, which may be none.
        failures: A sentence for each image that cannot be used.
    """

    pairs: list[tuple[CohortImage, list[MaskFile]]]
    failures: list[str]


@dataclass(frozen=True, eq=False)
class RegionTask:
    """Hold a region that is to be measured.

    Attributes:
        identity: Its identity columns.
        hu, mask: (slices, rows, columns), cut out.
        spacing_mm: Spacing of slices, rows and columns.
    """

    identity: Identity
    hu: np.ndarray
    mask: np.ndarray
    spacing_mm: Spacing


def extract_cohort(
    images: Path,
    masks: Path,
    out: Path,
    *,
    settings: CohortSettings | None = None,
    labels: Sequence[str] | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> CohortFeatures:
    """Measure all regions of all images below a folder and write them as a table.

    Measured features are kept in a hidden folder beside `out` until the table is written, so that the same call resumes
    after an interruption. An image that cannot be used does not affect the others.

    Args:
        images: Folder with any number of DICOM series, NIfTI and NRRD files, or one file.
        masks: Folder with masks, which may be the same folder, or one file: see `pair`.
        out: Table to write, .csv or .parquet.
        settings: How to measure; None: the defaults.
        labels: Regions to measure, by number or name; None: all. A mask without them is not a failure.
        workers: Processes.
        progress: Called as progress(done, total) after each image.

    Raises:
        UsageError: `out` has another suffix, or there are no images or masks.
        ValueError: No region could be measured.
        ImportError: A package for tables is missing.
    """
    out = require_table_name("out", out)
    import_optional("pandas")
    if out.suffix.lower() == ".parquet":
        import_optional("pyarrow")
    require_writable(out.parent)
    with kept_until_done(out) as kept:
        cohort = find_cohort(images, masks)
        found = measure_cohort(cohort, kept, settings=settings, labels=labels, workers=workers, progress=progress)
        write_table(found.table, out)
    return found


def find_cohort(images: Path, masks: Path) -> CohortInput:
    """Find all images below a folder, and the masks of each.

    Raises:
        UsageError: There are no images or masks.
    """
    found, failures = find_images(images, masks)
    return CohortInput(pair(found, find_masks(masks, images)), failures)


def planned_table(cohort: CohortInput, settings: CohortSettings) -> DataFrame:
    """List the regions that `measure_cohort` would measure, from headers and masks alone; their features are NaN.

    Masks that cannot be read are left out, since measuring reports them. Voxels are counted before resampling.
    """
    rows: list[Identity] = []
    for image, masks in cohort.pairs:
        for mask in masks:
            try:
                regions = _regions_of(read_mask(mask.path, image.geometry, None, []), image.geometry)
            except (ValueError, OSError, ImportError):
                continue
            voxel_mm = image.geometry.voxel_mm
            rows += [_identity(image, mask.name, region, region.mask, voxel_mm, settings) for region in regions]
    pandas = import_optional("pandas")
    identity = pandas.DataFrame(rows, columns=list(IDENTITY))
    features = pandas.DataFrame(np.nan, index=identity.index, columns=list(settings.names))
    return pandas.concat([identity, features], axis=1)


def measure_cohort(
    cohort: CohortInput,
    kept: Path,
    *,
    settings: CohortSettings | None = None,
    labels: Sequence[str] | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> CohortFeatures:
    """Measure as `extract_cohort` does, without writing a table.

    Args:
        cohort: The images with their masks.
        kept: Folder for measured features, and for those of an interrupted run.
        settings, labels, workers, progress: As of `extract_cohort`.

    Raises:
        ValueError: No region could be measured.
    """
    settings = settings or CohortSettings()
    failures = list(cohort.failures)
    remarks = [f"{image.name}: has no mask" for image, own in cohort.pairs if not own]
    rows, before = [], 0
    tasks = region_tasks(cohort.pairs, settings, labels, failures, remarks, progress)
    for task, features, known in measure(tasks, settings, kept, workers):
        if isinstance(features, ValueError):
            failures.append("{image} with {mask}, region {region}: ".format(**task.identity) + str(features))
            continue
        rows.append(task.identity | {name: features[name] for name in settings.names})
        before += known
    return CohortFeatures(table_of(rows, settings.names, [*failures, *remarks]), failures, remarks, before)


def table_of(rows: Sequence[Identity], names: Sequence[str], reasons: Sequence[str]) -> DataFrame:
    """Make a table of rows, ordered by image, mask, region and part.

    Raises:
        ValueError: There is no row; with the first of the reasons.
    """
    if not rows:
        raise ValueError(f"no region could be measured: {[*reasons, 'no mask belongs to an image'][0]}")
    table = import_optional("pandas").DataFrame(rows, columns=[*IDENTITY, *names])
    return table.sort_values(["image", "mask", "region", "part"], kind="stable", ignore_index=True)


def measure(
    tasks: Iterable[RegionTask], settings: CohortSettings, kept: Path, workers: int
) -> Iterator[tuple[RegionTask, Features | ValueError, bool]]:
    """Yield (task, features or why there are none, whether they were measured before), in order.

    Only a few regions at a time are in memory.
    """
    if workers <= 1:
        for task in tasks:
            store = MeasuredFeatures(kept, settings.radiomics, task.spacing_mm, settings.ibsi)
            known = store.read(task.hu, task.mask)
            if known is not None:
                yield task, known, True
                continue
            features = measure_region(task, settings)
            if isinstance(features, Features):
                store.write(task.hu, task.mask, features)
            yield task, features, False
        return
    waiting: deque[tuple[RegionTask, MeasuredFeatures, Features | Future[Features | ValueError]]] = deque()

    def next_done() -> tuple[RegionTask, Features | ValueError, bool]:
        task, store, found = waiting.popleft()
        if not isinstance(found, Future):
            return task, found, True
        features = found.result()
        if isinstance(features, Features):
            store.write(task.hu, task.mask, features)
        return task, features, False

    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))  # a fork after torch or threads may hang
    try:
        for task in tasks:
            store = MeasuredFeatures(kept, settings.radiomics, task.spacing_mm, settings.ibsi)
            known = store.read(task.hu, task.mask)
            waiting.append((task, store, pool.submit(measure_region, task, settings) if known is None else known))
            if len(waiting) >= WAITING * workers:
                yield next_done()
        while waiting:
            yield next_done()
    finally:
        pool.shutdown(cancel_futures=True)


def measure_region(task: RegionTask, settings: CohortSettings) -> Features | ValueError:
    """Return the features of a region, IBSI's last; or why it has none."""
    try:
        features = extract(task.hu, task.mask, task.spacing_mm, settings.radiomics)
        if settings.ibsi is None:
            return features
        ibsi = extract_ibsi(task.hu, task.mask, task.spacing_mm, settings.ibsi)
    except ValueError as error:
        return error
    return Features(features | ibsi, features.undefined | ibsi.undefined)


def region_tasks(
    pairs: Sequence[tuple[CohortImage, list[MaskFile]]],
    settings: CohortSettings,
    labels: Sequence[str] | None,
    failures: list[str],
    remarks: list[str],
    progress: Progress | None,
) -> Iterator[RegionTask]:
    """Yield the regions of all images, one image at a time; what cannot be read is added to `failures`."""
    for done, (image, masks) in enumerate(pairs):
        if progress is not None:
            progress(done, len(pairs))
        remarks += [f"{image.name}: {remark}" for remark in image.remarks if masks]
        for mask in masks:
            try:
                yield from _of_mask(image, mask, settings, labels, remarks)
            except (ValueError, OSError, ImportError) as error:  # of this image
                failures.append(f"{image.name} with {mask.name}: {error}")
    if progress is not None:
        progress(len(pairs), len(pairs))


def _of_mask(
    image: CohortImage, mask: MaskFile, settings: CohortSettings, labels: Sequence[str] | None, remarks: list[str]
) -> Iterator[RegionTask]:
    said: list[str] = []
    labelled = read_mask(mask.path, image.geometry, None, said)
    remarks += [f"{image.name}: {remark}" for remark in said]
    wanted = {name: region for name, region in labelled.items() if labels is None or name in labels}
    if labels is not None and not wanted:
        remarks.append(
            f"{image.name}: {mask.name} has none of the labels {', '.join(labels)}, but {', '.join(labelled)}"
        )
    yield from tasks_of(image, mask.name, wanted, settings)


def tasks_of(
    image: CohortImage, mask: str, labelled: dict[str, np.ndarray], settings: CohortSettings
) -> Iterator[RegionTask]:
    """Yield the regions of an image.

    Args:
        image: The image.
        mask: What the identity columns call the mask.
        labelled: Name -> (slices, rows, columns) bool.
        settings: Whether to resample, and how much margin to keep around a region.
    """
    geometry = image.geometry
    for region in _regions_of(labelled, geometry):
        hu, inside = cut_out(image.hu(range(region.slices.start, region.slices.stop)), region, settings.radiomics)
        spacing = geometry.voxel_mm
        if settings.resample_mm is not None:
            slice_mm, row_mm, column_mm = settings.resample_mm
            wanted = (slice_mm or spacing[0], row_mm, column_mm)
            hu, inside = resample(hu, inside, spacing, wanted)
            spacing = wanted
        yield RegionTask(_identity(image, mask, region, inside, spacing, settings), hu, inside, spacing)


def _regions_of(labelled: dict[str, np.ndarray], geometry: Geometry) -> list[Region]:
    return find_regions(labelled, geometry, np.ones(geometry.shape[0], bool), {}, {})


def _identity(
    image: CohortImage, mask: str, region: Region, inside: np.ndarray, spacing: Spacing, settings: CohortSettings
) -> Identity:
    digest = hashlib.sha256(f"{region.mask.shape} {region.slices.start}".encode() + np.packbits(region.mask).tobytes())
    voxels = int(inside.sum())
    values = (
        image.patient, image.study_uid, image.series_uid, image.kernel, image.name, mask, region.label,
        "" if region.name == region.label else region.name, digest.hexdigest()[:HASH_DIGITS], voxels,
        int(inside.any((1, 2)).sum()), voxels * float(np.prod(spacing)), spacing[0], spacing[1], settings.text(), __version__,
    )  # fmt: skip
    return dict(zip(IDENTITY, values, strict=True))
