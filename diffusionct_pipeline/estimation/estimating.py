"""Estimate the kernel of a series from its slices: collect skin and noise, fit, and continue until the estimate is certain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..dicom import CTSeries, DicomError, read_slice
from ..image_processor import HUSlice, from_dicom
from ..metrics.regions import spread
from ..physics.scan_noise import scan_position
from .kernel_estimate import KernelEstimate
from .kernel_fit import TISSUES, WIDTH_MM, fit_kernel
from .law import whitening_of
from .multistart import Fit
from .noise import TissueNoise, find_squares, noise_of_squares
from .skin import EdgeSlice, SkinPixels, SkinProfile, pool_skin, skin_pixels
from .witnesses import LogMTFWitness, header_witness

FIRST_SLICES, MOST_SLICES = 4, 16
# Of 16 evenly spread slices: the first four are evenly spread, too, and so are the first eight.
READING_ORDER = ((2, 6, 9, 13), (0, 4, 11, 15), (1, 3, 5, 7, 8, 10, 12, 14))
SURE = 0.12  # standard deviation of the level, 2 log T, at which no more slices are read
UNSURE = 0.2  # the same, above which the header is used, too
FARTHEST_NEIGHBOUR_MM = 12.0  # for the tilt of the skin, which bends over larger distances
UNKNOWN_THICKNESS_MM = 1.0
COARSEST_MM = 1.6  # of pixels whose noise shows the kernel
AGREEMENT = 2.0  # standard deviations; witnesses that disagree more widen the interval


def estimate_kernel(
    slices: Sequence[EdgeSlice],
    thickness_mm: float,
    floor_hu: float,
    header_kernel: str = "",
    witnesses: Sequence[LogMTFWitness] = (),
) -> KernelEstimate | None:
    """Estimate the kernel of a series from some of its slices.

    Args:
        slices: Slices of one series; a neighbour of each shows how the skin is tilted.
        thickness_mm: Slice thickness.
        floor_hu: Lowest HU that the files can hold.
        header_kernel: Name of the kernel in the header, a further witness if it is known and the slices leave the kernel
            uncertain; "" for none.
        witnesses: Further witnesses.

    Returns:
        The estimate, or None if there is no evidence: no slice, or no skin, no tissue and no further witness.
    """
    evidence = Evidence(thickness_mm, floor_hu)
    for item in slices:
        evidence.add(item)
    return evidence.estimate(header_kernel, witnesses)


def estimate_kernel_of_slices(
    slices: Sequence[HUSlice],
    header_kernel: str | None = None,
    witnesses: Sequence[LogMTFWitness] = (),
    most_slices: int = MOST_SLICES,
) -> KernelEstimate | None:
    """Estimate the kernel of slices in memory: files, volumes and arrays alike.

    Args:
        slices: Slices of one series, any number; as many as needed are used, evenly spread.
        header_kernel: As in `estimate_kernel`; None takes it from the slices.
        witnesses: Further witnesses.
        most_slices: Largest number of slices to use, at most 16.

    Raises:
        ValueError: if there is no slice, or their pixels differ in size.
    """
    if not slices:
        raise ValueError("`slices` must hold at least one slice, got none")
    sizes = sorted({item.spacing_mm for item in slices})
    if sizes[-1] > sizes[0] * 1.001:
        raise ValueError(f"`slices` must have pixels of one size, got {sizes[0]} to {sizes[-1]} mm")
    positions_mm = [item.position_mm for item in slices]
    return _until_sure(positions_mm, lambda index: slices[index], header_kernel, witnesses, most_slices)


def estimate_kernel_of_series(
    series: CTSeries,
    header_kernel: str | None = None,
    witnesses: Sequence[LogMTFWitness] = (),
    most_slices: int = MOST_SLICES,
) -> KernelEstimate | None:
    """Estimate the kernel of a series of DICOM files, of which only as many are read as needed.

    Slices that cannot be read are left out. Arguments and result are those of `estimate_kernel_of_slices`, bit for bit.
    """

    def read(index: int) -> HUSlice | None:
        try:
            return from_dicom(read_slice(series.paths[index]))
        except (DicomError, ValueError):
            return None

    positions_mm = [scan_position(place) for place in series.positions_mm]
    return _until_sure(positions_mm, read, header_kernel, witnesses, most_slices)


def _until_sure(
    positions_mm: Sequence[float],
    read: Callable[[int], HUSlice | None],
    header_kernel: str | None,
    witnesses: Sequence[LogMTFWitness],
    most_slices: int,
) -> KernelEstimate | None:
    """Add slices until the level is known well enough."""
    places, evidence, estimate = np.array(positions_mm, float), None, None
    for indices in _batches(len(places), most_slices):
        for index in indices:
            item = read(index)
            if item is None:
                continue
            if evidence is None:
                evidence = Evidence(item.thickness_mm or UNKNOWN_THICKNESS_MM)
                header_kernel = item.kernel if header_kernel is None else header_kernel
            neighbour, distance_mm = _nearest(places, index)
            beside = None if neighbour is None else read(neighbour)
            evidence.add(
                EdgeSlice(item.hu, item.spacing_mm, item.padding, None if beside is None else beside.hu, distance_mm)
            )
        if evidence is not None:
            estimate = evidence.estimate(header_kernel or "", witnesses)
            if estimate is not None and estimate.level_deviation <= SURE:
                break
    return estimate


def _batches(count: int, most: int) -> list[list[int]]:
    """Return indices of slices in the order of reading, none twice."""
    most = min(count, most, MOST_SLICES)
    if most < MOST_SLICES:
        few = spread(range(count), most)
        return [few] if most <= FIRST_SLICES else [few[::2], few[1::2]]
    spots = spread(range(count), MOST_SLICES)
    return [[spots[place] for place in batch] for batch in READING_ORDER]


def _nearest(places: np.ndarray, index: int) -> tuple[int | None, float]:
    """Return the index of the nearest other slice and its distance in mm, or None if it is too far or not known."""
    distance = np.abs(places - places[index])
    distance[~(distance > 0)] = np.inf  # itself, other slices at its position, unknown positions
    nearest = int(distance.argmin())
    if distance[nearest] > FARTHEST_NEIGHBOUR_MM:
        return None, 0.0
    return nearest, float(distance[nearest])


@dataclass(eq=False)
class Evidence:
    """Collect the evidence of slices, each of which is searched once."""

    thickness_mm: float
    floor_hu: float | None = None  # None: the lowest HU seen
    slices: list[np.ndarray] = field(default_factory=list)
    squares: list[dict[str, list[tuple[int, int]]]] = field(default_factory=list)
    skin: list[SkinPixels] = field(default_factory=list)
    lowest_hu: float = np.inf
    spacing_mm: float = 0.0

    def add(self, item: EdgeSlice) -> None:
        """Search one more slice."""
        self.spacing_mm = item.spacing_mm
        self.slices.append(item.hu)
        self.squares.append(find_squares(item.hu, item.spacing_mm, item.padding, TISSUES))
        found = skin_pixels(item, self.thickness_mm)
        if found is not None:
            self.skin.append(found)
        measured = item.hu if item.padding is None else item.hu[~item.padding]
        self.lowest_hu = min(self.lowest_hu, float(measured.min(initial=np.inf)))

    def estimate(self, header_kernel: str, witnesses: Sequence[LogMTFWitness]) -> KernelEstimate | None:
        """Fit the evidence; None if there is none. The header is used if the slices leave the kernel uncertain."""
        if not self.slices:
            return None
        skin, noise = pool_skin(self.skin), {}
        if self.spacing_mm < COARSEST_MM:
            noise = noise_of_squares(self.slices, self.squares, self.spacing_mm)
        found, named = self._fit(skin, noise, witnesses), header_witness(header_kernel)
        if named is not None and (found is None or found.level_deviation > UNSURE):
            return self._fit(skin, noise, [*witnesses, named])
        return found

    def _fit(
        self, skin: SkinProfile | None, noise: dict[str, TissueNoise], witnesses: Sequence[LogMTFWitness]
    ) -> KernelEstimate | None:
        if skin is None and not noise and not witnesses:
            return None
        floor_hu = self.lowest_hu if self.floor_hu is None else self.floor_hu
        fit = fit_kernel(skin, noise, witnesses, self.spacing_mm, floor_hu, self.thickness_mm)
        return self._as_estimate(fit, skin, noise, [witness.name for witness in witnesses])

    def _as_estimate(
        self, fit: Fit, skin: SkinProfile | None, noise: dict[str, TissueNoise], others: Sequence[str]
    ) -> KernelEstimate:
        values, blur = fit.values, ("width", "bound")
        mtf50 = values["mtf50"]
        # From MTF50, ratio, boost and relative peak to the parameters of the law.
        slopes = np.array([[1, 0, 0, 0], [values["ratio"], mtf50, 0, 0], [0, 0, 1, 0], [values["peak"], 0, 0, mtf50]])
        covariance = slopes @ fit.covariance_of(["mtf50", "ratio", "boost", "peak"]) @ slopes.T
        disagreement = _disagreement(values) if skin is not None and noise else 0.0
        covariance = covariance * max(disagreement / AGREEMENT, 1.0) ** 2
        at = np.array([values[name] for name in blur])
        steps = np.diag([1e-4, 1e-4])
        by_blur = np.array([(whitening_of(*(at + step)) - whitening_of(*at)) / 1e-4 for step in steps])
        densities = [values[f"{name} density"] for name in TISSUES if name in noise]
        tails = [noise[name].tails for name in TISSUES if name in noise]
        return KernelEstimate(
            mtf50=mtf50,
            mtf10=mtf50 * values["ratio"],
            boost=values["boost"],
            boost_peak=mtf50 * values["peak"],
            covariance=tuple(tuple(row) for row in covariance.tolist()),
            blur_width_mm=values["width"],
            blur_log_bound=values["bound"],
            whitening=float(whitening_of(*at)),
            whitening_deviation=float(np.sqrt(by_blur @ fit.covariance_of(blur) @ by_blur)),
            noise_hu={name: measured.noise_hu for name, measured in noise.items()},
            noise_log_density=densities[0] if densities else None,
            witnesses=(*["skin"] * (skin is not None), *["noise"] * bool(noise), *others),
            slices=len(self.slices),
            skin_mm=0.0 if skin is None else skin.length_mm,
            spacing_mm=self.spacing_mm,
            thickness_mm=self.thickness_mm,
            disagreement=disagreement,
            tails=min(tails) if tails else None,
        )


def _disagreement(values: dict[str, float]) -> float:
    """Return by how many standard deviations the skin is softer than the noise implies.

    To reconcile both, the fit uses a wider blur than scanners have. Skin that is sharper than noise does not indicate an
    error: iterative and deep-learning reconstruction have such noise.
    """
    centre, scale, _ = WIDTH_MM
    return max((values["width"] - centre) / scale, 0.0)
