"""Standardize the volumes of a folder: one file for each, whole or not at all, under the header of its source."""

from __future__ import annotations

import time

from ..dicom import Skipped, SkippedKind
from ..dicom.deriving import synthetic_kernel_name
from ..image_processor import HUSlice, doubts
from ..volumes import CTVolume, VolumeError, VolumeHeader, read_volume, write_volume
from ..volumes.files import written_volume
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
    with failures_listed(job, entry, [header.path], count):
        try:
            slices = load_slices(job, header)
        except VolumeError as error:
            if error.kind is not SkippedKind.NOT_CT or job.total == count:
                raise
            job.entries.remove(entry)
            job.scan.volumes.remove(header)
            job.scan.skipped.append(Skipped(header.path, str(error), error.kind))
            return
        entry.remarks = doubts(slices, "This volume")
        entry.uid, entry.thickness_mm = slices[0].series_uid, slices[0].thickness_mm
        seeds = job.pipe.noise_seeds(slices, generator_for(job.options.seed))
        job.task = begin_scan(job, entry, slices, lambda item: seeds[0])
        derived = finished_volume(job, entry, slices, seeds)
        if derived is not None:
            entry.finished_before = count
        else:
            derived = job.task.derivation.derive_volume(standardized(job, slices, seeds), slices, seeds)
            job.require_output()
            write_volume(derived, job.output / entry.path)
            entry.written, entry.clipped_pixels = count, derived.clipped_pixels
            entry.seconds_per_slice = round((time.perf_counter() - begun) / count, 3)
        finish_volume(job, entry, slices, derived)
        job.count(count)


def load_slices(job: Job, header: VolumeHeader) -> list[HUSlice]:
    """Slices of a volume, with the thickness and the name that the caller gave.

    Raises:
        VolumeError: as of `read_volume`.
    """
    processor = job.pipe.image_processor
    slices = processor.load(read_volume(header.path), judge=False)
    return processor.place(slices, thickness_mm=job.options.slice_thickness, series_uid=job.options.series_uid)


def finished_volume(job: Job, entry: SeriesEntry, slices: list[HUSlice], seeds: list[int]) -> CTVolume | None:
    """What an earlier run wrote, if it says of itself what this run would; else None."""
    if job.options.overwrite:
        return None
    derived = written_volume(job.output / entry.path, slices[0].volume)
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


def finish_volume(job: Job, entry: SeriesEntry, slices: list[HUSlice], derived: CTVolume) -> None:
    """Enter a volume whose file is there, and draw its pictures from what that holds if they are asked for."""
    job.results.add(entry.path)
    entry.kernel_in, entry.kernel_out = (
        "",
        synthetic_kernel_name(job.task.derivation.label or job.derivation.target_name),
    )
    for index in preview_indices(len(slices)) if job.options.preview else []:
        before, place = slices[index], (index, len(slices))
        name, kernels = f"{entry.path}_{index + 1}", ("", entry.kernel_out)
        write_preview(job, name, place, kernels, before.hu, derived.slice_hu(index), before.spacing_mm)
