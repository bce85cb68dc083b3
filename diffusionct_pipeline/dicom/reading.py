"""DICOM in: one file -> `CTSlice` in Hounsfield units; a folder -> CT series in anatomical order, junk set aside.

A slice is checked twice by the same rules: `scan_folder` looks at headers only, `read_slice` decodes the pixels too.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    LegacyConvertedEnhancedCTImageStorage,
    MediaStorageDirectoryStorage,
)

from .hounsfield import (
    DicomError,
    PixelFormat,
    cells_to_hu,
    header_numbers,
    header_value,
    pixel_format,
    read_cells,
)

logger = logging.getLogger(__name__)

SQUARE_TOLERANCE = 1e-3  # relative; headers round spacings to 3 to 6 digits
DIRECTION_TOLERANCE = 1e-3  # of a direction cosine: 0.06 degrees, headers round to 4 to 6 digits
STEP_TOLERANCE = 0.1  # relative; helical series jitter by a few percent of their step
SAME_POSITION_MM = 0.01


@dataclass(frozen=True, eq=False)
class CTSlice:
    """One CT slice.

    Attributes:
        dataset: Header and pixel data as they were read.
        hu: (H, W) float32, Hounsfield units, pixels of the padding included.
        padding: (H, W) bool, True where the scanner measured nothing (`hounsfield.cells_to_hu`).
        spacing_mm: Side of a (square) pixel.
        path: The file, or None for a `Dataset` of the caller.
        series_uid: SeriesInstanceUID, "" where the header has none.
        position_mm: Position along the slice normal; where ImagePositionPatient is missing the SliceLocation, where
            that is missing too NaN.
        pixels: How the pixels are stored.
    """

    dataset: Dataset
    hu: np.ndarray
    padding: np.ndarray
    spacing_mm: float
    path: Path | None
    series_uid: str
    position_mm: float
    pixels: PixelFormat

    @property
    def name(self) -> str:
        """What messages call this slice."""
        return _name(self.path)


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
        gaps: One sentence for each place where slices seem to be missing.
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
    """A file that is no usable CT slice, and why."""

    path: Path
    reason: str


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


def read_slice(source: str | os.PathLike | Dataset) -> CTSlice:
    """Read one CT slice and convert it to Hounsfield units.

    Args:
        source: A DICOM file, compressed or not, or a `Dataset` with pixel data.

    Raises:
        DicomError: Naming the file and the reason: not DICOM, truncated, not a CT image, a localizer, multi-frame,
            colour, no rescale, no spacing, pixels that are not square, or a decoder that is not installed.
    """
    path = None if isinstance(source, Dataset) else Path(source)
    dataset = source if path is None else _read_dataset(path)
    header = _Header.of(dataset, path)
    dataset = _with_transfer_syntax(dataset, header.name)
    hu, padding = cells_to_hu(read_cells(dataset, header.name), header.pixels)
    return CTSlice(
        dataset, hu, padding, header.spacing_mm, path, header.series_uid, header.position_mm, header.pixels
    )


def read_series(folder: str | os.PathLike) -> list[CTSlice]:
    """Read the one CT series of a folder, in order along the slice normal.

    Raises:
        DicomError: The folder holds no usable series or several of them, or a slice cannot be read.
    """
    series = scan_folder(folder).require_series()
    if len(series) > 1:
        names = "".join(f"\n  {one.description or 'no description'} ({one.uid}), {len(one.paths)} slices"
                        for one in series)
        raise DicomError(f'"{folder}" holds {len(series)} CT series; give a folder with one of them:{names}')
    return [read_slice(path) for path in series[0].paths]


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
    groups: dict[tuple[str, str], list[_Header]] = defaultdict(list)
    skipped: list[Skipped] = []
    seen: dict[str, Path] = {}
    # 1. Every file is a CT slice or has a reason not to be one.
    for path in _files(folder, skipped):
        try:
            header = _Header.of(_read_dataset(path, header_only=True), path)
            if header.uid and header.uid in seen:
                raise DicomError(f'"{path}" is a second copy of "{seen[header.uid]}" (same SOPInstanceUID).')
        except DicomError as error:
            skipped.append(Skipped(path, str(error)))
            continue
        seen[header.uid] = path
        groups[header.series_uid, "" if header.series_uid else str(path.parent)].append(header)
    # 2. Every series has one geometry.
    series = []
    for headers in groups.values():
        problem = _mixed_geometry(headers)
        if problem:
            skipped += [Skipped(header.path, f"{header.name} was left out: {problem}") for header in headers]
        else:
            series.append(_series(headers))
    return FolderScan(folder, series, skipped)


@dataclass(frozen=True, eq=False)
class _Header:
    """What the header of a usable CT slice says."""

    path: Path | None
    name: str
    uid: str
    series_uid: str
    description: str
    shape: tuple[int, int]
    pixels: PixelFormat
    spacing_mm: float
    thickness_mm: float | None
    orientation: np.ndarray | None  # the two direction cosines, (6,)
    position: np.ndarray | None  # centre of the first pixel, mm, (3,)
    slice_location: float | None
    instance_number: float

    @classmethod
    def of(cls, dataset: Dataset, path: Path | None) -> _Header:
        name = _name(path)
        _require_ct_image(dataset, name)
        pixels = pixel_format(dataset, name)
        return cls(
            path,
            name,
            str(header_value(dataset, "SOPInstanceUID", name) or ""),
            str(header_value(dataset, "SeriesInstanceUID", name) or ""),
            str(header_value(dataset, "SeriesDescription", name) or ""),
            (int(dataset.Rows), int(dataset.Columns)),
            pixels,
            _square_spacing(dataset, name),
            _optional_number(dataset, "SliceThickness", name),
            _orientation(dataset, name),
            _optional_numbers(dataset, "ImagePositionPatient", name, 3),
            _optional_number(dataset, "SliceLocation", name),
            _optional_number(dataset, "InstanceNumber", name) or 0.0,
        )

    @property
    def position_mm(self) -> float:
        if self.position is not None and self.orientation is not None:
            return float(np.dot(np.cross(self.orientation[:3], self.orientation[3:]), self.position))
        return float("nan") if self.slice_location is None else self.slice_location


def _read_dataset(path: Path, header_only: bool = False) -> Dataset:
    if path.is_dir():
        raise DicomError(f'"{path}" is a folder, not a file.')
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about values of odd attributes that are not used here
            try:
                return pydicom.dcmread(path, stop_before_pixels=header_only)
            except InvalidDicomError:
                # Some archives strip the 128-byte preamble; force=True alone would "read" any file.
                if not _starts_like_dicom(path):
                    raise
                return pydicom.dcmread(path, stop_before_pixels=header_only, force=True)
    except InvalidDicomError as error:
        empty = path.stat().st_size == 0
        raise DicomError(f'"{path}" is {"empty" if empty else "not a DICOM file"}.') from error
    except OSError as error:
        raise DicomError(f'"{path}" cannot be read: {error.strerror or error}.') from error
    except Exception as error:  # damaged headers raise whatever their bytes lead pydicom into
        raise DicomError(f'"{path}" is a damaged DICOM file: {error}') from error


def _starts_like_dicom(path: Path) -> bool:
    """Whether a file without preamble begins with an element of group 2 or 8 of plausible length."""
    with open(path, "rb") as file:
        start = file.read(8)
    group, element = int.from_bytes(start[:2], "little"), int.from_bytes(start[2:4], "little")
    explicit = start[4:6] in (b"UL", b"OB", b"UI", b"CS", b"DA", b"TM", b"SH", b"LO", b"PN")
    short = int.from_bytes(start[4:8], "little") <= 64
    return len(start) == 8 and group in (2, 8) and element <= 0x0100 and (explicit or short)


def _with_transfer_syntax(dataset: Dataset, name: str) -> Dataset:
    """The dataset, with the encoding it was read with where its file meta information does not name one."""
    if getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", None):
        return dataset
    implicit, little = dataset.original_encoding
    if implicit is None:  # made in memory, not read: numbers are bytes in the order of today's machines
        implicit, little = False, True
    syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    logger.info("%s names no transfer syntax; its encoding is %s.", name, syntax.name)
    copy = Dataset(dataset)
    copy.set_original_encoding(*dataset.original_encoding)
    copy.file_meta = FileMetaDataset(getattr(dataset, "file_meta", None) or {})
    copy.file_meta.TransferSyntaxUID = syntax
    return copy


def _require_ct_image(dataset: Dataset, name: str) -> None:
    """Refuse everything but single CT slices (CT Image Storage)."""
    sop_class = header_value(dataset, "SOPClassUID", name)
    sop_class = sop_class or getattr(getattr(dataset, "file_meta", None), "MediaStorageSOPClassUID", None)
    modality = header_value(dataset, "Modality", name)
    frames = header_numbers(dataset, "NumberOfFrames", name, 1)
    if sop_class == MediaStorageDirectoryStorage:
        raise DicomError(f"{name} is a DICOMDIR (a table of contents), not an image.")
    if sop_class in (EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage) or (frames and frames[0] > 1):
        count = f" with {frames[0]:g} frames" if frames else ""
        raise DicomError(f"{name} is a multi-frame image{count}; only single slices are supported. "
                         "Convert it to one file a slice (CT Image Storage) first.")
    if sop_class and sop_class != CTImageStorage:
        raise DicomError(f"{name} is not a CT image but {UID(str(sop_class)).name}.")
    if modality != "CT" and (modality or not sop_class):
        raise DicomError(f"{name} is not a CT image: its modality is {modality or 'not given'}.")
    image_type = header_value(dataset, "ImageType", name)
    kinds = [image_type] if isinstance(image_type, str) else list(image_type or [])
    if any(str(kind).strip().upper() == "LOCALIZER" for kind in kinds):
        raise DicomError(f"{name} is a localizer (scout view), not a slice.")


def _square_spacing(dataset: Dataset, name: str) -> float:
    spacing = header_numbers(dataset, "PixelSpacing", name, 2)
    if spacing is None:
        raise DicomError(f"{name} has no pixel spacing; the size of its pixels in mm is needed.")
    if min(spacing) <= 0:
        raise DicomError(f"{name} has pixel spacing ({spacing[0]:g}, {spacing[1]:g}) mm; both must be above 0.")
    if abs(spacing[0] - spacing[1]) > SQUARE_TOLERANCE * max(spacing):
        raise DicomError(f"{name} has pixel spacing ({spacing[0]:g}, {spacing[1]:g}) mm; only square pixels are "
                         "supported. Resample the series first.")
    return float(spacing[0])


def _orientation(dataset: Dataset, name: str) -> np.ndarray | None:
    cosines = _optional_numbers(dataset, "ImageOrientationPatient", name, 6)
    if cosines is None:
        return None
    row, column = cosines[:3], cosines[3:]
    errors = (np.dot(row, row) - 1, np.dot(column, column) - 1, np.dot(row, column))
    if max(map(abs, errors)) > 1e-2:  # coarse: headers with two digits exist
        raise DicomError(f"{name} has ImageOrientationPatient {cosines.tolist()}; expected two perpendicular unit "
                         "vectors.")
    return cosines


def _optional_numbers(dataset: Dataset, keyword: str, name: str, count: int) -> np.ndarray | None:
    """Numbers that a single slice does without; what cannot be read counts as missing, and is logged."""
    try:
        numbers = header_numbers(dataset, keyword, name, count)
    except DicomError as error:
        logger.warning("%s It is treated as missing.", error)
        return None
    return None if numbers is None else np.array(numbers)


def _optional_number(dataset: Dataset, keyword: str, name: str) -> float | None:
    numbers = _optional_numbers(dataset, keyword, name, 1)
    return None if numbers is None else float(numbers[0])


def _files(folder: Path, skipped: list[Skipped]):
    """Regular, visible files below a folder in a fixed order; the others go to `skipped`."""

    def unreadable(error: OSError) -> None:
        skipped.append(Skipped(Path(error.filename), f'"{error.filename}" cannot be read: {error.strerror}.'))

    for parent, folders, files in os.walk(folder, onerror=unreadable):
        for hidden in sorted(name for name in folders if name.startswith(".") or name == "__MACOSX"):
            skipped.append(Skipped(Path(parent, hidden), f'"{Path(parent, hidden)}" is a hidden folder.'))
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        for name in sorted(files):
            path = Path(parent, name)
            if name.startswith("."):
                skipped.append(Skipped(path, f'"{path}" is a hidden file.'))
            elif not path.is_file():
                skipped.append(Skipped(path, f'"{path}" is not a regular file.'))
            else:
                yield path


def _mixed_geometry(headers: list[_Header]) -> str | None:
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


def _series(headers: list[_Header]) -> CTSeries:
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
        elif step and distance > (1 + STEP_TOLERANCE) * step:
            gaps.append(f"{distance:.2f} mm between {before.name} and {after.name}; {step:.2f} mm is usual here.")
    if len(headers) > 1 and np.isnan(positions).any():
        gaps.append("positions are unknown (no ImagePositionPatient, no SliceLocation); sorted by InstanceNumber.")
    first = headers[0]
    return CTSeries(
        first.series_uid,
        first.description,
        [header.path for header in headers],
        positions,
        first.shape,
        first.spacing_mm,
        first.thickness_mm,
        step,
        gaps,
        duplicates,
    )


def _name(path: Path | None) -> str:
    return "The given Dataset" if path is None else f'"{path}"'
