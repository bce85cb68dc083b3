"""Describe the voxel grid of a series in the patient, and match it between series, or a series and a mask."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np

from ..dicom import CTSeries, DicomError, scan_folder
from ..dicom.folders import STEP_TOLERANCE
from ..dicom.headers import header_texts, header_value
from ..dicom.reading import SliceHeader, read_dataset

Spacing: TypeAlias = tuple[float, float, float]  # mm from slice to slice, row to row, column to column

SAME_VOXEL = 0.1  # of a voxel's side: headers round to 2 digits or more, another grid is off by half a voxel on average
MAX_STEP_THICKNESSES = 2.0  # slices farther apart, in slice thicknesses, are separate images, not a volume


@dataclass(frozen=True, eq=False)
class Geometry:
    """Describe the voxel grid of a stack of slices, in DICOM patient coordinates (mm; x to left, y to posterior, z to head).

    Attributes:
        shape: (slices, rows, columns).
        spacing_mm: Side of a pixel.
        directions: (3, 3) unit vectors: the slice normal, down a column, along a row.
        origins_mm: (slices, 3) centre of the first pixel of each slice, by ascending position along the normal.
        thickness_mm: Slice thickness, None where unknown.
        frames_of_reference: FrameOfReferenceUIDs of these coordinates.
    """

    shape: tuple[int, int, int]
    spacing_mm: float
    directions: np.ndarray
    origins_mm: np.ndarray
    thickness_mm: float | None = None
    frames_of_reference: frozenset[str] = frozenset()

    @property
    def positions_mm(self) -> np.ndarray:
        """Return positions (slices,) along the normal."""
        return self.origins_mm @ self.directions[0]

    @property
    def voxel_mm(self) -> Spacing:
        """Return the median distance between slices, and those of rows and columns; for one slice its thickness or spacing."""
        steps = np.diff(self.positions_mm)
        step = float(np.median(steps)) if len(steps) else self.thickness_mm or self.spacing_mm
        return step, self.spacing_mm, self.spacing_mm

    @property
    def tolerance_mm(self) -> float:
        """Return the distance up to which two voxels count as the same."""
        steps = np.diff(self.positions_mm)
        return SAME_VOXEL * min([self.spacing_mm, *steps[steps > 0]])

    def corners_mm(self) -> np.ndarray:
        """Return the centres (slices, 4, 3) of the corner pixels of each slice."""
        _, rows, columns = self.shape
        down = (rows - 1) * self.spacing_mm * self.directions[1]
        along = (columns - 1) * self.spacing_mm * self.directions[2]
        return self.origins_mm[:, None] + np.stack([0 * down, along, down, down + along])

    def contiguous(self) -> list[slice]:
        """Return runs of slices that form a volume: neighbours at the usual distance, not too far apart for their thickness."""
        steps = np.diff(self.positions_mm)
        if len(steps) == 0:
            return [slice(0, 1)]
        usual = np.median(steps)
        broken = np.abs(steps - usual) > STEP_TOLERANCE * usual
        if self.thickness_mm:
            broken |= steps > MAX_STEP_THICKNESSES * self.thickness_mm
        edges = [0, *(np.flatnonzero(broken) + 1), self.shape[0]]
        return [slice(int(a), int(b)) for a, b in zip(edges, edges[1:])]

    def __str__(self) -> str:
        count, rows, columns = self.shape
        step = ""
        if count > 1:
            steps = np.diff(self.positions_mm)
            low, high = steps.min(), steps.max()
            step = f" {low:.4g} mm apart" if np.isclose(low, high, rtol=1e-2) else f" {low:.4g} to {high:.4g} mm apart"
        first, last = (", ".join(f"{value:.2f}" for value in self.origins_mm[i]) for i in (0, -1))
        at = f"at ({first})" if count == 1 else f"from ({first}) to ({last})"
        axes = " ".join("(" + ", ".join(f"{value:.3g}" for value in axis + 0.0) + ")" for axis in self.directions[1:])
        return (
            f"{count} slice{'s' * (count > 1)}{step}, {rows} x {columns} pixels of {self.spacing_mm:.4g} mm, "
            f"first pixel {at} mm, axes {axes}"
        )


@dataclass(frozen=True, eq=False)
class Series:
    """Hold one CT series of a folder: its files by ascending position, and their geometry.

    Attributes:
        folder: The folder.
        paths: The files.
        geometry: Geometry of all slices.
        kernel: ConvolutionKernel of the first slice, "" where there is none.
        remarks: What was left out, for the reader of a report.
    """

    folder: Path
    paths: list[Path]
    geometry: Geometry
    kernel: str
    remarks: list[str] = field(default_factory=list)


def find_series(folder: str | os.PathLike) -> Series:
    """Find the only CT series of a folder, reading headers only.

    Raises:
        DicomError: if there is no series or several, and as in `series_with_geometry`.
    """
    return series_with_geometry(scan_folder(folder).require_one_series(), folder)


def series_with_geometry(series: CTSeries, folder: str | os.PathLike) -> Series:
    """Return a series of a folder with its geometry, reading headers only.

    Raises:
        DicomError: for slices that share a position, or headers without position or orientation.
    """
    if series.duplicates:
        raise DicomError(f'"{folder}" cannot be compared slice by slice: {series.duplicates[0]}')
    geometry, first = series_geometry(series), read_dataset(series.paths[0], header_only=True)
    kernel = "/".join(header_texts(first, "ConvolutionKernel", SliceHeader.of(first, series.paths[0]).name))
    return Series(Path(folder), series.paths, geometry, kernel, list(series.gaps))


def series_geometry(series: CTSeries) -> Geometry:
    """Return the geometry of a series, reading headers only.

    Raises:
        DicomError: for slices that share a position, or headers without position or orientation.
    """
    if series.duplicates:
        raise DicomError(f"These slices do not form a volume: {series.duplicates[0]}")
    datasets = [read_dataset(path, header_only=True) for path in series.paths]
    headers = [SliceHeader.of(dataset, path) for dataset, path in zip(datasets, series.paths)]
    orientations: list[np.ndarray] = []
    origins: list[np.ndarray] = []
    for header in headers:
        if header.position is None or header.orientation is None:
            raise DicomError(
                f"{header.name} has no ImagePositionPatient or ImageOrientationPatient; the position of its pixels "
                "in the patient is needed."
            )
        orientations.append(header.orientation)
        origins.append(header.position)
    frames = [header_value(d, "FrameOfReferenceUID", header.name) for d, header in zip(datasets, headers)]
    along, down = np.reshape(orientations[0], (2, 3))
    return Geometry(
        (len(headers), *series.shape),
        series.spacing_mm,
        np.stack([np.cross(along, down), down, along]),
        np.stack(origins),
        series.thickness_mm,
        frozenset(str(frame) for frame in frames if frame),
    )


def match_slices(geometry: Geometry, other: Geometry) -> np.ndarray:
    """Return the index in `other` of each slice of `geometry`, -1 where there is none at that position; (slices,) int.

    Raises:
        ValueError: with both geometries, if the pixels of the slices do not coincide, or no slice has a counterpart.
    """
    both = f"\n  one:   {geometry}\n  other: {other}"
    if geometry.shape[1:] != other.shape[1:]:
        raise ValueError(f"the geometries differ in the number of rows and columns:{both}")
    distance = np.abs(geometry.positions_mm[:, None] - other.origins_mm @ geometry.directions[0])
    nearest = distance.argmin(1)
    matched = distance[np.arange(len(nearest)), nearest] <= geometry.tolerance_mm
    if not matched.any():
        raise ValueError(f"the geometries share no slice position (within {geometry.tolerance_mm:.2g} mm):{both}")
    apart = np.linalg.norm(geometry.corners_mm()[matched] - other.corners_mm()[nearest[matched]], axis=-1).max()
    if apart > 2 * geometry.tolerance_mm:  # along the normal and within the plane
        raise ValueError(f"the geometries differ by up to {apart:.3g} mm within slices at the same position:{both}")
    return np.where(matched, nearest, -1)
