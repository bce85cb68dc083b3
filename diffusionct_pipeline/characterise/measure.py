"""Measure everything about one series, from the slices and with the functions that `standardize` uses."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from ..dicom import CTSeries, CTSlice, DicomError, read_slice
from ..dicom.protocol import Protocol, read_protocol
from ..estimation import KernelEstimate, estimate_kernel_of_series
from ..estimation.noise import TissueNoise, measure_noise
from ..estimation.scan_estimate import ScanEstimate
from ..image_processor import GRID, HUSlice, from_dicom
from ..method.reached import Reached
from ..method.step import Target
from ..metrics.regions import spread
from ..pipeline import DiffusionCTPipeline
from ..standardize.likeness import Likeness, header_remarks, latent_remarks, likeness, slice_latents
from ..standardize.scans import SeriesSlices, estimate_scan, readable, try_step
from .same_scan import Acquisition

SLICES = 8  # evenly spaced slices whose noise spectra are measured; the estimate and the trial choose their own
SHARP_FROM_LP_CM = 4.9  # MTF50 between GE_STANDARD and D45 of kernels.json; soft tissue kernels are below


@dataclass(frozen=True, eq=False)
class Trial:
    """Result of `standardize` on a series by default: to the checkpoint's standard, with the dose kept.

    Attributes:
        source: Estimate of the series.
        reached: What the results show.
        remarks: What was not reached, a sentence each, most serious first.
    """

    source: ScanEstimate
    reached: Reached
    remarks: list[str]


@dataclass(frozen=True, eq=False)
class MeasuredSeries:
    """Everything that is known about one series.

    Attributes:
        series: The series itself.
        protocol: What its headers say.
        acquisition: What identifies its acquisition.
        measured: Number of slices whose spectra were measured.
        kernel: Its kernel and noise as `standardize` estimates them; None where they cannot be estimated.
        noise: Spectra by tissue; tissues that are not in view are left out.
        likeness: To the training of the checkpoint; None where its latents are not noise power.
        trial: Result of the trial; None likewise.
        remarks: What no training scan had, and slices that could not be read.
        seconds: Duration of the measurement.
    """

    series: CTSeries
    protocol: Protocol
    acquisition: Acquisition
    measured: int
    kernel: KernelEstimate | None
    noise: dict[str, TissueNoise]
    likeness: Likeness | None = None
    trial: Trial | None = None
    remarks: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def mtf50(self) -> float | None:
        """Measured MTF50 in lp/cm; None where it is unknown."""
        return None if self.kernel is None else self.kernel.mtf50

    @property
    def noise_hu(self) -> dict[str, float]:
        """Noise by tissue in HU, from the estimate where it covers that tissue."""
        estimated = {} if self.kernel is None else self.kernel.noise_hu
        return {tissue: noise.noise_hu for tissue, noise in self.noise.items()} | dict(estimated)

    @property
    def family(self) -> str:
        """ "soft" or "sharp" by the measured resolution; "" where it is unknown."""
        if self.mtf50 is None:
            return ""
        return "sharp" if self.mtf50 >= SHARP_FROM_LP_CM else "soft"


def measure_series(
    series: CTSeries, pipe: DiffusionCTPipeline | None = None, target: Target | None = None, slices: int = SLICES
) -> MeasuredSeries:
    """Measure a series.

    Args:
        series: From `scan_folder`.
        pipe: A checkpoint with `has_texture_latent`; None leaves out the likeness to it and the trial.
        target: Its standard, from `pipe.resolve_target()`; None leaves out the trial.
        slices: Maximum number of slices whose spectra are measured.

    Raises:
        DicomError: if none of the chosen slices can be read, with the message of the last one.
    """
    started = time.perf_counter()
    chosen, failed = _chosen_slices(series, slices)
    if not chosen:
        raise DicomError(str(failed[-1]))
    headers = [source.dataset for source, _ in chosen]
    items = [item for _, item in chosen]
    remarks = header_remarks(headers[0], series.thickness_mm, series.spacing_mm)
    where = trial = None
    if pipe is not None:
        latents = []
        for item in items:
            encoded = pipe.encode_batch([item])
            latents += slice_latents(pipe, encoded.latent_a, encoded.shape[-1] // GRID)
        where = likeness(pipe, latents, series.spacing_mm)
        remarks += latent_remarks(where, len(latents))
        if target is not None:
            trial = _try(series, pipe, target)
    if failed:
        remarks.append(f"{len(failed)} of {len(failed) + len(chosen)} slices could not be read")
    return MeasuredSeries(
        series=series,
        protocol=read_protocol(headers, series.thickness_mm, series.step_mm, series.spacing_mm),
        acquisition=Acquisition.of(headers[len(headers) // 2]),
        measured=len(chosen),
        kernel=estimate_kernel_of_series(series) if trial is None else trial.source.kernel,
        noise=measure_noise([item.hu for item in items], series.spacing_mm, [item.padding for item in items]),
        likeness=where,
        trial=trial,
        remarks=remarks,
        seconds=time.perf_counter() - started,
    )


def _try(series: CTSeries, pipe: DiffusionCTPipeline, target: Target) -> Trial:
    """Standardize a few slices and measure them, as `standardize` does before it names results."""
    slices = SeriesSlices(series)
    few = readable(slices)
    source = estimate_scan(pipe, slices, [item for _, item in few])
    step = pipe.step(source, target)
    _, reached = try_step(pipe, source, target, step, few, None, lambda item: pipe.noise_seeds([item])[0])
    return Trial(source, reached, [*filter(None, [reached.remark]), *step.remarks])


def _chosen_slices(series: CTSeries, slices: int) -> tuple[list[tuple[CTSlice, HUSlice]], list[Exception]]:
    """Read at most `slices` evenly spaced slices; return them, and the errors of those that cannot be read."""
    failed: list[Exception] = []
    chosen = []
    for path in spread(series.paths, slices):
        try:
            source = read_slice(path)
            chosen.append((source, from_dicom(source)))
        except (DicomError, ValueError) as error:
            failed.append(error)
    return chosen, failed
