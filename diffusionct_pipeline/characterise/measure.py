"""One series -> everything that is measured of it, from a few of its slices."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..dicom import CTSeries, CTSlice, DicomError, read_slice
from ..estimation.noise import TissueNoise, measure_noise
from ..estimation.resolution import EdgeSlice, Resolution, measure_resolution
from ..evaluation.regions import spread
from ..image_processor import GRID, HUSlice, from_dicom
from ..pipeline import DiffusionCTPipeline
from .prior import Likeness, header_remarks, latent_remarks, likeness, seen_rings, slice_latents, step_to_standard
from .protocol import Protocol, read_protocol
from .same_scan import Acquisition

SLICES = 8  # evenly spread; with a neighbour each, 16 are read, so that long series take no longer than short ones
FARTHEST_NEIGHBOUR_MM = 12.0  # to tell how the skin is tilted; further away it bends
UNKNOWN_THICKNESS_MM = 1.0  # of the headers without one
SHARP_FROM_LP_CM = 4.9  # MTF50, between GE_STANDARD and D45 of kernels.json: soft tissue kernels are below


@dataclass(frozen=True, eq=False)
class MeasuredSeries:
    """What is known of one series.

    Attributes:
        series: Where it is.
        protocol: What its headers say.
        acquisition: What tells whether another series shows the same scan.
        measured: Slices that were measured.
        resolution: None where too little bare skin is in view.
        noise: By tissue; those that are not in view are left out.
        likeness: To the training of the checkpoint; None where its latents are no noise power.
        moved_db: Mean over frequency of how far the checkpoint moves the noise power on the way to its standard, dB.
        remarks: What no training scan had, and slices that could not be read.
        seconds: Time it took.
    """

    series: CTSeries
    protocol: Protocol
    acquisition: Acquisition
    measured: int
    resolution: Resolution | None
    noise: dict[str, TissueNoise]
    likeness: Likeness | None
    moved_db: float | None
    remarks: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def family(self) -> str:
        """"soft" or "sharp" by the measured resolution, "" where there is none."""
        if self.resolution is None:
            return ""
        return "sharp" if self.resolution.mtf50 >= SHARP_FROM_LP_CM else "soft"


def measure_series(series: CTSeries, pipe: DiffusionCTPipeline | None, slices: int = SLICES) -> MeasuredSeries:
    """Measure a series.

    Args:
        series: From `scan_folder`.
        pipe: A checkpoint with `has_texture_latent`; None leaves out the likeness to it.
        slices: How many slices to measure, at most.

    Raises:
        DicomError: None of the slices chosen can be read; the message is that of the last one.
    """
    started = time.perf_counter()
    chosen, failed = _chosen_slices(series, slices)
    if not chosen:
        raise DicomError(str(failed[-1]))
    headers = [item.source.dataset for _, item in chosen]
    where, moved_db, latents = None, None, []
    if pipe is not None:
        for _, item in chosen:
            encoded = pipe.encode_batch([item])
            latents += slice_latents(pipe, encoded.latent_a, encoded.shape[-1] // GRID)
        where = likeness(pipe, latents, series.spacing_mm)
        moved = step_to_standard(pipe, [item for _, item in chosen])
        moved_db = float(np.abs(moved[seen_rings(pipe, series.spacing_mm)[1]]).mean())
    remarks = header_remarks(headers[0], series.thickness_mm, series.spacing_mm)
    if where is not None:
        remarks += latent_remarks(where, len(latents))
    if failed:
        remarks.append(f"{len(failed)} of {len(failed) + len(chosen)} slices could not be read")
    return MeasuredSeries(
        series=series,
        protocol=read_protocol(headers, series.thickness_mm, series.step_mm, series.spacing_mm),
        acquisition=Acquisition.of(headers[len(headers) // 2]),
        measured=len(chosen),
        resolution=_resolution(series, chosen),
        noise=measure_noise([item.hu for _, item in chosen], series.spacing_mm, [item.padding for _, item in chosen]),
        likeness=where,
        moved_db=moved_db,
        remarks=remarks,
        seconds=time.perf_counter() - started,
    )


def _chosen_slices(series: CTSeries, slices: int) -> tuple[list[tuple[int, HUSlice]], list[Exception]]:
    """At most so many slices with their places in the series, and why others cannot be read."""
    failed, chosen = [], []
    for index in spread(range(len(series.paths)), slices):
        try:
            chosen.append((index, usable_slice(series, index)))
        except (DicomError, ValueError) as error:
            failed.append(error)
    return chosen, failed


def _resolution(series: CTSeries, chosen: Sequence[tuple[int, HUSlice]]) -> Resolution | None:
    if not chosen:
        return None
    floor_hu = min(float(item.hu[~item.padding].min(initial=np.inf)) for _, item in chosen)
    edges = [_edge_slice(series, index, item) for index, item in chosen]
    return measure_resolution(edges, series.thickness_mm or UNKNOWN_THICKNESS_MM, floor_hu)


def usable_slice(series: CTSeries, index: int) -> HUSlice:
    """A slice of a series, read and checked; errors as of `read_slice`."""
    return from_dicom(read_slice(series.paths[index]))


def _edge_slice(series: CTSeries, index: int, item: HUSlice) -> EdgeSlice:
    """A slice with its nearest neighbour, if there is one that can be read."""
    positions = np.array(series.positions_mm)
    distance = np.abs(positions - positions[index])
    distance[~(distance > 0)] = np.inf  # itself, second slices at its place, unknown places
    nearest = int(distance.argmin())
    neighbour: CTSlice | None = None
    if distance[nearest] <= FARTHEST_NEIGHBOUR_MM:
        try:
            neighbour = read_slice(series.paths[nearest])
        except DicomError:
            neighbour = None
    return EdgeSlice(
        hu=item.hu,
        spacing_mm=item.spacing_mm,
        padding=item.padding,
        neighbour_hu=None if neighbour is None else neighbour.hu,
        neighbour_mm=float(distance[nearest]),
    )
