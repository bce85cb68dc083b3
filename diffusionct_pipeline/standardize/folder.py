"""Standardize every CT series and volume of a folder: one model load, one derived file for each, one report.

OUT mirrors the relative paths of IN and holds `run_report.json`. With several samples, `OUT/samples` mirrors them too.
Sources are only read.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from ..dicom import CTSeries, CTSlice, DicomError, read_slice, write_slice
from ..dicom.plausible import ValueRange, lacks_air, lacks_air_remark
from ..dicom.sample_files import SliceSamples, samples_path
from ..image_processor import GRID, HUSlice
from ..pipeline import ACCELERATOR_BATCH, sample_seed
from ..utils.devices import one_thread
from ..utils.files import locked_folder, remove_temporaries, whole_file
from ..utils.optional import import_optional
from ..volumes.inputs import arrivals, require_apart, scan_source
from .finished import finished_samples, finished_slice
from .likeness import has_texture_latent, header_remarks, latent_remarks, likeness, slice_latents
from .pages import write_series_page, write_volume_page
from .previews import preview_indices, write_preview
from .report import SeriesEntry
from .run import FolderOptions, Job, failures_listed, generator_for, make_job
from .scans import SeriesSlices, begin_scan
from .standardizer import Standardizer
from .volumes import standardize_volume

logger = logging.getLogger(__name__)


def standardize_folder(
    source: str | os.PathLike,
    output: str | os.PathLike,
    *,
    model: str | os.PathLike | None = None,
    target: str | None = None,
    reference: str | os.PathLike | None = None,
    noise: str | float = "keep",
    known_source: str | os.PathLike | None = None,
    num_inference_steps: int | None = None,
    seed: int = 0,
    device: str | None = None,
    batch_size: int | None = None,
    num_samples: int = 1,
    preview: bool = False,
    page: bool = False,
    overwrite: bool = False,
    again: bool = False,
    pipe: Standardizer | None = None,
    fast: bool = False,
    series_uid: str | None = None,
    slice_thickness: float | None = None,
    bids: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Standardize a DICOM, NIfTI or NRRD file, or all CT series and volumes below a folder.

    Every slice becomes the bytes that the pipeline gives it in Python with the same seed, on one thread. On a CPU they
    depend on the slice, the estimate of its scan and the options: not on its neighbours, nor on how many cores there are.

    A run that was interrupted is resumed: what an earlier one with the same input, model and options has finished stays as it is, see
    `finished_slice`. Results of another model, of other options or of a source that has changed are made anew.

    Args:
        source: DICOM, NIfTI or NRRD file, or folder with any number of series, volumes and other files.
        output: Folder for the results, not inside `source`. One run at a time writes to it.
        model: Checkpoint folder or "user/repo" on the Hub; None for the embedded checkpoint.
        target: Name of a kernel of `simulation.KERNELS`; None for the checkpoint's standard.
        reference: File, or folder with one DICOM series, whose texture to take in place of a kernel by name.
        noise: "keep" the dose of each scan, take over that of the "target", or noise in soft tissue in HU.
        known_source: `run_report.json` of a run over the same scans, whose estimates are taken over: so slices that arrive
            late, or a part of a series, become what they would have become in that run.
        num_inference_steps: Denoising steps; None takes what the checkpoint recommends.
        seed: Seed of the noise, which the slices of a series share.
        device: "cpu", "cuda", "cuda:1", ...; None takes the first GPU, else the CPU.
        batch_size: Slices at a time on a GPU; None is 8.
        num_samples: K samples of each slice. The derived file is the first, the same as without others; with more than
            one, all of them and their spread go to `output/samples/PATH.npz`, see `SliceSamples`. DICOM only.
        preview: Whether to write pictures of `PREVIEW_SLICES` slices a series to `output/preview`, with the spread
            where there are several samples.
        page: Whether to write a page for each series, `output/page_01.html` and so on, that shows up to 12 slices of it
            before and after in a browser.
        overwrite: Whether to make what is finished again.
        again: Whether to standardize what this package has standardized, which is left alone otherwise.
        pipe: What is loaded already and takes the place of `model`, `device` and `fast`: a `DiffusionCTPipeline`, or a system
            of the comparison (`load_as_pipeline`).
        fast: Whether the networks run in bfloat16, for GPUs, see `make_fast`. Files have other UIDs then, and other
            pixels.
        series_uid: Names the scan of the one volume that is given to the noise, as the SeriesInstanceUID does for
            DICOM; None takes a hash of its HU.
        slice_thickness: Of all volumes, in mm; None takes the distance of their slices.
        bids: Whether `source` is a BIDS dataset, and results of its volumes get names, sidecars and a description as a
            derived dataset has them.
        progress: Called as progress(done, total) at the start and after each sample of each slice; those of a failed
            slice count as done.

    Returns:
        The report, as written to `output/run_report.json` and kept up to date there while the run goes on. "failures"
        counts the files that should have been standardized and were not; "stopped" says why a run ended early, "" if it
        did not; "ended" is None until it does; "others" lists what `output` holds beside the results of this run.

    Raises:
        ValueError, OSError: if the run cannot start; nothing is written then. DicomError for unusable input,
            BlockingIOError if another run is writing to `output`.
        ImportError: pictures are asked for and matplotlib is not installed.
        KeyboardInterrupt: after the report is written.
    """
    options = FolderOptions(
        model=model,
        target=target,
        reference=reference,
        noise=noise,
        source=known_source,
        num_inference_steps=num_inference_steps,
        seed=seed,
        device=device,
        batch_size=batch_size,
        num_samples=num_samples,
        preview=preview,
        page=page,
        overwrite=overwrite,
        again=again,
        fast=fast,
        series_uid=series_uid,
        slice_thickness=slice_thickness,
        bids=bids,
    )
    # 1. What there is to do, before anything is loaded.
    source, output = Path(source), Path(output)
    scan = scan_source(source, again)
    require_apart(scan, source, output)
    options.require_apply(scan)
    if preview:
        import_optional("matplotlib")

    with one_thread():
        # 2. One model and one reference for all.
        job = make_job(scan, output, options, progress, pipe)

        # 3. Series by series.
        with locked_folder(output):
            remove_temporaries(output)
            return run_job(job, lambda: arrivals(scan, source))


def run_job(job: Job, last_remarks: Callable[[], list[str]] = list) -> dict[str, Any]:
    """Standardize series by series; the report is written whatever happens.

    Args:
        job: The run. The caller holds the lock of its output folder.
        last_remarks: Called at the end, for what is to be said then.
    """
    job.folder = job.output.stat()
    try:
        job.count(0)
        for series in job.scan.series:
            standardize_series(job, series)
            if job.options.page and not job.stopped:
                write_series_page(job, series)
            if job.stopped:
                break
        for header in [] if job.stopped else list(job.scan.volumes):
            standardize_volume(job, header)
            if job.options.page and not job.stopped:
                write_volume_page(job, header)
            if job.stopped:
                break
    except BaseException as error:
        job.stopped = "interrupted" if isinstance(error, KeyboardInterrupt) else f"{type(error).__name__}: {error}"
        raise
    finally:
        job.scan.remarks.extend(last_remarks())
        job.close()
        report = job.report(ended=True)
    return report


def standardize_series(job: Job, series: CTSeries) -> None:
    """Standardize and write the slices of one series that are not finished, and add its entry to the report."""
    entry = SeriesEntry.of(series)
    entry.folder = str(job.name(series.paths[0]).parent).removeprefix(".")
    job.entries.append(entry)
    job.latents, job.task = [], None
    with failures_listed(job, entry, series.paths):
        job.task = begin_scan(job, entry, SeriesSlices(series), lambda item: seeds_of(job, [item])[0][0])
    if job.task is None:
        return
    size = job.options.batch_size or ACCELERATOR_BATCH
    seconds, airless, values = 0.0, 0, ValueRange()
    of_header: list[str] | None = None
    for start in range(0, len(series.paths), size):
        # 1. Read; a file that cannot be read costs nothing but itself.
        paths, begun = series.paths[start : start + size], time.perf_counter()
        slices = []
        for path, uid in zip(paths, series.uids[start : start + size]):
            with failures_listed(job, entry, [path]):
                loaded = job.pipe.image_processor.load(path, judge=False)
                require_unchanged(loaded[0].source, series, uid)
                slices += loaded
        for hu_slice in slices:
            values.add(hu_slice.hu, hu_slice.padding)
            airless += lacks_air(hu_slice.hu, hu_slice.padding)
        if values.problem:
            with failures_listed(job, entry, [hu_slice.source.path for hu_slice in slices]):
                raise DicomError(f"This series {values.problem}")
            slices = []
        if slices and of_header is None:
            of_header = header_remarks(slices[0].source.dataset, slices[0].thickness_mm, series.spacing_mm)
        reading = (time.perf_counter() - begun) / len(paths)
        # 2. Standardize those that go through the networks together, and write each.
        for batch in job.pipe.batches(slices, job.options.batch_size):
            inputs = [slices[i] for i in batch]
            missing = [False] * len(inputs)
            for i, hu_slice in enumerate(inputs):
                with failures_listed(job, entry, [hu_slice.source.path]):
                    missing[i] = not is_finished(job, entry, series, hu_slice)
            if any(missing):
                begun = time.perf_counter()
                standardize_missing(job, entry, series, inputs, missing)
                seconds += time.perf_counter() - begun + reading * len(inputs)
            if job.stopped:
                return
        if entry.written:
            entry.seconds_per_slice = round(seconds / entry.written, 3)
        # 3. What no training scan had.
        entry.unlike_training = of_header or []
        if job.latents:
            where = likeness(job.pipe, job.latents, series.spacing_mm)
            entry.unlike_training = entry.unlike_training + latent_remarks(where, len(job.latents))
    if airless == len(series.paths):
        entry.remarks.append(lacks_air_remark("This series"))


def require_unchanged(source: CTSlice, series: CTSeries, uid: str) -> None:
    """Refuse a file that is not the one any more that the input was searched for.

    Raises:
        DicomError: naming it.
    """
    found = str(source.dataset.get("SOPInstanceUID") or ""), source.series_uid, source.hu.shape
    if found != (uid, series.uid, series.shape):
        raise DicomError(f"{source.name} was replaced by another image while the run went on.")


def is_finished(job: Job, entry: SeriesEntry, series: CTSeries, hu_slice: HUSlice) -> bool:
    """Whether an earlier run wrote what this one would; then it is counted, and its picture drawn if asked for."""
    if job.options.overwrite:
        return False
    source, name = hu_slice.source, job.name(hu_slice.source.path)
    seeds = seeds_of(job, [hu_slice])[0]
    derived = finished_slice(job.output / name, source, seeds[0], job.task.derivation)
    record = None
    if derived is not None and len(seeds) > 1:
        record = finished_samples(samples_path(job.output, name), derived, source, seeds)
    if derived is None or (len(seeds) > 1 and record is None):
        return False
    job.claim(derived.SOPInstanceUID, name)
    finish_slice(job, entry, series, hu_slice, derived, record)
    entry.finished_before += 1
    job.count(1)
    return True


def seeds_of(job: Job, slices: list[HUSlice]) -> list[tuple[int, ...]]:
    """K noise seeds of each slice."""
    first = job.pipe.noise_seeds(slices, generator_for(job.options.seed))
    return [tuple(sample_seed(seed, number) for number in range(job.options.num_samples)) for seed in first]


def standardize_missing(
    job: Job, entry: SeriesEntry, series: CTSeries, slices: list[HUSlice], missing: list[bool]
) -> None:
    """Standardize slices together, and write those that are missing.

    All go through the networks, as on a GPU the last bits depend on what else is in the batch.
    """
    wanted = [hu_slice for hu_slice, is_missing in zip(slices, missing) if is_missing]
    with failures_listed(job, entry, [hu_slice.source.path for hu_slice in wanted]):
        for hu_slice, (samples, seeds), is_missing in zip(slices, standardize_slices(job, series, slices), missing):
            if is_missing and not job.stopped:
                with failures_listed(job, entry, [hu_slice.source.path]):
                    derived, record = write_result(job, hu_slice, samples, seeds)
                    finish_slice(job, entry, series, hu_slice, derived, record)
                    entry.written += 1
                    entry.clipped_pixels += derived.clipped_pixels
                    job.count(1)


def standardize_slices(job: Job, series: CTSeries, slices: list[HUSlice]) -> list[tuple[np.ndarray, tuple[int, ...]]]:
    """Slices that go through the networks together -> list of (K samples in HU (K, H, W), their noise seeds)."""
    seeds = seeds_of(job, slices)  # [B][K]
    encoded = job.pipe.encode_batch(slices)
    if has_texture_latent(job.pipe):
        job.latents += slice_latents(job.pipe, encoded.latent_a, encoded.shape[-1] // GRID)
    trial = [job.task.trial.get(series.paths.index(item.source.path)) for item in slices]
    samples = []
    for number, of_sample in enumerate(zip(*seeds)):
        if number:
            job.show(number * len(slices))
        if number == 0 and all(made is not None for made in trial):
            samples.append(trial)
            continue
        steps, step = job.options.num_inference_steps, job.task.step
        step = step and step.of_sample(number, seeds[0][0])
        samples.append(job.pipe.standardize_batch(slices, of_sample, steps, step, encoded=encoded))
    return list(zip(map(np.stack, zip(*samples)), seeds))


def write_result(
    job: Job, hu_slice: HUSlice, samples: np.ndarray, seeds: tuple[int, ...]
) -> tuple[Dataset, SliceSamples | None]:
    """Write one derived slice, and its samples if there are several.

    Args:
        job: The run.
        hu_slice: The source.
        samples: (K, H, W), its standardized HU; the first sample is the derived slice.
        seeds: K seeds of their noise.
    """
    job.require_output()
    derived = job.task.derivation.derive(samples[0], hu_slice.source, seeds[0])
    name = job.name(hu_slice.source.path)
    job.claim(derived.SOPInstanceUID, name)
    if len(samples) == 1:
        write_slice(derived, job.output / name)
        return derived, None
    record = SliceSamples.of(samples, hu_slice.source, derived.SOPInstanceUID, seeds)
    with whole_file(samples_path(job.output, name)) as part:  # there only if the derived file is
        part.write_bytes(record.to_bytes())
        write_slice(derived, job.output / name)
    return derived, record


def finish_slice(
    job: Job,
    entry: SeriesEntry,
    series: CTSeries,
    hu_slice: HUSlice,
    derived: Dataset,
    record: SliceSamples | None,
) -> None:
    """Enter a slice whose files are there, and draw its picture from what they hold if one is asked for."""
    path = hu_slice.source.path
    name, index = job.name(path), series.paths.index(path)
    job.results.add(str(name))
    if record is not None:
        job.results.add(str(samples_path(Path(), name)))
    if entry.kernel_in is None:
        entry.kernel_in, entry.kernel_out = hu_slice.kernel, derived.ConvolutionKernel
    if job.options.preview and index in preview_indices(len(series.paths)):
        place, kernels = (index, len(series.paths)), (hu_slice.kernel, derived.ConvolutionKernel)
        spread = None if record is None else record.spread
        write_preview(job, str(name), place, kernels, hu_slice.hu, read_slice(derived).hu, hu_slice.spacing_mm, spread)
