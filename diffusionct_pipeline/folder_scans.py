"""Each scan of a run over a folder: estimated once, the same in every later run, and its results checked before they are named."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from . import __version__
from .dicom import CTSeries, DicomError, read_slice
from .estimation import estimate_kernel_of_series, estimate_kernel_of_slices
from .image_processor import HUSlice, from_dicom
from .pipeline import DiffusionCTPipeline, checked_indices
from .provenance import Derivation
from .reached import Reached
from .run_report import REPORT_FILE
from .scan_estimate import ScanEstimate
from .step import Step, Target

if TYPE_CHECKING:
    from .folder_job import Job
    from .run_report import SeriesEntry

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class KnownScan:
    """What an earlier run says of a scan.

    Attributes:
        source: As it was estimated.
        derivation: What its results were made with, hashed.
        reached: What they showed; None where that was not measured.
    """

    source: ScanEstimate
    derivation: str
    reached: Reached | None


@dataclass(frozen=True, eq=False)
class ScanTask:
    """How the slices of the present scan become results.

    Attributes:
        step: None for a system of the comparison, and for a denoiser whose target is fixed.
        derivation: What derived files say.
        trial: Place in the scan -> HU of the results that were made to be checked.
    """

    step: Step | None
    derivation: Derivation
    trial: Mapping[int, np.ndarray]


class SeriesSlices(Sequence):
    """The slices of a DICOM series, each read when it is asked for."""

    def __init__(self, series: CTSeries):
        self.series = series

    def __len__(self) -> int:
        return len(self.series.paths)

    def __getitem__(self, index: int) -> HUSlice:
        """Read a slice.

        Raises:
            IndexError: beyond the last. DicomError, ValueError: if it cannot be read.
        """
        return from_dicom(read_slice(self.series.paths[index]))


def known_scans(path: Path) -> dict[str, KnownScan]:
    """Read what a report of an earlier run says of its scans, by their UIDs; nothing where it cannot be read.

    Reports of other versions of the package do not count, whose estimates might differ.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        if report["diffusionct_version"] != __version__:
            return {}
        known = {}
        for entry in report["series"]:
            if entry.get("source"):
                reached = entry["reached"] and Reached.from_json(entry["reached"])
                known[entry["uid"]] = KnownScan(ScanEstimate.from_json(entry["source"]), entry["derivation"], reached)
        return known
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def given_scans(path: Path | None) -> dict[str, KnownScan]:
    """Read the report that the user gave as `source`.

    Raises:
        ValueError: if it holds no scan.
    """
    if path is None:
        return {}
    known = known_scans(path)
    if not known:
        raise ValueError(f'`source` must be a {REPORT_FILE} of this version that describes scans, got "{path}".')
    return known


def begin_scan(job: Job, entry: SeriesEntry, slices: Sequence[HUSlice], seed_of: Callable[[HUSlice], int]) -> ScanTask:
    """Estimate a scan, or take what an earlier run knows of it, and measure what some of its results show.

    Args:
        job: The run.
        entry: Of the scan; gets what is found.
        slices: All of it.
        seed_of: Slice -> seed of its noise.
    """
    if job.target is None:
        return ScanTask(None, job.derivation, {})
    known = job.known.get(entry.uid)
    few = readable(slices, checked_indices(len(slices))) if known is None or known.reached is None else []
    source = known.source if known else estimate_scan(job.pipe, slices, [item for _, item in few], job.options.batch_size)
    step = job.pipe.step(source, job.target, job.options.noise)
    derivation = job.derivation.of_source(source, job.options.noise)
    trial: dict[int, np.ndarray] = {}
    if known and known.reached and known.derivation == derivation.digest():
        reached = known.reached
    else:
        few = few or readable(slices, checked_indices(len(slices)))
        trial, reached = try_step(job.pipe, source, job.target, step, few, job.options.num_inference_steps, seed_of)
    entry.source, entry.derivation, entry.reached = source.to_json(), derivation.digest(), reached.to_json()
    entry.told_by, entry.noise = source.told_by, step.noise
    entry.remarks = [*filter(None, [reached.remark]), *step.remarks]
    entry.missed = reached.is_missed
    return ScanTask(step, derivation.named(reached), trial)


def estimate_scan(
    pipe: DiffusionCTPipeline, slices: Sequence[HUSlice], few: Sequence[HUSlice], batch_size: int | None = None
) -> ScanEstimate:
    """Estimate a scan; of a DICOM series only as many slices are read as it takes.

    Args:
        pipe: Whose latents describe the texture.
        slices: All of it.
        few: Those of `checked_indices`.
        batch_size: As of the pipeline.
    """
    if isinstance(slices, SeriesSlices):
        kernel = estimate_kernel_of_series(slices.series)
    else:
        kernel = estimate_kernel_of_slices(slices)
    return ScanEstimate(kernel, pipe.scan_tokens(few, batch_size))


def try_step(
    pipe: DiffusionCTPipeline,
    source: ScanEstimate,
    target: Target,
    step: Step,
    few: Sequence[tuple[int, HUSlice]],
    num_inference_steps: int,
    seed_of: Callable[[HUSlice], int],
) -> tuple[dict[int, np.ndarray], Reached]:
    """Standardize a few slices of a scan and measure what they show, before results are named after the target.

    Args:
        pipe: The pipeline.
        source, target, step: The scan, where to, and what `pipe.step` gave for these.
        few: Slices with their places in the scan.
        num_inference_steps: Denoising steps.
        seed_of: Slice -> seed of its noise.

    Returns:
        HU of the results by place in the scan, and what they reach.
    """
    results = {
        index: pipe.standardize_batch([item], [seed_of(item)], num_inference_steps, step)[0] for index, item in few
    }
    return results, pipe.check(source, target, [item for _, item in few], list(results.values()))


def readable(slices: Sequence[HUSlice], indices: Sequence[int]) -> list[tuple[int, HUSlice]]:
    """Those of some slices that can be read, with their indices."""
    found = []
    for index in indices:
        try:
            found.append((index, slices[index]))
        except (DicomError, ValueError):
            logger.debug("left out of the check: slice %d", index, exc_info=True)
    return found
