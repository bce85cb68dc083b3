"""Standardize the volumes of a folder: one file for each, whole or not at all, under the header of its source."""

from __future__ import annotations

import time
from pathlib import Path

from ..dicom import Skipped, SkippedKind
from ..dicom.deriving import synthetic_kernel_name
from ..image_processor import HUSlice, doubts
from ..utils.files import write_whole
from ..utils.paths import without_folders
from ..volumes import CTVolume, VolumeError, VolumeHeader, read_volume, write_volume
from ..volumes.files import written_volume
from .bids import (
    DESCRIPTION_FILE,
    IGNORE_FILE,
    IGNORED,
    dataset_description,
    is_named,
    require_ours,
    sidecar,
    sidecar_name,
)
from .previews import preview_indices, write_preview
from .report import SeriesEntry
from .run import Job, failures_listed, generator_for
from .scans import begin_scan


def standardize_volume(job: Job, header: VolumeHeader) -> None:
    """Standardize and write one volume if it is not finished, and add its entry to the report.

    A mask is left out as no CT, unless there is nothing else to standardize.
    """
    begun, count = time.perf_counter(), header.grid.slices_shape[0]
    entry = SeriesEntry.of_volume(str(job.name(header.path)), count, header.grid.spacing_mm)
    job.entries.append(entry)
    name = job.volume_name(header.path)
    with failures_listed(job, entry, [header.path], count):
        try:
            slices = load_slices(job, header)
        except VolumeError as error:
            if error.kind is not SkippedKind.NOT_CT or (job.total == count and not job.is_shared):
                raise
            job.entries.remove(entry)
            job.scan.volumes.remove(header)
            job.scan.skipped.append(Skipped(header.path, str(error), error.kind))
            return
        entry.remarks = doubts(slices, "This volume")
        if job.options.bids:
            write_dataset(job)
            if not is_named(job.name(header.path)):
                entry.remarks.append("The file is not named as BIDS wants, so that its result keeps its name")
        entry.uid, entry.thickness_mm = slices[0].series_uid, slices[0].thickness_mm
        seeds = job.pipe.noise_seeds(slices, generator_for(job.options.seed))
        job.task = begin_scan(job, entry, slices, lambda item: seeds[0])
        derived = finished_volume(job, name, slices, seeds)
        if derived is not None:
            entry.finished_before = count
        else:
            derived = job.task.derivation.derive_volume(standardized(job, slices, seeds), slices, seeds)
            job.require_output()
            write_volume(derived, job.output / name)
            entry.written, entry.clipped_pixels = count, derived.clipped_pixels
            entry.seconds_per_slice = round((time.perf_counter() - begun) / count, 3)
        finish_volume(job, entry, name, slices, derived)
        job.count(count)


def load_slices(job: Job, header: VolumeHeader) -> list[HUSlice]:
    """Slices of a volume, with the thickness and the name that the caller gave.

    Raises:
        VolumeError: as of `read_volume`.
    """
    processor = job.pipe.image_processor
    slices = processor.load(read_volume(header.path), judge=False)
    return processor.place(slices, thickness_mm=job.options.slice_thickness, series_uid=job.options.series_uid)


def finished_volume(job: Job, name: Path, slices: list[HUSlice], seeds: list[int]) -> CTVolume | None:
    """What an earlier run wrote, if it says of itself what this run would; else None."""
    if job.options.overwrite:
        return None
    derived = written_volume(job.output / name, slices[0].volume)
    if derived is None or derived.description != job.task.derivation.describe_volume(derived, slices, seeds):
        return None
    return derived


def standardized(job: Job, slices: list[HUSlice], seeds: list[int]) -> list:
    """HU (H, W) of each slice, standardized."""
    results = []
    for batch in job.pipe.batches(slices, job.options.batch_size):
        inputs, of_batch = [slices[i] for i in batch], [seeds[i] for i in batch]
        results += job.pipe.standardize_batch(inputs, of_batch, job.options.num_inference_steps, job.task.step)
        job.show(len(results))
    return results


def finish_volume(job: Job, entry: SeriesEntry, name: Path, slices: list[HUSlice], derived: CTVolume) -> None:
    """Enter a volume whose file is there, and write what is asked for beside it from what that holds."""
    job.results.add(str(name))
    entry.kernel_in, entry.kernel_out = (
        "",
        synthetic_kernel_name(job.task.derivation.label or job.derivation.target_name),
    )
    if job.options.bids:
        write_sidecar(job, entry, name)
    for index in preview_indices(len(slices)) if job.options.preview else []:
        before, place = slices[index], (index, len(slices))
        picture, kernels = f"{entry.path}_{index + 1}", ("", entry.kernel_out)
        write_preview(job, picture, place, kernels, before.hu, derived.slice_hu(index), before.spacing_mm)


def write_dataset(job: Job) -> None:
    """Describe the derived dataset in the output folder.

    Raises:
        FileExistsError: That of another one is there.
    """
    path = job.output / DESCRIPTION_FILE
    require_ours(path)
    job.require_output()
    write_whole(path, dataset_description(job.scan.folder, job.output, job.derivation))
    write_whole(job.output / IGNORE_FILE, "\n".join(IGNORED) + "\n")
    job.results.add(DESCRIPTION_FILE)


def write_sidecar(job: Job, entry: SeriesEntry, name: Path) -> None:
    """Write the sidecar of a result."""
    beside = sidecar_name(name)
    warnings = without_folders([*entry.remarks, *entry.unlike_training], {"IN": job.scan.folder, "OUT": job.output})
    text = sidecar(Path(entry.path), entry, job.task.derivation, job.options.seed, warnings)
    write_whole(job.output / beside, text)
    job.results.add(str(beside))
