"""Estimate each scan of a run once, the same in every later run, and check its results before they are named."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..dicom import CTSeries, DicomError, read_slice
from ..estimation import estimate_kernel_of_series, estimate_kernel_of_slices
from ..estimation.scan_estimate import ScanEstimate
from ..image_processor import HUSlice, from_dicom
from ..method.provenance import Derivation
from ..method.reached import Reached
from ..method.slices import checked_indices
from ..method.step import Step, Target
from ..pipeline import DiffusionCTPipeline
from ..utils.stages import stage
from .report import SeriesEntry
from .run import FolderRun

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class ScanTask:
    """Hold how the slices of a scan become results.

    Attributes:
        step: None for a system of the comparison, and for a denoiser whose target is fixed.
        derivation: What derived files say.
        trial: Place in the scan -> HU of the results that were made to be checked.
        warning: The first thing that was not reached, by what was measured, "" for none; it names no path and no patient.
    """

    step: Step | None
    derivation: Derivation
    trial: Mapping[int, np.ndarray]
    warning: str = ""


class Slices(Protocol):
    """Give the slices of a scan by index, from memory or from files."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> HUSlice: ...


class SeriesSlices:
    """Read each slice of a DICOM series when it is asked for."""

    def __init__(self, series: CTSeries):
        self.series = series

    def __len__(self) -> int:
        return len(self.series.paths)

    def __getitem__(self, index: int, /) -> HUSlice:
        """Read a slice.

        Raises:
            IndexError: beyond the last. DicomError, ValueError: if it cannot be read.
        """
        return from_dicom(read_slice(self.series.paths[index]))


def begin_scan(run: FolderRun, entry: SeriesEntry, slices: Slices, seed_of: Callable[[HUSlice], int]) -> ScanTask:
    """Estimate a scan, or take what an earlier run knows of it, and measure what some of its results show.

    Args:
        run: The run.
        entry: Of the scan; gets what is found.
        slices: All of it.
        seed_of: Slice -> seed of its noise.
    """
    if run.target is None:
        return ScanTask(None, run.derivation, {})
    pipe = run.pipe
    assert isinstance(pipe, DiffusionCTPipeline)  # nothing else has a target
    known = run.known.get(entry.uid)
    few: list[tuple[int, HUSlice]] = []
    if known is None or known.reached is None:
        stage("estimating kernel and noise of a series, and what results of it show")
        few = readable(slices)
        if not few:  # each is listed with its own reason as it is read for its result
            return ScanTask(None, run.derivation, {})
    source = known.source if known else estimate_scan(pipe, slices, [item for _, item in few], run.options.batch_size)
    step = pipe.step(source, run.target, run.options.noise)
    taken = run.options.num_inference_steps or pipe.recommended_steps(step)
    derivation = run.derivation.of_source(source, run.options.noise, taken)
    trial: dict[int, np.ndarray] = {}
    if known and known.reached and known.derivation == derivation.digest():
        reached = known.reached
    else:
        few = few or readable(slices)
        trial, reached = try_step(pipe, source, run.target, step, few, taken, seed_of)
    entry.source, entry.derivation, entry.reached = source.to_json(), derivation.digest(), reached.to_json()
    entry.told_by, entry.noise = source.told_by, step.noise
    not_reached = [*filter(None, [reached.remark]), *step.remarks]
    entry.remarks = [*not_reached, *entry.remarks]
    entry.missed = reached.is_missed
    return ScanTask(step, derivation.named(reached), trial, next(iter(not_reached), ""))


def estimate_scan(
    pipe: DiffusionCTPipeline, slices: Slices, few: Sequence[HUSlice], batch_size: int | None = None
) -> ScanEstimate:
    """Estimate a scan; of a DICOM series only as many slices are read as it takes.

    Args:
        pipe: Whose latents describe the texture.
        slices: All of it.
        few: Those that `readable` gives.
        batch_size: As of the pipeline.
    """
    kernel = (
        estimate_kernel_of_series(slices.series)
        if isinstance(slices, SeriesSlices)
        else estimate_kernel_of_slices([slices[i] for i in range(len(slices))])
    )
    return ScanEstimate(kernel, pipe.scan_tokens(few, batch_size))


def try_step(
    pipe: DiffusionCTPipeline,
    source: ScanEstimate,
    target: Target,
    step: Step,
    few: Sequence[tuple[int, HUSlice]],
    num_inference_steps: int | None,
    seed_of: Callable[[HUSlice], int],
) -> tuple[dict[int, np.ndarray], Reached]:
    """Standardize a few slices of a scan and measure what they show, before results are named after the target.

    Args:
        pipe: The pipeline.
        source, target, step: The scan, where to, and what `pipe.step` gave for these.
        few: Slices with their places in the scan.
        num_inference_steps: Denoising steps; None leaves them to the pipeline.
        seed_of: Slice -> seed of its noise.

    Returns:
        HU of the results by place in the scan, and what they reach.
    """
    results = {
        index: pipe.standardize_batch([item], [seed_of(item)], num_inference_steps, step)[0] for index, item in few
    }
    return results, pipe.check(source, target, [item for _, item in few], list(results.values()))


def readable(slices: Slices) -> list[tuple[int, HUSlice]]:
    """Read the slices of a scan that are to be checked, or any other if none of them can be read; return them with their indices."""
    chosen = checked_indices(len(slices))
    found: list[tuple[int, HUSlice]] = []
    for index in [*chosen, *sorted(set(range(len(slices))) - set(chosen))]:
        if found and index not in chosen:
            break
        try:
            found.append((index, slices[index]))
        except (DicomError, ValueError):
            logger.debug("left out of the check: slice %d", index, exc_info=True)
    return found
