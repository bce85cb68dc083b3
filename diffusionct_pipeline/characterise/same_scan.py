"""Series of one acquisition under several kernels: pairs for training and testing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from scipy.ndimage import gaussian_filter

from ..dicom import CTSeries, DicomError, read_slice
from ..dicom.headers import header_numbers, header_value

SAME_MM = 0.05  # headers round positions to 2 or more decimals
FINE_MM, COARSE_MM = 1.2, 2.5  # noise band that soft and sharp kernels pass alike, about 1 to 2.5 lp/cm
BODY_HU = (-200.0, 200.0)  # soft tissue, where structures are faint against noise
SAME_NOISE = 0.65  # correlation: 0.85 for FC13 and FC51 of one scan, up to 0.55 for slices 3 mm apart, by anatomy
TIMES = ("AcquisitionDate", "AcquisitionTime")


@dataclass(frozen=True, eq=False)
class Acquisition:
    """Header values that identify the acquisition of a series.

    Attributes:
        frame: FrameOfReferenceUID, "" where there is none.
        origin: (2,) position of the first pixel within the plane of the slice in mm; None where unknown.
    """

    frame: str
    origin: np.ndarray | None

    @classmethod
    def of(cls, header: Dataset) -> Acquisition:
        """Read it from the header of a slice."""
        return cls(_text(header, "FrameOfReferenceUID"), _origin(header))


@dataclass(frozen=True)
class SameScan:
    """Two series of one acquisition.

    Attributes:
        first, second: Their indices, from 0.
        slices: Number of slices at the same positions.
        correlation: Of their noise in soft tissue, in a middle slice.
        kernels_differ: Whether they have different kernels; if not, one may be a second copy, or smoothed.
    """

    first: int
    second: int
    slices: int
    correlation: float
    kernels_differ: bool


def find_same_scans(
    series: Sequence[CTSeries], acquisitions: Sequence[Acquisition], kernels: Sequence[str]
) -> list[SameScan]:
    """Find pairs of series that show one acquisition on one grid.

    Two series are compared if their grids agree and their headers name the same frame of reference, or the same acquisition
    time for the same slice. They count as one acquisition if their noise correlates: by headers alone, a scan repeated
    without patient motion, or a second phase, would pass.

    Args:
        series: All series.
        acquisitions: Acquisition of each.
        kernels: Kernel name of each.
    """
    found = []
    for first in range(len(series)):
        for second in range(first + 1, len(series)):
            if not _same_origin(acquisitions[first], acquisitions[second]):
                continue
            matches = _matches(series[first], series[second])
            if not matches:
                continue
            try:
                one, two = (read_slice(path) for path in matches[len(matches) // 2])
                if not _may_be_one(acquisitions[first], acquisitions[second], one.dataset, two.dataset):
                    continue
                correlation = noise_correlation(one.hu, two.hu, one.spacing_mm)
            except DicomError:
                continue
            if correlation >= SAME_NOISE:
                differ = kernels[first] != kernels[second]
                found.append(SameScan(first, second, len(matches), correlation, differ))
    return found


def noise_correlation(first_hu: np.ndarray, second_hu: np.ndarray, spacing_mm: float) -> float:
    """Measure the correlation of two slices (H, W) of HU in soft tissue, in a band that all kernels pass; 0 without any."""
    bands = []
    for hu in (first_hu, second_hu):
        clipped = np.clip(hu, *BODY_HU)
        fine, coarse = (gaussian_filter(clipped, mm / spacing_mm / 2) for mm in (FINE_MM, COARSE_MM))
        bands.append(fine - coarse)
    smooth = gaussian_filter(first_hu, COARSE_MM / spacing_mm)
    inside = (smooth > BODY_HU[0] / 2) & (smooth < BODY_HU[1] / 2)
    if np.count_nonzero(inside) < 100:  # pixels: fewer are inconclusive
        return 0.0
    if not all(band[inside].std() > 0 for band in bands):
        return 0.0
    return float(np.corrcoef(bands[0][inside], bands[1][inside])[0, 1])


def _matches(one: CTSeries, two: CTSeries) -> list[tuple[Path, Path]]:
    """Return the paths of slices at the same position, if the pixels of both series have the same size."""
    if one.shape != two.shape or abs(one.spacing_mm - two.spacing_mm) > 1e-3 * one.spacing_mm:
        return []
    distance = np.abs(np.subtract.outer(one.positions_mm, two.positions_mm))
    nearest = distance.argmin(1)
    return [(one.paths[i], two.paths[j]) for i, j in enumerate(nearest) if distance[i, j] <= SAME_MM]


def _same_origin(one: Acquisition, two: Acquisition) -> bool:
    if one.origin is None or two.origin is None:
        return False
    return bool(np.abs(one.origin - two.origin).max() <= SAME_MM)


def _may_be_one(one: Acquisition, two: Acquisition, first: Dataset, second: Dataset) -> bool:
    if one.frame and one.frame == two.frame:
        return True
    times = [[_text(header, keyword) for keyword in TIMES] for header in (first, second)]
    return times[0] == times[1] and all(times[0])


def _origin(header: Dataset) -> np.ndarray | None:
    try:
        position = header_numbers(header, "ImagePositionPatient", "", 3)
        cosines = header_numbers(header, "ImageOrientationPatient", "", 6)
    except DicomError:
        return None
    if position is None or cosines is None:
        return None
    return np.reshape(cosines, (2, 3)) @ position


def _text(header: Dataset, keyword: str) -> str:
    try:
        return str(header_value(header, keyword, "") or "")
    except DicomError:
        return ""
