"""Find the CT series of a folder of DICOM files in anatomical order, and set everything else aside with a reason."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .errors import LEFT_ALONE, DicomError, SkippedKind
from .plausible import narrow_remark
from .reading import SQUARE_TOLERANCE, CTSlice, SliceHeader, content_id, read_dataset, read_slice

logger = logging.getLogger(__name__)

DIRECTION_TOLERANCE = 1e-3  # of a direction cosine: 0.06 degrees, headers round to 4 to 6 digits
STEP_TOLERANCE = 0.1  # relative; distances in helical series vary by a few percent
LEAST_TORN = 2  # number of series of one slice that suggest a torn scan
SAME_POSITION_MM = 0.01  # headers round positions to 2 or more digits


@dataclass(frozen=True)
class CTSeries:
    """Hold the readable slices of one series, in order along the slice normal.

    Attributes:
        uid: SeriesInstanceUID, "" where the headers have none.
        description: SeriesDescription, "" where there is none.
        paths: Files by ascending position.
        positions_mm: Position of each file, as in `CTSlice.position_mm`.
        shape: (rows, columns) of every slice.
        spacing_mm: Side of a pixel.
        thickness_mm: SliceThickness of the first slice, None where unknown.
        step_mm: Median distance between neighbouring slices, None for fewer than two positions.
        gaps: One sentence for each pair of neighbours at an unusual distance, where slices may be missing.
        duplicates: One sentence for each position that several slices share.
        remarks: What makes results doubtful, one sentence each: a spectral image, a small field of view, a shared UID.
        uids: SOPInstanceUID of each file, "" where there is none.
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
    remarks: list[str] = field(default_factory=list)
    uids: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Skipped:
    """Describe a file that is not a usable CT slice.

    Attributes:
        path: The file or folder.
        reason: Why, as a sentence that names the file.
        kind: What the file is instead.
    """

    path: Path
    reason: str
    kind: SkippedKind


@dataclass(frozen=True)
class FolderScan:
    """Hold the content of a folder: CT series, and everything else with the reason why it was left out.

    Attributes:
        folder: The folder.
        series: Its CT series.
        skipped: Its other files.
        remarks: What is unusual about the folder as a whole, one sentence each: scans that seem to be torn into series.
    """

    folder: Path
    series: list[CTSeries]
    skipped: list[Skipped]
    remarks: list[str] = field(default_factory=list, kw_only=True)

    def require_series(self) -> list[CTSeries]:
        """Return the series, at least one.

        Raises:
            DicomError: with the first reasons, if the folder holds no usable CT slice.
        """
        if self.series:
            return self.series
        if not self.skipped:
            raise DicomError(f'"{self.folder}" holds no files.')
        reasons = "".join(f"\n  {skipped.reason}" for skipped in self.skipped[:3])
        more = f"\n  ... and {len(self.skipped) - 3} more" if len(self.skipped) > 3 else ""
        raise DicomError(f'"{self.folder}" holds no usable CT slice in {len(self.skipped)} files:{reasons}{more}')

    def require_one_series(self) -> CTSeries:
        """Return the series, exactly one.

        Raises:
            DicomError: if the folder holds none, as in `require_series`, or several, listing them.
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
    """Read the only CT series of a folder, in order along the slice normal; skipped files and missing slices are logged.

    Raises:
        DicomError: if the folder holds no usable series or several of them, or a slice cannot be read.
    """
    scan = scan_folder(folder)
    series = scan.require_one_series()
    reasons = [skipped.reason for skipped in scan.skipped]
    for remark in [*reasons, *series.gaps, *series.duplicates, *series.remarks]:
        logger.warning("%s", remark)
    return [read_slice(path) for path in series.paths]


def scan_folder(folder: str | os.PathLike, results: bool = True) -> FolderScan:
    """Find the CT series below a folder by their headers; pixels are read only for files that share a SOPInstanceUID.

    Files are grouped by SeriesInstanceUID (by folder where there is none) and sorted along the slice normal. Links are
    followed, each folder once. Hidden files and folders, files that are not DICOM, DICOMDIR, localizers, reformats,
    pictures, other modalities and second copies of an image end up in `skipped`, as do slices of another geometry than
    most of their series; no single file makes the scan fail.

    Args:
        folder: The folder to search.
        results: Whether to include images that this package has standardized; otherwise they are skipped.

    Raises:
        DicomError: if `folder` is not a folder. An empty one is not an error: see `FolderScan.require_series`.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DicomError(f'"{folder}" is not a folder.')
    groups: dict[tuple[str, str], list[SliceHeader]] = defaultdict(list)
    skipped: list[Skipped] = []
    known = KnownImages()
    # 1. Every file is a CT slice or is skipped with a reason.
    for path in visible_files(folder, skipped):
        try:
            header = SliceHeader.of(read_dataset(path, header_only=True), path)
            if header.is_standardized and not results:
                raise DicomError(f"{header.name} {LEFT_ALONE}", SkippedKind.STANDARDIZED)
            known.add(header)
        except DicomError as error:
            skipped.append(Skipped(path, str(error), error.kind))
            continue
        groups[header.series_uid, "" if header.series_uid else str(path.parent)].append(header)
    # 2. Every series has one geometry, that of most of its slices.
    series: list[CTSeries] = []
    single: list[SliceHeader] = []
    for headers in groups.values():
        usual, others = _usual_geometry(headers)
        skipped += [
            Skipped(header.file, f"{header.name} was left out: {problem}", SkippedKind.MIXED_GEOMETRY)
            for header, problem in others
        ]
        series.append(series_of(usual, known.shared))
        single += usual if len(usual) == 1 else []
    return FolderScan(folder, series, skipped, remarks=_torn(single))


class KnownImages:
    """Distinguish a second copy of an image, which is left out, from another image with the same SOPInstanceUID.

    Attributes:
        shared: Paths of the images that share their UID with another image.
    """

    def __init__(self) -> None:
        self._paths: dict[str, list[Path]] = defaultdict(list)
        self._contents: dict[str, dict[str, Path]] = defaultdict(dict)
        self.shared: set[Path] = set()

    def add(self, header: SliceHeader) -> None:
        """Add an image.

        Raises:
            DicomError: naming both, if it is a copy of a known one.
        """
        paths = self._paths[header.uid] if header.uid else []
        paths.append(header.file)
        if len(paths) == 1:
            return
        if len(paths) == 2:  # the first image has not been read yet, as hardly any UID is shared
            self._contents[header.uid][_content(paths[0])] = paths[0]
        first = self._contents[header.uid].setdefault(_content(header.file), header.file)
        if first != header.path:
            raise DicomError(
                f'"{header.path}" is a second copy of "{first}" (same SOPInstanceUID, pixels and position).',
                SkippedKind.SECOND_COPY,
            )
        self.shared |= {*self._contents[header.uid].values()}


def _content(path: Path) -> str:
    """Return a hash of an image; its path where it cannot be read, which is reported when it is to be used."""
    try:
        return content_id(read_slice(path))
    except DicomError:
        return str(path)


def visible_files(folder: Path, skipped: list[Skipped]) -> Iterator[Path]:
    """Yield regular, visible files below a folder in a fixed order; add the others to `skipped`."""

    def unreadable(error: OSError) -> None:
        reason = f'"{error.filename}" cannot be read: {error.strerror}.'
        skipped.append(Skipped(Path(error.filename), reason, SkippedKind.UNREADABLE))

    def is_hidden_folder(name: str) -> bool:
        return name.startswith(".") or name == "__MACOSX"  # which macOS adds to zip files

    walked: dict[tuple[int, int] | str, str] = {}  # identity of a folder -> its path
    roots = [folder]  # links to folders are added at the end, so that a folder in the tree is found by its own name
    for root in roots:
        for parent, folders, files in os.walk(root, onerror=unreadable):
            identity = _identity(parent)
            if identity in walked:
                reason = f'"{parent}" is the same folder as "{walked[identity]}", which has already been read.'
                skipped.append(Skipped(Path(parent), reason, SkippedKind.SECOND_COPY))
                folders.clear()
                continue
            walked[identity] = str(parent)
            for name in sorted(filter(is_hidden_folder, folders)):
                path = Path(parent, name)
                skipped.append(Skipped(path, f'"{path}" is a hidden folder.', SkippedKind.HIDDEN))
            visible = sorted(name for name in folders if not is_hidden_folder(name))
            links = [name for name in visible if os.path.islink(os.path.join(parent, name))]
            roots += [Path(parent, name) for name in links]
            folders[:] = [name for name in visible if name not in links]
            yield from _regular(parent, files, skipped)


def _regular(parent: str, files: list[str], skipped: list[Skipped]) -> Iterator[Path]:
    """Yield the regular, visible files of one folder."""
    for name in sorted(files):
        path = Path(parent, name)
        if name.startswith("."):
            skipped.append(Skipped(path, f'"{path}" is a hidden file.', SkippedKind.HIDDEN))
        elif not path.is_file():
            skipped.append(Skipped(path, f'"{path}" is not a regular file.', SkippedKind.NOT_REGULAR))
        else:
            yield path


def _identity(folder: str | os.PathLike) -> tuple[int, int] | str:
    """Return the device and inode of a folder, which do not depend on its name; its name where it is gone."""
    try:
        found = os.stat(folder)
        return (found.st_dev, found.st_ino) if found.st_ino else os.path.realpath(folder)
    except OSError:
        return str(folder)


def _usual_geometry(headers: list[SliceHeader]) -> tuple[list[SliceHeader], list[tuple[SliceHeader, str]]]:
    """Return the slices with the geometry of most of a series, and the others with the difference."""
    alike: list[list[SliceHeader]] = []
    for header in headers:
        group = next((group for group in alike if not _difference(group[0], header)), None)
        if group is None:
            alike.append([header])
        else:
            group.append(header)
    usual = max(alike, key=len)  # of several, the first
    others = [(header, _difference(usual[0], header)) for group in alike if group is not usual for header in group]
    return usual, others


def _difference(first: SliceHeader, other: SliceHeader) -> str:
    """Return why two slices cannot be of one series, "" if they can."""
    pair = f"{first.name} and {other.name}"
    if other.shape != first.shape:
        return f"its series mixes matrix sizes, {first.shape} and {other.shape} ({pair})."
    if abs(other.spacing_mm - first.spacing_mm) > SQUARE_TOLERANCE * first.spacing_mm:
        return f"its series mixes pixel spacings, {first.spacing_mm:g} and {other.spacing_mm:g} mm ({pair})."
    if first.orientation is None or other.orientation is None:
        is_turned = first.orientation is not other.orientation
    else:
        is_turned = bool(np.abs(other.orientation - first.orientation).max() > DIRECTION_TOLERANCE)
    return f"its series mixes orientations ({pair})." if is_turned else ""


def _torn(single: list[SliceHeader]) -> list[str]:
    """Return a sentence for each scan that seems to be torn into series of one slice each, as some anonymizers do."""
    scans: dict[tuple, list[SliceHeader]] = defaultdict(list)
    for header in single:
        scans[header.study_uid, header.file.parent, header.shape, round(header.spacing_mm, 3)].append(header)
    return [
        f'"{headers[0].file.parent}" holds {len(headers)} series of one slice each: the scan seems to be torn by an '
        "anonymizer that gave each slice its own SeriesInstanceUID. Slices that are not known to belong together do "
        "not share their noise, so texture flickers between them."
        for headers in scans.values()
        if len(headers) >= LEAST_TORN and len({header.position_mm for header in headers}) == len(headers)
    ]


def series_of(headers: list[SliceHeader], shared: Collection[Path] = ()) -> CTSeries:
    """Sort slices of one geometry and describe their positions and UIDs; files in `shared` share their UID with another."""
    # 1. One coordinate for all: the position along the normal, else the slice location, else the instance number.
    locations = [header.slice_location for header in headers if header.slice_location is not None]
    if all(header.position is not None and header.orientation is not None for header in headers):
        positions = [header.position_mm for header in headers]
    elif len(locations) == len(headers):
        positions = locations
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
    # 3. What makes results doubtful.
    first = headers[0]
    remarks = [next((header.spectral for header in headers if header.spectral), "")]
    remarks.append(narrow_remark("This series", first.spacing_mm * min(first.shape)))
    doubled = [header.name for header in headers if header.path in shared]
    if doubled:
        remarks.append(f"{len(doubled)} different images share their SOPInstanceUID with another one, such as {doubled[0]}; "
                       "each result has a UID of its own.")  # fmt: skip
    return CTSeries(
        uid=first.series_uid,
        description=first.description,
        paths=[header.file for header in headers],
        positions_mm=positions,
        shape=first.shape,
        spacing_mm=first.spacing_mm,
        thickness_mm=first.thickness_mm,
        step_mm=step,
        gaps=gaps,
        duplicates=duplicates,
        remarks=[remark for remark in remarks if remark],
        uids=[header.uid for header in headers],
    )
