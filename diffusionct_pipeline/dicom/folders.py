"""A folder of DICOM files -> its CT series in anatomical order, everything else set aside with a reason."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .errors import DicomError, SkippedKind
from .reading import SQUARE_TOLERANCE, CTSlice, SliceHeader, read_dataset, read_slice

logger = logging.getLogger(__name__)

DIRECTION_TOLERANCE = 1e-3  # of a direction cosine: 0.06 degrees, headers round to 4 to 6 digits
STEP_TOLERANCE = 0.1  # relative; helical series jitter by a few percent of their step
SAME_POSITION_MM = 0.01  # headers round positions to 2 or more digits


@dataclass(frozen=True)
class CTSeries:
    """The slices of one series that can be read, in order along the slice normal.

    Attributes:
        uid: SeriesInstanceUID, "" where the headers have none.
        description: SeriesDescription, "" where there is none.
        paths: Files, by ascending position.
        positions_mm: Position of each file, as in `CTSlice.position_mm`.
        shape: (rows, columns) of every slice.
        spacing_mm: Side of a pixel.
        thickness_mm: SliceThickness of the first slice, None where unknown.
        step_mm: Median distance of neighbouring slices, None for fewer than two positions.
        gaps: One sentence for each pair of neighbours at an unusual distance, slices may be missing there.
        duplicates: One sentence for each position that several slices share.
    """

    uid: str
    description: str
    paths: list[Path]
    positions_mm: list[float]
    shape: tuple[int, int]
    spacing_mm: float
    thickness_mm: float | None = None
    step_mm: float | None = None
    gaps: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Skipped:
    """A file that is no usable CT slice.

    Attributes:
        path: The file, or a hidden folder.
        reason: Why, as a sentence that names it.
        kind: What it is instead.
    """

    path: Path
    reason: str
    kind: SkippedKind


@dataclass(frozen=True)
class FolderScan:
    """What a folder holds: CT series, and everything else with the reason why it was left out."""

    folder: Path
    series: list[CTSeries]
    skipped: list[Skipped]

    def require_series(self) -> list[CTSeries]:
        """The series, at least one.

        Raises:
            DicomError: The folder holds no usable CT slice; the message gives the first reasons.
        """
        if self.series:
            return self.series
        if not self.skipped:
            raise DicomError(f'"{self.folder}" holds no files.')
        reasons = "".join(f"\n  {skipped.reason}" for skipped in self.skipped[:3])
        more = f"\n  ... and {len(self.skipped) - 3} more" if len(self.skipped) > 3 else ""
        raise DicomError(f'"{self.folder}" holds no usable CT slice in {len(self.skipped)} files:{reasons}{more}')

    def require_one_series(self) -> CTSeries:
        """The series, exactly one.

        Raises:
            DicomError: The folder holds none, as in `require_series`, or several; the message lists them.
        """
        found = self.require_series()
        if len(found) > 1:
            names = "".join(
                f"\n  {series.description or 'no description'} ({series.uid}), {len(series.paths)} slices"
                for series in found
            )
            raise DicomError(f'"{self.folder}" holds {len(found)} CT series; give a folder with one of them:{names}')
        return found[0]


def read_series(folder: str | os.PathLike) -> list[CTSlice]:
    """Read the one CT series of a folder, in order along the slice normal; what was left out or is missing is logged.

    Raises:
        DicomError: The folder holds no usable series or several of them, or a slice cannot be read.
    """
    scan = scan_folder(folder)
    series = scan.require_one_series()
    for remark in [*(skipped.reason for skipped in scan.skipped), *series.gaps, *series.duplicates]:
        logger.warning("%s", remark)
    return [read_slice(path) for path in series.paths]


def scan_folder(folder: str | os.PathLike) -> FolderScan:
    """Find the CT series below a folder by their headers; pixels are not read.

    Files are grouped by SeriesInstanceUID (by folder where there is none) and sorted along the slice normal. Hidden
    files and folders, files that are not DICOM, DICOMDIR, localizers, other modalities, second copies of an image
    and series of mixed geometry end up in `skipped`; no single file makes the scan fail.

    Raises:
        DicomError: `folder` is not a readable folder. An empty one is no error: see `FolderScan.require_series`.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DicomError(f'"{folder}" is not a folder.')
    groups: dict[tuple[str, str], list[SliceHeader]] = defaultdict(list)
    skipped: list[Skipped] = []
    seen: dict[str, Path] = {}
    # 1. Every file is a CT slice or has a reason not to be one.
    for path in _files(folder, skipped):
        try:
            header = SliceHeader.of(read_dataset(path, header_only=True), path)
            if header.uid and header.uid in seen:
                raise DicomError(f'"{path}" is a second copy of "{seen[header.uid]}" (same SOPInstanceUID).',
                                 SkippedKind.SECOND_COPY)
        except DicomError as error:
            skipped.append(Skipped(path, str(error), error.kind))
            continue
        seen[header.uid] = path
        groups[header.series_uid, "" if header.series_uid else str(path.parent)].append(header)
    # 2. Every series has one geometry.
    series = []
    for headers in groups.values():
        problem = _mixed_geometry(headers)
        if problem:
            skipped += [
                Skipped(header.path, f"{header.name} was left out: {problem}", SkippedKind.MIXED_GEOMETRY)
                for header in headers
            ]
        else:
            series.append(_series(headers))
    return FolderScan(folder, series, skipped)


def _files(folder: Path, skipped: list[Skipped]) -> Iterator[Path]:
    """Regular, visible files below a folder in a fixed order; the others go to `skipped`."""

    def unreadable(error: OSError) -> None:
        reason = f'"{error.filename}" cannot be read: {error.strerror}.'
        skipped.append(Skipped(Path(error.filename), reason, SkippedKind.UNREADABLE))

    def is_hidden_folder(name: str) -> bool:
        return name.startswith(".") or name == "__MACOSX"  # which a Mac adds to the zip files it makes

    for parent, folders, files in os.walk(folder, onerror=unreadable):
        for name in sorted(filter(is_hidden_folder, folders)):
            path = Path(parent, name)
            skipped.append(Skipped(path, f'"{path}" is a hidden folder.', SkippedKind.HIDDEN))
        folders[:] = sorted(name for name in folders if not is_hidden_folder(name))
        for name in sorted(files):
            path = Path(parent, name)
            if name.startswith("."):
                skipped.append(Skipped(path, f'"{path}" is a hidden file.', SkippedKind.HIDDEN))
            elif not path.is_file():
                skipped.append(Skipped(path, f'"{path}" is not a regular file.', SkippedKind.NOT_REGULAR))
            else:
                yield path


def _mixed_geometry(headers: list[SliceHeader]) -> str | None:
    """Why these slices cannot be one series, or None."""
    first = headers[0]
    for other in headers[1:]:
        pair = f"{first.name} and {other.name}"
        if other.shape != first.shape:
            return f"its series mixes matrix sizes, {first.shape} and {other.shape} ({pair})."
        if abs(other.spacing_mm - first.spacing_mm) > SQUARE_TOLERANCE * first.spacing_mm:
            return f"its series mixes pixel spacings, {first.spacing_mm:g} and {other.spacing_mm:g} mm ({pair})."
        if (other.orientation is None) != (first.orientation is None) or (
            first.orientation is not None
            and np.abs(other.orientation - first.orientation).max() > DIRECTION_TOLERANCE
        ):
            return f"its series mixes orientations ({pair})."
    return None


def _series(headers: list[SliceHeader]) -> CTSeries:
    """Sort slices of one geometry and describe what their positions tell."""
    # 1. One coordinate for all: along the normal, else the slice location, else the instance number.
    if all(header.position is not None and header.orientation is not None for header in headers):
        positions = [header.position_mm for header in headers]
    elif all(header.slice_location is not None for header in headers):
        positions = [header.slice_location for header in headers]
    else:
        positions = [float("nan")] * len(headers)
    order = sorted(
        range(len(headers)), key=lambda i: (np.nan_to_num(positions[i]), headers[i].instance_number, headers[i].name)
    )
    headers = [headers[i] for i in order]
    positions = [positions[i] for i in order]
    # 2. Gaps and shared positions.
    distances = np.diff(positions)
    steps = distances[distances > SAME_POSITION_MM]
    step = float(np.median(steps)) if len(steps) else None
    gaps, duplicates = [], []
    for before, after, distance in zip(headers, headers[1:], distances):
        if distance <= SAME_POSITION_MM:
            duplicates.append(f"{before.name} and {after.name} share one position.")
        elif step and abs(distance - step) > STEP_TOLERANCE * step:
            gaps.append(f"{distance:.2f} mm between {before.name} and {after.name}; {step:.2f} mm is usual here.")
    if len(headers) > 1 and np.isnan(positions).any():
        gaps.append("positions are unknown (no ImagePositionPatient, no SliceLocation); sorted by InstanceNumber.")
    first = headers[0]
    return CTSeries(
        uid=first.series_uid,
        description=first.description,
        paths=[header.path for header in headers],
        positions_mm=positions,
        shape=first.shape,
        spacing_mm=first.spacing_mm,
        thickness_mm=first.thickness_mm,
        step_mm=step,
        gaps=gaps,
        duplicates=duplicates,
    )
