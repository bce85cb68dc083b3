"""A folder of DICOM files -> its CT series in anatomical order, everything else set aside with a reason."""

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
STEP_TOLERANCE = 0.1  # relative; helical series jitter by a few percent of their step
LEAST_TORN = 2  # series of one slice
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
        remarks: What makes results doubtful, a sentence each: a spectral image, a small field of view, a shared UID.
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
    """A file that is no usable CT slice.

    Attributes:
        path: The file or folder.
        reason: Why, as a sentence that names it.
        kind: What it is instead.
    """

    path: Path
    reason: str
    kind: SkippedKind


@dataclass(frozen=True)
class FolderScan:
    """What a folder holds: CT series, and everything else with the reason why it was left out.

    Attributes:
        folder: Where.
        series: Its CT series.
        skipped: What else it holds.
        remarks: What is odd about the folder as a whole, a sentence each: scans that seem to be torn into series.
    """

    folder: Path
    series: list[CTSeries]
    skipped: list[Skipped]
    remarks: list[str] = field(default_factory=list, kw_only=True)

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
    reasons = [skipped.reason for skipped in scan.skipped]
    for remark in [*reasons, *series.gaps, *series.duplicates, *series.remarks]:
        logger.warning("%s", remark)
    return [read_slice(path) for path in series.paths]


def scan_folder(folder: str | os.PathLike, results: bool = True) -> FolderScan:
    """Find the CT series below a folder by their headers; pixels are read only of files that share a SOPInstanceUID.

    Files are grouped by SeriesInstanceUID (by folder where there is none) and sorted along the slice normal. Links are
    followed, each folder once. Hidden files and folders, files that are not DICOM, DICOMDIR, localizers, reformats,
    pictures, other modalities and second copies of an image end up in `skipped`, and so do slices of another geometry
    than most of their series; no single file makes the scan fail.

    Args:
        folder: Where to look.
        results: Whether images that this package has standardized are taken; else they are skipped.

    Raises:
        DicomError: `folder` is not a readable folder. An empty one is no error: see `FolderScan.require_series`.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DicomError(f'"{folder}" is not a folder.')
    groups: dict[tuple[str, str], list[SliceHeader]] = defaultdict(list)
    skipped: list[Skipped] = []
    known = KnownImages()
    # 1. Every file is a CT slice or has a reason not to be one.
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
            Skipped(header.path, f"{header.name} was left out: {problem}", SkippedKind.MIXED_GEOMETRY)
            for header, problem in others
        ]
        series.append(series_of(usual, known.shared))
        single += usual if len(usual) == 1 else []
    return FolderScan(folder, series, skipped, remarks=_torn(single))


class KnownImages:
    """Tells a second copy of an image, which is left out, from another image under the same SOPInstanceUID.

    Attributes:
        shared: Paths of the images that share their UID with another one.
    """

    def __init__(self) -> None:
        self._paths: dict[str, list[Path]] = defaultdict(list)
        self._contents: dict[str, dict[str, Path]] = defaultdict(dict)
        self.shared: set[Path] = set()

    def add(self, header: SliceHeader) -> None:
        """Take notice of an image.

        Raises:
            DicomError: It is a copy of one that is known; naming both.
        """
        paths = self._paths[header.uid] if header.uid else []
        paths.append(header.path)
        if len(paths) == 1:
            return
        if len(paths) == 2:  # the first image was not read yet: hardly any shares its UID
            self._contents[header.uid][_content(paths[0])] = paths[0]
        first = self._contents[header.uid].setdefault(_content(header.path), header.path)
        if first != header.path:
            raise DicomError(
                f'"{header.path}" is a second copy of "{first}" (same SOPInstanceUID, pixels and position).',
                SkippedKind.SECOND_COPY,
            )
        self.shared |= {*self._contents[header.uid].values()}


def _content(path: Path) -> str:
    """What an image shows and where; its own path where it cannot be read, which is said when it is to be used."""
    try:
        return content_id(read_slice(path))
    except DicomError:
        return str(path)


def visible_files(folder: Path, skipped: list[Skipped]) -> Iterator[Path]:
    """Regular, visible files below a folder in a fixed order; the others go to `skipped`."""

    def unreadable(error: OSError) -> None:
        reason = f'"{error.filename}" cannot be read: {error.strerror}.'
        skipped.append(Skipped(Path(error.filename), reason, SkippedKind.UNREADABLE))

    def is_hidden_folder(name: str) -> bool:
        return name.startswith(".") or name == "__MACOSX"  # which a Mac adds to the zip files it makes

    walked: dict[tuple[int, int] | str, str] = {}  # identity of a folder -> its path
    roots = [folder]  # and the links to folders, which come last: a folder goes by its own name if it has one here
    for root in roots:
        for parent, folders, files in os.walk(root, onerror=unreadable):
            identity = _identity(parent)
            if identity in walked:
                reason = f'"{parent}" is the same folder as "{walked[identity]}", which is read already.'
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
    """Those of one folder."""
    for name in sorted(files):
        path = Path(parent, name)
        if name.startswith("."):
            skipped.append(Skipped(path, f'"{path}" is a hidden file.', SkippedKind.HIDDEN))
        elif not path.is_file():
            skipped.append(Skipped(path, f'"{path}" is not a regular file.', SkippedKind.NOT_REGULAR))
        else:
            yield path


def _identity(folder: str | os.PathLike) -> tuple[int, int] | str:
    """Device and number of a folder, by whatever name; its name where it is gone."""
    try:
        found = os.stat(folder)
        return (found.st_dev, found.st_ino) if found.st_ino else os.path.realpath(folder)
    except OSError:
        return str(folder)


def _usual_geometry(headers: list[SliceHeader]) -> tuple[list[SliceHeader], list[tuple[SliceHeader, str]]]:
    """The slices of the geometry that most of a series have, and the others with what is different about them."""
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
    """Why two slices cannot be of one series, "" if they can."""
    pair = f"{first.name} and {other.name}"
    if other.shape != first.shape:
        return f"its series mixes matrix sizes, {first.shape} and {other.shape} ({pair})."
    if abs(other.spacing_mm - first.spacing_mm) > SQUARE_TOLERANCE * first.spacing_mm:
        return f"its series mixes pixel spacings, {first.spacing_mm:g} and {other.spacing_mm:g} mm ({pair})."
    if (other.orientation is None) != (first.orientation is None) or (
        first.orientation is not None and np.abs(other.orientation - first.orientation).max() > DIRECTION_TOLERANCE
    ):
        return f"its series mixes orientations ({pair})."
    return ""


def _torn(single: list[SliceHeader]) -> list[str]:
    """A sentence for each scan that seems to be torn into series of one slice each, as some anonymizers do it."""
    scans: dict[tuple, list[SliceHeader]] = defaultdict(list)
    for header in single:
        scans[header.study_uid, header.path.parent, header.shape, round(header.spacing_mm, 3)].append(header)
    return [
        f'{len(headers)} series of one slice each lie in "{headers[0].path.parent}": the scan seems to be torn, by an '
        "anonymizer that gave each slice a SeriesInstanceUID of its own. Slices that are not known to belong together do "
        "not share their noise, so that texture flickers between them."
        for headers in scans.values()
        if len(headers) >= LEAST_TORN and len({header.position_mm for header in headers}) == len(headers)
    ]


def series_of(headers: list[SliceHeader], shared: Collection[Path] = ()) -> CTSeries:
    """Sort slices of one geometry and describe what their positions and their UIDs tell, some of which are `shared`."""
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
    # 3. What makes results doubtful.
    first = headers[0]
    remarks = [next((header.spectral for header in headers if header.spectral), "")]
    remarks.append(narrow_remark("This series", first.spacing_mm * min(first.shape)))
    doubled = [header.name for header in headers if header.path in shared]
    if doubled:
        remarks.append(f"{len(doubled)} different images share their SOPInstanceUID with another one, {doubled[0]} for one; "
                       "each result has a UID of its own.")  # fmt: skip
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
        remarks=[remark for remark in remarks if remark],
        uids=[header.uid for header in headers],
    )
