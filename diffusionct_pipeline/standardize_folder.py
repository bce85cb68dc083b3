"""Standardize every CT series of a folder: one model load, one derived DICOM file for each slice, one report.

OUT mirrors the relative paths of IN and holds `run_report.json`. With several samples, `OUT/samples` mirrors them too.
Sources are only read.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch

from .dicom import CTSeries, FolderScan, read_slice, scan_folder, write_slice
from .files import require_writable, whole_file, write_whole
from .image_processor import HUSlice
from .optional import import_optional
from .pipeline import ACCELERATOR_BATCH, DiffusionCTPipeline, sample_seed
from .preview import preview_png
from .provenance import Derivation
from .run_report import REPORT_FILE, SeriesEntry, make_report, relative_path
from .sample_files import SAMPLES_FOLDER, SliceSamples, samples_path, spread_hu
from .seeds import MAX_SEED
from .systems import SystemPipeline, load_system

logger = logging.getLogger(__name__)

PREVIEW_FOLDER = "preview"
PREVIEW_SLICES = 3  # the middle of each series and a quarter to either side
HOPELESS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # the next slice cannot be written either


@dataclass(frozen=True)
class FolderOptions:
    """How a run standardizes; `standardize_folder` explains each."""

    model: str | os.PathLike | None = None
    reference: str | os.PathLike | None = None
    num_inference_steps: int | None = None
    seed: int = 0
    device: str | None = None
    batch_size: int | None = None
    num_samples: int = 1
    preview: bool = False
    system: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The options for the report."""
        chosen = {name: value for name, value in asdict(self).items() if name != "system" or value is not None}
        return {
            **chosen,
            "model": "embedded" if self.model is None else str(self.model),
            "reference": None if self.reference is None else str(self.reference),
        }


@dataclass
class Job:
    """What stays the same for all slices of a run, and how far it has come.

    Attributes:
        source, output: Input and output folder, or the one file to read.
        options: The caller's, with `num_inference_steps` and `device` as they are used.
        pipe: The one pipeline.
        reference_tokens: [1,T,C]; None for the checkpoint's standard.
        derivation: What derived files say about their making.
        progress: Called with the samples done and all.
        total: Slices to standardize.
        done: Slices dealt with, failed ones included.
        shown: Samples that the progress knows of.
        stopped: Why the run ends early, "" while it goes on.
        entries: Of each series that was begun.
    """

    source: Path
    output: Path
    options: FolderOptions
    pipe: DiffusionCTPipeline | SystemPipeline
    reference_tokens: torch.Tensor | None
    derivation: Derivation
    progress: Callable[[int, int], None]
    total: int
    done: int = 0
    shown: int = 0
    stopped: str = ""
    entries: list[SeriesEntry] = field(default_factory=list)

    def count(self, slices: int) -> None:
        """Tell the progress of slices that are dealt with, with all their samples."""
        self.done += slices
        self.show()

    def show(self, samples: int = 0) -> None:
        """Tell the progress of so many samples of slices that are not dealt with; it never goes back."""
        self.shown = max(self.shown, self.done * self.options.num_samples + samples)
        self.progress(self.shown, self.total * self.options.num_samples)

    def name(self, path: Path) -> Path:
        """What the report and OUT call a file of IN."""
        return relative_path(path, self.source)


def standardize_folder(
    source: str | os.PathLike,
    output: str | os.PathLike,
    *,
    model: str | os.PathLike | None = None,
    reference: str | os.PathLike | None = None,
    num_inference_steps: int | None = None,
    seed: int = 0,
    device: str | None = None,
    batch_size: int | None = None,
    num_samples: int = 1,
    preview: bool = False,
    system: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Standardize a DICOM file, or all CT series below a folder.

    Every slice becomes the bytes that the pipeline gives it in Python with the same seed.

    Args:
        source: DICOM file, or folder with any number of series and other files.
        output: Folder for the results, not inside `source`; earlier results in it are replaced.
        model: Checkpoint folder or "user/repo" on the Hub; None for the embedded checkpoint. With `system`, its folder.
        reference: DICOM file or folder with one series whose texture to take; None for the checkpoint's standard.
        num_inference_steps: Denoising steps; None takes what the checkpoint recommends.
        seed: Seed of the noise, which the slices of a series share.
        device: "cpu", "cuda", "cuda:1", ...; None takes the first GPU, else the CPU.
        batch_size: Slices at a time on a GPU; None is 8.
        num_samples: K samples of each slice. The derived file is the first, the same as without others; with more than
            one, all of them and their spread go to `output/samples/PATH.npz`, see `SliceSamples`.
        preview: Whether to write pictures of `PREVIEW_SLICES` slices a series to `output/preview`, with the spread
            where there are several samples.
        system: Name of a system of the comparison (`systems.load_system`) that takes the pipeline's place.
        progress: Called as progress(done, total) at the start and after each sample of each slice; those of a failed
            slice count as done.

    Returns:
        The report, as written to `output/run_report.json`. "failures" counts the files that should have been
        standardized and were not; "stopped" says why a run ended early, "" if it did not.

    Raises:
        ValueError, OSError: if the run cannot start; nothing is written then. DicomError for unusable input.
        ImportError: pictures are asked for and matplotlib is not installed.
        KeyboardInterrupt: after the report is written.
    """
    options = FolderOptions(
        model=model,
        reference=reference,
        num_inference_steps=num_inference_steps,
        seed=seed,
        device=device,
        batch_size=batch_size,
        num_samples=num_samples,
        preview=preview,
        system=system,
    )
    # 1. What there is to do, before anything is loaded.
    source, output = Path(source), Path(output)
    scan = scan_source(source)
    require_apart(scan, source, output)
    if preview:
        import_optional("matplotlib")

    # 2. One model and one reference for all.
    started = time.time()
    job = make_job(scan, source, output, options, progress)
    require_writable(output)

    # 3. Series by series; the report is written whatever happens.
    begun = time.time()
    job.count(0)
    try:
        for series in scan.series:
            standardize_series(job, series)
            if job.stopped:
                break
    except KeyboardInterrupt:
        job.stopped = "interrupted"
        raise
    finally:
        report = make_report(
            source=source,
            output=output,
            derivation=job.derivation,
            options=job.options.as_json(),
            samples_folder=SAMPLES_FOLDER if num_samples > 1 else None,
            slices=job.total,
            entries=job.entries,
            skipped=scan.skipped,
            stopped=job.stopped,
            started=started,
            begun=begun,
        )
        try:
            write_whole(output / REPORT_FILE, json.dumps(report, indent=2) + "\n")
        except OSError as error:
            report["stopped"] = report["stopped"] or f'"{output / REPORT_FILE}" cannot be written: {error.strerror}'
    return report


def scan_source(source: Path) -> FolderScan:
    """The CT series of a folder, or the one slice of a file, as `FolderScan`.

    Raises:
        FileNotFoundError, DicomError: if there is none.
    """
    if not source.exists():
        raise FileNotFoundError(f'"{source}" does not exist.')
    if source.is_dir():
        scan = scan_folder(source)
        scan.require_series()
        return scan
    ct_slice = read_slice(source)
    series = CTSeries(
        uid=ct_slice.series_uid,
        description=str(ct_slice.dataset.get("SeriesDescription") or ""),
        paths=[source],
        positions_mm=[ct_slice.position_mm],
        shape=ct_slice.hu.shape,
        spacing_mm=ct_slice.spacing_mm,
    )
    return FolderScan(source.parent, [series], [])


def require_apart(scan: FolderScan, source: Path, output: Path) -> None:
    """Refuse to write into the folder that is read.

    Raises:
        ValueError: naming both.
    """
    real_source, real_output = source.resolve(), output.resolve()
    if source.is_dir() and real_output.is_relative_to(real_source):
        raise ValueError(f'the output folder "{output}" lies inside the input "{source}"; choose one outside of it.')
    for series in scan.series:
        for path in series.paths:
            target = real_output / relative_path(path, source)
            if target.resolve().is_relative_to(real_source):
                raise ValueError(f'the result of "{path}" would lie in the input; choose another output folder.')


def make_job(
    scan: FolderScan,
    source: Path,
    output: Path,
    options: FolderOptions,
    progress: Callable[[int, int], None] | None,
) -> Job:
    """Load the model, check the options and measure the texture of the reference.

    Raises:
        ValueError, OSError: naming the option and the reason.
    """
    if options.system is None:
        pipe = load_pipeline(options.model, options.device)
    else:
        system = load_system(options.system, options.model)
        pipe = SystemPipeline(options.system, system, options.model, usable_device(options.device))
    steps = options.num_inference_steps
    steps = pipe.config.default_num_inference_steps if steps is None else steps
    pipe.check_inputs(steps, None, options.batch_size, "dicom", [], options.num_samples)
    generator_for(options.seed)
    references = []
    if options.reference is not None:
        references = pipe.image_processor.load(options.reference, None, "reference")
    return Job(
        source=source,
        output=output,
        options=replace(options, num_inference_steps=steps, device=str(pipe._execution_device)),
        pipe=pipe,
        reference_tokens=pipe.reference_tokens(references, options.batch_size),
        derivation=pipe.derivation(steps, references),
        progress=progress or (lambda done, total: None),
        total=sum(len(series.paths) for series in scan.series),
    )


def load_pipeline(model: str | os.PathLike | None = None, device: str | None = None) -> DiffusionCTPipeline:
    """Load a checkpoint and put it on a device; None as in `standardize_folder`.

    Raises:
        ValueError: naming the model or device and the reason.
    """
    place = usable_device(device)
    try:
        diffusers.utils.logging.disable_progress_bar()  # three small files
        pipe = DiffusionCTPipeline.from_pretrained(model)
    except Exception as error:  # what a damaged checkpoint or an unreachable Hub raises depends on the damage
        name = "the embedded model" if model is None else f'model "{model}"'
        raise ValueError(f"{name} cannot be loaded: {first_line(error)}") from error
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(place)


def usable_device(device: str | None) -> torch.device:
    """A device by name; None is the first GPU, else the CPU.

    Raises:
        ValueError: naming the device and the reason.
    """
    try:
        place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        raise ValueError(f'device "{device}" cannot be used: {first_line(error)}') from error
    return place


def standardize_series(job: Job, series: CTSeries) -> None:
    """Standardize and write the slices of one series, and add its entry to the report."""
    entry = SeriesEntry.of(series)
    job.entries.append(entry)
    shown = preview_indices(len(series.paths)) if job.options.preview else []
    shown = {series.paths[i] for i in shown}
    begun = time.perf_counter()
    size = job.options.batch_size or ACCELERATOR_BATCH
    for start in range(0, len(series.paths), size):
        # 1. Read; a file that cannot be read costs nothing but itself.
        slices = []
        for path in series.paths[start : start + size]:
            with failures_listed(job, entry, [path]):
                slices += job.pipe.image_processor.load(path)
        # 2. Standardize those that go through the networks together, and write each.
        for batch in job.pipe.batches(slices, job.options.batch_size):
            inputs = [slices[i] for i in batch]
            with failures_listed(job, entry, [hu_slice.source.path for hu_slice in inputs]):
                results = standardize_slices(job, inputs)
                for hu_slice, (samples, seeds) in zip(inputs, results):
                    path = hu_slice.source.path
                    with failures_listed(job, entry, [path]):
                        write_result(job, entry, hu_slice, samples, seeds, show=path in shown)
            if job.stopped:
                return
        if entry.written:
            entry.seconds_per_slice = round((time.perf_counter() - begun) / entry.written, 3)


@contextmanager
def failures_listed(job: Job, entry: SeriesEntry, paths: list[Path]) -> Iterator[None]:
    """Whatever fails inside is entered in the report with the files that it concerns, and the run goes on."""
    try:
        yield
    except Exception as error:  # one bad file must not stop the rest, whatever is bad about it
        logger.debug("failed: %s", paths, exc_info=True)
        reason = str(error) if isinstance(error, (ValueError, OSError)) else f"{type(error).__name__}: {error}"
        entry.failures += [{"path": str(job.name(path)), "reason": reason} for path in paths]
        job.count(len(paths))
        if any(isinstance(cause, OSError) and cause.errno in HOPELESS for cause in (error, error.__cause__)):
            job.stopped = reason


def standardize_slices(job: Job, slices: list[HUSlice]) -> list[tuple[np.ndarray, tuple[int, ...]]]:
    """Slices that go through the networks together -> list of (K samples in HU (K, H, W), their noise seeds)."""
    first = job.pipe.noise_seeds(slices, generator_for(job.options.seed))
    seeds = [[sample_seed(seed, number) for seed in first] for number in range(job.options.num_samples)]  # [K][B]
    samples = []
    for number, of_sample in enumerate(seeds):
        if number:
            job.show(number * len(slices))
        samples.append(
            job.pipe.standardize_batch(slices, of_sample, job.options.num_inference_steps, job.reference_tokens)
        )
    return list(zip(map(np.stack, zip(*samples)), zip(*seeds)))


def write_result(
    job: Job, entry: SeriesEntry, hu_slice: HUSlice, samples: np.ndarray, seeds: tuple[int, ...], show: bool
) -> None:
    """Write one derived slice, its samples if there are several, and its picture if asked for.

    Args:
        job, entry: Where its success is counted.
        hu_slice: The source.
        samples: (K, H, W), its standardized HU; the first sample is the derived slice.
        seeds: K seeds of their noise.
        show: Whether a picture is asked for.
    """
    hu = samples[0]
    derived = job.derivation.derive(hu, hu_slice.source, seeds[0])
    name = job.name(hu_slice.source.path)
    if len(samples) == 1:
        write_slice(derived, job.output / name)
    else:
        record = SliceSamples.of(samples, hu_slice.source, derived.SOPInstanceUID, seeds)
        with whole_file(samples_path(job.output, name)) as part:  # there only if the derived file is
            part.write_bytes(record.to_bytes())
            write_slice(derived, job.output / name)
    entry.written += 1
    entry.clipped_pixels += derived.clipped_pixels
    if entry.kernel_in is None:
        entry.kernel_in, entry.kernel_out = hu_slice.kernel, derived.ConvolutionKernel
    if show:
        picture = job.output / PREVIEW_FOLDER / f"{len(job.entries):02d}_{str(name).replace(os.sep, '_')}.png"
        title = f"{name}   {hu_slice.kernel or 'unknown kernel'} to {derived.ConvolutionKernel}"
        spread = spread_hu(samples) if len(samples) > 1 else None
        write_whole(picture, preview_png(hu_slice.hu, hu, hu_slice.spacing_mm, title, spread))
    job.count(1)


def preview_indices(count: int) -> list[int]:
    """Up to `PREVIEW_SLICES` of `count` slices, evenly spaced, the middle one among them."""
    return sorted({(i + 1) * count // (PREVIEW_SLICES + 1) for i in range(PREVIEW_SLICES)} & set(range(count)))


def generator_for(seed: int) -> torch.Generator:
    """A generator of a seed.

    Raises:
        ValueError: naming the seed.
    """
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"`seed` is {seed}; legal is an integer of 0 to 2^63 - 1.")
    return torch.Generator().manual_seed(seed)


def first_line(error: Exception) -> str:
    """First line of an error's message, or its type."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
