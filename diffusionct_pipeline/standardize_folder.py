"""Standardize every CT series of a folder: one model load, one derived DICOM file for each slice, one report.

OUT mirrors the relative paths of IN and holds `run_report.json`. Sources are only read.
"""

import errno
import json
import logging
import os
import platform
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import diffusers
import torch

from . import __version__
from .dicom import CTSeries, FolderScan, read_slice, scan_folder, write_slice
from .files import require_writable, write_whole
from .pipeline import ACCELERATOR_BATCH, DiffusionCTPipeline
from .preview import preview_png, require_matplotlib

logger = logging.getLogger(__name__)

REPORT_FILE = "run_report.json"
PREVIEW_FOLDER = "preview"
PREVIEW_SLICES = 3  # the middle of each series and a quarter to either side
# Reasons for which a file is no slice that anybody wanted standardized. A file that was left out for another reason
# (truncated, no pixel spacing, mixed geometry, ...) is a failure.
JUNK_REASONS = (
    "is a hidden",
    "is not a regular file",
    "is a DICOMDIR",
    "is not a CT image",
    "is a localizer",
    "is a second copy",
)
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")  # such a file was meant to be DICOM; others may well not be
HOPELESS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # the next slice cannot be written either


@dataclass
class Job:
    """What stays the same for all slices of a run."""

    pipe: DiffusionCTPipeline
    reference_style: torch.Tensor | None  # [1,C]; None for the checkpoint's standard
    num_inference_steps: int
    seed: int
    batch_size: int | None
    derivation: dict
    source: Path
    output: Path
    preview: bool
    progress: Callable[[int, int], None]
    total: int
    done: int = 0
    stopped: str = ""
    series: list[dict] = field(default_factory=list)

    def count(self, slices):
        """Tell the progress."""
        self.done += slices
        self.progress(self.done, self.total)


def standardize_folder(
    source, output, *, model=None, reference=None, num_inference_steps=None, seed=0, device=None, batch_size=None,
    preview=False, progress=None,
):  # fmt: skip
    """Standardize a DICOM file, or all CT series below a folder.

    Every slice becomes the bytes that the pipeline gives it in Python with the same seed.

    Args:
        source: DICOM file, or folder with any number of series and other files.
        output: Folder for the results, not inside `source`; earlier results in it are replaced.
        model: Checkpoint folder or "user/repo" on the Hub; None for the embedded checkpoint.
        reference: DICOM file or folder with one series whose texture to take; None for the checkpoint's standard.
        num_inference_steps: Denoising steps; None takes what the checkpoint recommends.
        seed: Seed of the noise, which the slices of a series share.
        device: "cpu", "cuda", "cuda:1", ...; None takes the first GPU, else the CPU.
        batch_size: Slices at a time on a GPU; None is 8.
        preview: Whether to write pictures of `PREVIEW_SLICES` slices a series to `output/preview`.
        progress: Called as progress(done, total) at the start and after each slice, failed ones included.

    Returns:
        The report, as written to `output/run_report.json`. "failures" counts the files that should have been
        standardized and were not; "stopped" says why a run ended early, "" if it did not.

    Raises:
        ValueError, OSError: if the run cannot start; nothing is written then. DicomError for unusable input.
        KeyboardInterrupt: after the report is written.
    """
    # 1. What there is to do, before anything is loaded.
    source, output = Path(source), Path(output)
    scan = find_series(source)
    require_apart(scan, source, output)
    if preview:
        require_matplotlib()

    # 2. One model and one target style for all.
    started = time.time()
    pipe = load_pipeline(model, device)
    steps = pipe.config.default_num_inference_steps if num_inference_steps is None else num_inference_steps
    pipe.check_inputs(steps, None, batch_size, "dicom", [])
    generator_for(seed)
    references = pipe.image_processor.load(reference, None, "reference") if reference is not None else []
    with torch.no_grad():
        reference_style = pipe.target_style(references, batch_size)
    derivation = pipe.derivation(steps, references)
    require_writable(output)

    # 3. Series by series; the report is written whatever happens.
    total = sum(len(series.paths) for series in scan.series)
    job = Job(
        pipe, reference_style, steps, seed, batch_size, derivation, source, output, preview, progress or (lambda *_: None),
        total,
    )  # fmt: skip
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
        options = {
            "model": "embedded" if model is None else str(model),
            "reference": None if reference is None else str(reference),
            "num_inference_steps": steps,
            "seed": seed,
            "device": str(pipe._execution_device),
            "batch_size": batch_size,
            "preview": preview,
        }
        report = make_report(job, scan, options, started, begun)
        try:
            write_whole(output / REPORT_FILE, (json.dumps(report, indent=2) + "\n").encode())
        except OSError as error:
            report["stopped"] = report["stopped"] or f'"{output / REPORT_FILE}" cannot be written: {error.strerror}'
    return report


def find_series(source):
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
    one = read_slice(source)
    description = str(one.dataset.get("SeriesDescription") or "")
    series = CTSeries(one.series_uid, description, [source], [one.position_mm], one.hu.shape, one.spacing_mm)
    return FolderScan(source.parent, [series], [])


def require_apart(scan, source, output):
    """Refuse to write into the folder that is read.

    Raises:
        ValueError: naming both.
    """
    real_source, real_output = source.resolve(), output.resolve()
    if source.is_dir() and real_output.is_relative_to(real_source):
        raise ValueError(f'the output folder "{output}" lies inside the input "{source}"; choose one outside of it.')
    for series in scan.series:
        for path in series.paths:
            target = real_output / relative(path, source)
            if target.resolve().is_relative_to(real_source):
                raise ValueError(f'the result of "{path}" would lie in the input; choose another output folder.')


def load_pipeline(model=None, device=None):
    """Load a checkpoint and put it on a device.

    Raises:
        ValueError: naming the model or device and the reason.
    """
    try:
        place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        raise ValueError(f'device "{device}" cannot be used: {first_line(error)}') from error
    try:
        diffusers.utils.logging.disable_progress_bar()  # three small files
        pipe = DiffusionCTPipeline.from_pretrained(model)
    except Exception as error:  # what a damaged checkpoint or an unreachable Hub raises depends on the damage
        name = "the embedded model" if model is None else f'model "{model}"'
        raise ValueError(f"{name} cannot be loaded: {first_line(error)}") from error
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(place)


def standardize_series(job, series):
    """Standardize and write the slices of one series, and add its entry to the report."""
    entry = {
        "uid": series.uid,
        "description": series.description,
        "slices": len(series.paths),
        "written": 0,
        "spacing_mm": series.spacing_mm,
        "thickness_mm": series.thickness_mm,
        "kernel_in": None,
        "kernel_out": None,
        "clipped_pixels": 0,
        "seconds_per_slice": None,
        "gaps": series.gaps,
        "duplicates": series.duplicates,
        "failures": [],
    }
    job.series.append(entry)
    shown = preview_indices(len(series.paths)) if job.preview else ()
    shown = {series.paths[i] for i in shown}
    begun = time.perf_counter()
    size = job.batch_size or ACCELERATOR_BATCH
    for start in range(0, len(series.paths), size):
        # 1. Read; a file that cannot be read costs nothing but itself.
        slices = []
        for path in series.paths[start : start + size]:
            with failures_listed(job, entry, [path]):
                slices += job.pipe.image_processor.load(path)
        # 2. Standardize those that go through the networks together, and write each.
        for batch in job.pipe.batches(slices, job.batch_size):
            inputs = [slices[i] for i in batch]
            with failures_listed(job, entry, [one.source.path for one in inputs]):
                results = standardize_slices(job, inputs)
                for one, (hu, seed) in zip(inputs, results):
                    with failures_listed(job, entry, [one.source.path]):
                        write_result(job, entry, one, hu, seed, one.source.path in shown)
            if job.stopped:
                return
        if entry["written"]:
            entry["seconds_per_slice"] = round((time.perf_counter() - begun) / entry["written"], 3)


@contextmanager
def failures_listed(job, entry, paths):
    """Whatever fails inside is entered in the report with the files that it concerns, and the run goes on."""
    try:
        yield
    except Exception as error:  # one bad file must not stop the rest, whatever is bad about it
        logger.debug("failed: %s", paths, exc_info=True)
        reason = str(error) if isinstance(error, (ValueError, OSError)) else f"{type(error).__name__}: {error}"
        entry["failures"] += [{"path": str(relative(path, job.source)), "reason": reason} for path in paths]
        job.count(len(paths))
        if any(isinstance(one, OSError) and one.errno in HOPELESS for one in (error, error.__cause__)):
            job.stopped = reason


@torch.no_grad()
def standardize_slices(job, slices):
    """Slices of one size -> list of (HU array, noise seed); what `DiffusionCTPipeline.__call__` does to a batch.

    The style of the reference and the hash of the weights are found once a run here, not once a call.
    """
    pipe = job.pipe
    seeds = pipe.noise_seeds(slices, generator_for(job.seed))
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    sample, spacing_mm = pipe.image_processor.preprocess(slices, pipe._execution_device)  # [B,1,H,W], [B]
    latent_a, skips = pipe.encode(sample, spacing_mm)  # [B,C,L]
    style = pipe.style_to_sample(latent_a, spacing_mm, job.reference_style)  # [B,C]
    latent_b = pipe.denoise(latent_a, style, job.num_inference_steps, generators)  # [B,C,L]
    standardized = pipe.decode(latent_b, skips, sample, spacing_mm)  # [B,1,H,W]
    return list(zip(pipe.image_processor.postprocess(standardized, slices), seeds))


def write_result(job, entry, one, hu, seed, show):
    """Write one derived slice, and its picture if asked for."""
    derived = job.pipe.derive(hu, one, seed, job.derivation)
    name = relative(one.source.path, job.source)
    write_slice(derived, job.output / name)
    entry["written"] += 1
    entry["clipped_pixels"] += derived.clipped_pixels
    if entry["kernel_in"] is None:
        entry["kernel_in"], entry["kernel_out"] = one.kernel, derived.ConvolutionKernel
    if show:
        picture = job.output / PREVIEW_FOLDER / f"{len(job.series):02d}_{str(name).replace(os.sep, '_')}.png"
        title = f"{name}   {one.kernel or 'unknown kernel'} to {derived.ConvolutionKernel}"
        write_whole(picture, preview_png(one.hu, hu, one.spacing_mm, title))
    job.count(1)


def make_report(job, scan, options, started, begun):
    """Everything about a run, as JSON values."""
    junk, failed = [], []
    for skipped in scan.skipped:
        item = {"path": str(relative(skipped.path, job.source)), "reason": skipped.reason}
        (junk if is_junk(skipped) else failed).append(item)
    written = sum(entry["written"] for entry in job.series)
    versions = {"python": platform.python_version(), "torch": torch.__version__, "diffusers": diffusers.__version__}
    return {
        "diffusionct_version": __version__,
        "versions": versions,
        "model_id": job.derivation["model_id"],
        "target": job.derivation["target_name"],
        "input": str(job.source),
        "output": str(job.output),
        "options": options,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds_to_load": round(begun - started, 2),
        "seconds": round(time.time() - started, 2),
        "slices": sum(len(series.paths) for series in scan.series),
        "written": written,
        "failures": sum(len(entry["failures"]) for entry in job.series) + len(failed),
        "stopped": job.stopped,
        "series": job.series,
        "unusable": failed,
        "skipped": junk,
    }


def is_junk(skipped):
    """Whether a file that the scan left out is none that should have been standardized."""
    reason = skipped.reason.removeprefix(f'"{skipped.path}" ')
    if reason.startswith(("is not a DICOM file", "is empty")):
        return skipped.path.suffix.lower() not in DICOM_SUFFIXES
    return reason.startswith(JUNK_REASONS)


def preview_indices(count):
    """Up to `PREVIEW_SLICES` of `count` slices, evenly spaced, the middle one among them."""
    return sorted({(i + 1) * count // (PREVIEW_SLICES + 1) for i in range(PREVIEW_SLICES)} & set(range(count)))


def generator_for(seed):
    """A generator of a seed.

    Raises:
        ValueError: naming the seed.
    """
    if not 0 <= seed < 2**63:
        raise ValueError(f"`seed` is {seed}; legal is an integer of 0 to 2^63 - 1.")
    return torch.Generator().manual_seed(seed)


def relative(path, source):
    """Path of a file below `source`; the name where `source` is the file."""
    return Path(path.name) if path == source else Path(os.path.relpath(path, source))


def first_line(error):
    """First line of an error's message, or its type."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
