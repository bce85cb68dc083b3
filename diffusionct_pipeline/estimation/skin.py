"""Measure the profile of the skin: median HU by distance from the body's outline, pooled over slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .edge import STEP_MM, body_edge, pixels_near, tilt

BIN_MM = 0.1
REACH = (-6.0, 5.0)  # mm, inside (skin and the tissue below it) and outside (air)
FEWEST_PIXELS = 20  # of a bin
FEWEST_BINS = 0.9  # share that must be filled, as a few mm of skin cross the pixel grid at too few phases
# By how much the surface may move within the slice's thickness; the larger limits apply only if there is too little skin. The
# fit includes the loss of transfer: 4, 14 and 36 % at 5 lp/cm.
LARGEST_SHIFTS_MM = (0.3, 0.6, 1.0)
SHIFT_BIN_MM = 0.02  # of the histogram of shifts


@dataclass(frozen=True)
class EdgeSlice:
    """Hold a slice whose skin is to be measured.

    Attributes:
        hu: (H, W) HU.
        spacing_mm: Side of a pixel.
        padding: (H, W) bool, or None.
        neighbour_hu: HU (H, W) of a neighbouring slice, None if there is none: then no skin counts as tilted.
        neighbour_mm: Distance of that slice.
    """

    hu: np.ndarray
    spacing_mm: float
    padding: np.ndarray | None = None
    neighbour_hu: np.ndarray | None = None
    neighbour_mm: float = 0.0


@dataclass(frozen=True, eq=False)
class SkinPixels:
    """Hold the pixels near the bare skin of one slice.

    Attributes:
        distance_mm, hu: (N,) distance from the outline, positive outside, and value.
        pixel_shift_mm: (N,) lateral shift of the surface within the slice's thickness at the nearest vertex.
        vertex_shift_mm: (V,) the same for every bare vertex, `STEP_MM` apart.
        tilt_seen: Whether a neighbouring slice showed the shifts; without one they are 0.
    """

    distance_mm: np.ndarray
    hu: np.ndarray
    pixel_shift_mm: np.ndarray
    vertex_shift_mm: np.ndarray
    tilt_seen: bool


@dataclass(frozen=True, eq=False)
class SkinProfile:
    """Hold the profile of the skin of a series.

    Attributes:
        offset_mm, hu, error_hu: (N,) centre of each bin, its median, and the standard error of the median.
        shifts_mm: (V,) shift of every vertex that was used.
        tilt_seen: Share of the vertices whose tilt a neighbouring slice showed.
    """

    offset_mm: np.ndarray
    hu: np.ndarray
    error_hu: np.ndarray
    shifts_mm: np.ndarray
    tilt_seen: float

    @property
    def length_mm(self) -> float:
        """Return the length of the skin that was used, over all slices."""
        return len(self.shifts_mm) * STEP_MM

    def tilt_transfer(self, frequency: np.ndarray) -> np.ndarray:
        """Return the transfer due to tilt, averaged over the skin; frequency in 1/mm."""
        bins = np.round(self.shifts_mm / SHIFT_BIN_MM).astype(int)
        share = np.bincount(bins) / len(bins)
        return np.sinc(np.outer(frequency, np.arange(len(share)) * SHIFT_BIN_MM)) @ share


def skin_pixels(item: EdgeSlice, thickness_mm: float) -> SkinPixels | None:
    """Collect the pixels near the bare skin of a slice; None if no bare skin is in view."""
    edge = body_edge(item.hu, item.spacing_mm, item.padding)
    if edge is None or not edge.bare.any():
        return None
    neighbour = None if item.neighbour_hu is None else body_edge(item.neighbour_hu, item.spacing_mm, outline_only=True)
    shift = np.zeros(len(edge.bare)) if neighbour is None else tilt(edge, neighbour, item.neighbour_mm) * thickness_mm
    chosen = edge.bare & (shift < LARGEST_SHIFTS_MM[-1])
    if not chosen.any():
        return None
    distance_mm, hu, nearest = pixels_near(item.hu, item.spacing_mm, edge, chosen)
    return SkinPixels(distance_mm, hu, shift[nearest], shift[chosen], neighbour is not None)


def pool_skin(parts: Sequence[SkinPixels]) -> SkinProfile | None:
    """Join the skin of slices to one profile, from the least tilted skin that fills it; None if too little is in view."""
    for largest in LARGEST_SHIFTS_MM:
        near = [(part, part.pixel_shift_mm < largest) for part in parts]
        if not any(chosen.any() for _, chosen in near):
            continue
        distance_mm = np.concatenate([part.distance_mm[chosen] for part, chosen in near])
        hu = np.concatenate([part.hu[chosen] for part, chosen in near])
        offset_mm, median, error = _median_by_distance(distance_mm, hu)
        if len(offset_mm) < FEWEST_BINS * (REACH[1] - REACH[0]) / BIN_MM:
            continue
        shifts = [part.vertex_shift_mm[part.vertex_shift_mm < largest] for part in parts]
        seen = sum(len(shift) for shift, part in zip(shifts, parts) if part.tilt_seen)
        pooled = np.concatenate(shifts)
        return SkinProfile(offset_mm, median, error, pooled, seen / len(pooled))
    return None


def _median_by_distance(distance_mm: np.ndarray, hu: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return centre, median and the median's standard error of every bin of distance with enough pixels."""
    edges = np.arange(REACH[0], REACH[1] + BIN_MM / 2, BIN_MM)
    place = np.searchsorted(edges, distance_mm, side="right") - 1
    order = np.lexsort((hu, place))  # by bin, then by HU: quantiles are entries
    ordered, starts = hu[order], np.searchsorted(place[order], np.arange(len(edges)))
    first, count = starts[:-1], np.diff(starts)
    filled = count >= FEWEST_PIXELS
    first, count = first[filled], count[filled]
    lower, median, upper = (ordered[first + (share * (count - 1)).round().astype(int)] for share in (0.16, 0.5, 0.84))
    # of a median of Gaussian noise: sqrt(pi / 2) times that of the mean
    return edges[:-1][filled] + BIN_MM / 2, median, 1.25 * (upper - lower) / 2 / np.sqrt(count)
