"""`diffusionct features`: every region of every image of a cohort, a row each."""

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
from ..evaluation.geometry import Spacing
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
    """What was measured.

    Attributes:
        table: A row for each region, columns `IDENTITY`, then the features.
        failures: A sentence for each image or mask that could not be measured.
        remarks: What is odd about the others.
        measured_before: How many regions an interrupted run had measured.
    """

    table: DataFrame
    failures: list[str]
    remarks: list[str]
    measured_before: int


@dataclass(frozen=True, eq=False)
class RegionTask:
    """A region as it is to be measured.

    Attributes:
        identity: Its columns of identity.
        hu, mask: (slices, rows, columns), cut out.
        spacing_mm: Of slices, rows and columns.
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

    What is measured is kept beside `out`, in a hidden folder, until the table is there: the same call resumes with it
    after an interruption. One image that cannot be used costs nothing but itself.

    Args:
        images: Folder with DICOM series, NIfTI and NRRD files in any number, or one file.
        masks: Folder with masks, which may be the same one, or one file: see `pair`.
        out: Table to write, .csv or .parquet.
        settings: How to measure; None: as by default.
        labels: Regions to measure, by number or name; None: all. Masks without them are no failures.
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
        found = measure_cohort(
            images, masks, kept, settings=settings, labels=labels, workers=workers, progress=progress
        )  # fmt: skip
        write_table(found.table, out)
    return found


def measure_cohort(
    images: Path,
    masks: Path,
    kept: Path,
    *,
    settings: CohortSettings | None = None,
    labels: Sequence[str] | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> CohortFeatures:
    """Measure as `extract_cohort` does, without writing a table.

    Args:
        kept: Folder for what is measured, and for what an interrupted run has measured.

    Raises:
        As of `extract_cohort`.
    """
    settings = settings or CohortSettings()
    found, failures = find_images(images, masks)
    pairs = pair(found, find_masks(masks, images))
    remarks = [f"{image.name}: has no mask" for image, own in pairs if not own]
    rows, before = [], 0
    tasks = region_tasks(pairs, settings, labels, failures, remarks, progress)
    for task, features, known in measure(tasks, settings, kept, workers):
        if isinstance(features, ValueError):
            failures.append("{image} with {mask}, region {region}: ".format(**task.identity) + str(features))
            continue
        rows.append(task.identity | {name: features[name] for name in settings.names})
        before += known
    return CohortFeatures(table_of(rows, settings.names, [*failures, *remarks]), failures, remarks, before)


def table_of(rows: list[dict], names: Sequence[str], reasons: Sequence[str]) -> DataFrame:
    """A table of rows, ordered by what they are of.

    Raises:
        ValueError: there is none; with the first of the reasons.
    """
    if not rows:
        raise ValueError(f"no region was measured: {[*reasons, 'no mask belongs to an image'][0]}")
    table = import_optional("pandas").DataFrame(rows, columns=[*IDENTITY, *names])
    return table.sort_values(["image", "mask", "region", "part"], kind="stable", ignore_index=True)


def measure(
    tasks: Iterable[RegionTask], settings: CohortSettings, kept: Path, workers: int
) -> Iterator[tuple[RegionTask, Features | ValueError, bool]]:
    """Yield (task, features or why there are none, whether they were measured before), in order.

    A few regions at a time are in memory.
    """
    if workers <= 1:
        for task in tasks:
            store = MeasuredFeatures(kept, settings.radiomics, task.spacing_mm, settings.ibsi)
            features = store.read(task.hu, task.mask)
            known = features is not None
            if features is None:
                features = measure_region(task, settings)
                if isinstance(features, Features):
                    store.write(task.hu, task.mask, features)
            yield task, features, known
        return
    waiting: deque[tuple[RegionTask, MeasuredFeatures, Features | Future]] = deque()

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
            found = store.read(task.hu, task.mask)
            if found is None:
                found = pool.submit(measure_region, task, settings)
            waiting.append((task, store, found))
            if len(waiting) >= WAITING * workers:
                yield next_done()
        while waiting:
            yield next_done()
    finally:
        pool.shutdown(cancel_futures=True)


def measure_region(task: RegionTask, settings: CohortSettings) -> Features | ValueError:
    """The features of a region, those of IBSI last; or why it has none."""
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
    """The regions of all images, one image at a time; what cannot be read is told in `failures`."""
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
    if not wanted:
        remarks.append(
            f"{image.name}: {mask.name} has none of the labels {', '.join(labels)}, but {', '.join(labelled)}"
        )
    yield from tasks_of(image, mask.name, wanted, settings)


def tasks_of(
    image: CohortImage, mask: str, labelled: dict[str, np.ndarray], settings: CohortSettings
) -> Iterator[RegionTask]:
    """The regions of an image.

    Args:
        image: The image.
        mask: What the columns of identity call the mask.
        labelled: Name -> (slices, rows, columns) bool.
        settings: Whether to resample, and how much around a region to keep.
    """
    geometry = image.geometry
    regions = find_regions(labelled, geometry, np.ones(geometry.shape[0], bool), {}, {})
    for region in regions:
        hu, inside = cut_out(image.hu(range(region.slices.start, region.slices.stop)), region, settings.radiomics)
        spacing = geometry.voxel_mm
        if settings.resample_mm is not None:
            wanted = (settings.resample_mm[0] or spacing[0], *settings.resample_mm[1:])
            hu, inside = resample(hu, inside, spacing, wanted)
            spacing = wanted
        yield RegionTask(_identity(image, mask, region, inside, spacing, settings), hu, inside, spacing)


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
