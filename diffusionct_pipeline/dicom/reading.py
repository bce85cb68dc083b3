"""Read one DICOM file as a `CTSlice` in Hounsfield units, or raise a `DicomError` that says why that is not possible.

`SliceHeader.of` holds the rules. They need no pixels, so that `scan_folder` (folders.py) applies them, too.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_preamble
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    LegacyConvertedEnhancedCTImageStorage,
    MediaStorageDirectoryStorage,
)

from .errors import DicomError, SkippedKind, damage_named
from .headers import header_numbers, header_texts, header_value
from .hounsfield import PixelFormat, cells_to_hu, pixel_format, read_cells
from .plausible import is_transverse, not_a_slice, spectral_remark

logger = logging.getLogger(__name__)

LARGEST_INFLATED = 256 << 20  # bytes; the largest accepted slice takes half of it
INFLATED_AT_ONCE = 1 << 20  # bytes
SQUARE_TOLERANCE = 1e-3  # relative; headers round spacings to 3 to 6 digits
LARGEST_FIELD_OF_VIEW_MM = 1000.0  # the bores of CT scanners are at most 0.9 m wide
UNIT_VECTOR_TOLERANCE = 1e-2  # some headers have direction cosines of two digits
LEAST_FORMAT_SPAN_HU = 1000.0  # from air to water; the 8 bits of a picture span 256
# Suffixes, first bytes and advice for formats of images that are not read, but that a user may want to standardize.
OTHER_FORMATS: tuple[tuple[tuple[str, ...], bytes, str], ...] = (
    ((".mha", ".mhd"), b"", "is MetaImage, which is not read. Convert it to NIfTI (.nii.gz) or NRRD (.nrrd) in one file."),
    ((".nhdr",), b"", "is an NRRD header whose voxels are in another file. Save it as .nrrd, in one file."),
    ((".hdr", ".img"), b"", "is a part of a .hdr/.img pair, which is not read. Convert it to NIfTI in one file (.nii.gz)."),
    ((".zip",), b"PK\3\4", "is a zip archive, which is not read. Unpack it first."),
    ((".tar", ".tgz", ".tar.gz", ".7z", ".rar"), b"", "is an archive, which is not read. Unpack it first."),
    ((".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp"), b"\xff\xd8\xff",
     "is a picture, which holds no Hounsfield units. Give the DICOM files."),
)  # fmt: skip
MULTI_FRAME_CT = (EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
MANUFACTURER = "DiffusionCT"  # in the ContributingEquipmentSequence of its results


@dataclass(frozen=True, eq=False)
class CTSlice:
    """Hold one CT slice.

    Attributes:
        dataset: Header and pixel data as they were read.
        hu: (H, W) float32 Hounsfield units, including pixels of the padding.
        padding: (H, W) bool, True where the scanner measured nothing (`hounsfield.cells_to_hu`).
        spacing_mm: Side of a (square) pixel.
        path: The file, or None for a `Dataset` of the caller.
        series_uid: SeriesInstanceUID, "" where the header has none.
        position_mm: Position along the slice normal; SliceLocation where ImagePositionPatient is missing, NaN where both
            are.
        thickness_mm: SliceThickness, None where it is unknown.
        pixels: How the pixels are stored.
    """

    dataset: Dataset
    hu: np.ndarray
    padding: np.ndarray
    spacing_mm: float
    path: Path | None
    series_uid: str
    position_mm: float
    thickness_mm: float | None
    pixels: PixelFormat

    @property
    def name(self) -> str:
        """Return the name of this slice in messages."""
        return _name(self.path)


def read_slice(source: str | os.PathLike | Dataset) -> CTSlice:
    """Read one CT slice and convert it to Hounsfield units.

    Args:
        source: A DICOM file, compressed or not, or a `Dataset` with pixel data.

    Raises:
        DicomError: naming the file and the reason: not DICOM, truncated, not a CT image, a localizer, multi-frame,
            colour, no rescale, no spacing, pixels that are not square, or a decoder that is not installed.
    """
    if isinstance(source, Dataset):
        path, dataset = None, source
    else:
        path = Path(source)
        dataset = read_dataset(path)
    header = SliceHeader.of(dataset, path)
    with damage_named(header.name):
        dataset = _with_transfer_syntax(dataset, header.name)
        hu, padding = cells_to_hu(read_cells(dataset, header.name), header.pixels)
    return CTSlice(
        dataset=dataset,
        hu=hu,
        padding=padding,
        spacing_mm=header.spacing_mm,
        path=path,
        series_uid=header.series_uid,
        position_mm=header.position_mm,
        thickness_mm=header.thickness_mm,
        pixels=header.pixels,
    )


def content_id(ct_slice: CTSlice) -> str:
    """Return a hash of a slice's content and position, whatever its UIDs are and however it is stored."""
    place = [ct_slice.spacing_mm, None if math.isnan(ct_slice.position_mm) else ct_slice.position_mm, ct_slice.hu.shape]
    digest = hashlib.sha256(json.dumps(place).encode())
    digest.update(ct_slice.hu.tobytes())
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class SliceHeader:
    """Hold the header of a usable CT slice."""

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
    study_uid: str = ""
    spectral: str = ""  # remark on a spectral image
    is_standardized: bool = False  # by this package

    @classmethod
    def of(cls, dataset: Dataset, path: Path | None) -> SliceHeader:
        """Check a header.

        Raises:
            DicomError: if it is not that of a single, grey CT slice of known scale.
        """
        name = _name(path)
        with damage_named(name):
            if len(dataset) == 0:
                raise DicomError(f"{name} is truncated: its header cannot be read to the end.")
            _require_ct_image(dataset, name)
            kinds = header_texts(dataset, "ImageType", name)
            description = str(header_value(dataset, "SeriesDescription", name) or "")
            cosines = _optional_numbers(dataset, "ImageOrientationPatient", name, 6)
            position = _optional_numbers(dataset, "ImagePositionPatient", name, 3)
            _require_slice(dataset, name, kinds, description, cosines is not None or position is not None)
            orientation = _perpendicular(cosines, name)
            _require_transverse(orientation, name)
            pixels = pixel_format(dataset, name)
            _require_hounsfield_format(pixels, name)
            return cls(
                path=path,
                name=name,
                uid=str(header_value(dataset, "SOPInstanceUID", name) or ""),
                series_uid=str(header_value(dataset, "SeriesInstanceUID", name) or ""),
                description=description,
                shape=(int(dataset.Rows), int(dataset.Columns)),
                pixels=pixels,
                spacing_mm=_square_spacing(dataset, name),
                thickness_mm=_optional_number(dataset, "SliceThickness", name),
                orientation=orientation,
                position=position,
                slice_location=_optional_number(dataset, "SliceLocation", name),
                instance_number=_optional_number(dataset, "InstanceNumber", name) or 0.0,
                study_uid=str(header_value(dataset, "StudyInstanceUID", name) or ""),
                spectral=spectral_remark("This series", kinds, description),
                is_standardized=is_standardized(dataset, name),
            )

    @property
    def position_mm(self) -> float:
        """Return the position as in `CTSlice.position_mm`."""
        if self.position is not None and self.orientation is not None:
            return float(np.dot(np.cross(self.orientation[:3], self.orientation[3:]), self.position))
        return float("nan") if self.slice_location is None else self.slice_location

    @property
    def file(self) -> Path:
        """Return the path of a header that was read from a file, not from a `Dataset` of the caller."""
        assert self.path is not None
        return self.path


def read_dataset(path: Path, header_only: bool = False) -> Dataset:
    """Read a file as DICOM, whatever it contains.

    Raises:
        DicomError: if it cannot be read, is not DICOM, or is damaged.
    """
    if path.is_dir():
        raise DicomError(f'"{path}" is a folder, not a file.')
    if path.exists() and not path.is_file():  # opening a pipe would wait forever
        raise DicomError(f'"{path}" is not a regular file.', SkippedKind.NOT_REGULAR)
    with damage_named(f'"{path}"'), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about unusual values of attributes that are not used here
        try:
            _require_modest_size(path)
            try:
                return pydicom.dcmread(path, stop_before_pixels=header_only)
            except InvalidDicomError:
                # Some archives strip the 128-byte preamble; force=True alone would "read" any file.
                if not _starts_like_dicom(path):
                    raise
                return pydicom.dcmread(path, stop_before_pixels=header_only, force=True)
        except InvalidDicomError as error:
            if path.stat().st_size == 0:
                raise DicomError(f'"{path}" is empty.', SkippedKind.EMPTY) from error
            if advice := _advice(path):
                raise DicomError(f'"{path}" {advice}', SkippedKind.OTHER_FORMAT) from error
            raise DicomError(f'"{path}" is not a DICOM file.', SkippedKind.NOT_DICOM) from error
        except OSError as error:
            raise DicomError(f'"{path}" cannot be read: {error.strerror or error}.', SkippedKind.UNREADABLE) from error


def _advice(path: Path) -> str:
    """Return the advice on a format of images that is not read, as the rest of a sentence; "" for other files."""
    with open(path, "rb") as file:
        magic = file.read(8)
    for suffixes, start, advice in OTHER_FORMATS:
        if path.name.lower().endswith(suffixes) or (start and magic.startswith(start)):
            return advice
    return ""


def _require_modest_size(path: Path) -> None:
    """Refuse an unreasonably large deflated dataset, which pydicom would inflate completely."""
    with open(path, "rb") as file:
        if not read_preamble(file, force=True):
            return  # without a preamble there is no transfer syntax either
        # Read to the first element of another group, however long the file meta information is.
        meta = pydicom.filereader.read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
        if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
            return
        inflater, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while block := inflater.unconsumed_tail or file.read(INFLATED_AT_ONCE):
            size += len(inflater.decompress(block, INFLATED_AT_ONCE))
            if size > LARGEST_INFLATED:
                raise DicomError(f'"{path}" inflates to more than {LARGEST_INFLATED >> 20} MiB, too much for a slice.')
            if inflater.eof:
                return


def _starts_like_dicom(path: Path) -> bool:
    """Return whether a file without preamble begins with an element of group 2 or 8 of plausible length."""
    with open(path, "rb") as file:
        start = file.read(8)
    group, element = int.from_bytes(start[:2], "little"), int.from_bytes(start[2:4], "little")
    explicit = start[4:6] in (b"UL", b"OB", b"UI", b"CS", b"DA", b"TM", b"SH", b"LO", b"PN")
    short = int.from_bytes(start[4:8], "little") <= 64
    return len(start) == 8 and group in (2, 8) and element <= 0x0100 and (explicit or short)


def _with_transfer_syntax(dataset: Dataset, name: str) -> Dataset:
    """Return the dataset, with the encoding that it was read with if its file meta information names none."""
    if header_value(getattr(dataset, "file_meta", Dataset()), "TransferSyntaxUID", name):
        return dataset
    implicit, little = dataset.original_encoding
    if implicit is None:  # created in memory, not read: numbers are little-endian, as on today's machines
        implicit, little = False, True
    syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    logger.info("%s names no transfer syntax; its encoding is %s.", name, syntax.name)
    copy = Dataset(dataset)
    copy.set_original_encoding(*dataset.original_encoding)
    copy.file_meta = FileMetaDataset(getattr(dataset, "file_meta", None) or {})
    copy.file_meta.TransferSyntaxUID = syntax
    return copy


def _require_ct_image(dataset: Dataset, name: str) -> None:
    """Refuse everything except CT Image Storage, by SOP class and modality first, whatever else the header lacks."""
    sop_class = header_value(dataset, "SOPClassUID", name)
    sop_class = sop_class or header_value(getattr(dataset, "file_meta", Dataset()), "MediaStorageSOPClassUID", name)
    modality = header_value(dataset, "Modality", name)
    if sop_class == MediaStorageDirectoryStorage:
        raise DicomError(f"{name} is a DICOMDIR (a table of contents), not an image.", SkippedKind.DICOMDIR)
    if sop_class and sop_class not in (CTImageStorage, *MULTI_FRAME_CT):
        raise DicomError(f"{name} is not a CT image but {UID(str(sop_class)).name}.", SkippedKind.NOT_CT)
    if modality != "CT" and (modality or not sop_class):
        raise DicomError(f"{name} is not a CT image: its modality is {modality or 'not given'}.", SkippedKind.NOT_CT)
    frames = header_numbers(dataset, "NumberOfFrames", name, 1)
    if sop_class in MULTI_FRAME_CT or (frames and frames[0] > 1):
        count = f" with {frames[0]:g} frames" if frames else ""
        raise DicomError(
            f"{name} is a multi-frame image{count}; only single slices are supported. "
            "Convert it to one file per slice (CT Image Storage) first."
        )


def _require_slice(dataset: Dataset, name: str, image_type: list[str], description: str, is_placed: bool) -> None:
    """Refuse CT images that are not slices: localizers, projections and pictures."""
    marks = (header_value(dataset, "ConversionType", name), header_value(dataset, "BurnedInAnnotation", name) == "YES")
    found = not_a_slice(image_type, description, is_placed, any(marks))
    if found:
        raise DicomError(f"{name} {found[0]}.", found[1])


def _require_transverse(cosines: np.ndarray | None, name: str) -> None:
    """Refuse coronal and sagittal planes."""
    if cosines is not None and not is_transverse(cosines):
        normal = (np.cross(cosines[:3], cosines[3:]).round(2) + 0.0).tolist()
        raise DicomError(
            f"{name} is not a transverse slice: its normal is {normal}, as in coronal and sagittal reformats and "
            "scouts. Give the axial series.",
            SkippedKind.NOT_TRANSVERSE,
        )


def _require_hounsfield_format(pixels: PixelFormat, name: str) -> None:
    """Refuse a format that cannot hold Hounsfield units, whatever the pixels are."""
    low, high = pixels.hu_range
    if high - low < LEAST_FORMAT_SPAN_HU:
        raise DicomError(
            f"{name} can hold at most {high - low + abs(pixels.slope):g} HU in {pixels.bits_stored} bits: it is "
            "a picture, not a slice.",
            SkippedKind.PICTURE,
        )
    if low >= 0:
        raise DicomError(
            f"{name} has a rescale to {low:g} to {high:g}, none below 0: these are not Hounsfield units, in which air is "
            "-1000. Its rescale intercept (often -1024) was lost."
        )


def is_standardized(dataset: Dataset, name: str) -> bool:
    """Return whether an image is a result of this package, by its contributing equipment (PS3.3 C.12.1.1.5)."""
    try:
        items = header_value(dataset, "ContributingEquipmentSequence", name)
        return any(header_value(item, "Manufacturer", name) == MANUFACTURER for item in items or ())
    except Exception:  # damaged, so not written by a run
        return False


def _square_spacing(dataset: Dataset, name: str) -> float:
    """Return the side of a pixel in mm."""
    spacing = header_numbers(dataset, "PixelSpacing", name, 2)
    if spacing is None:
        raise DicomError(f"{name} has no pixel spacing; the size of its pixels in mm is needed.")
    if abs(spacing[0] - spacing[1]) > SQUARE_TOLERANCE * max(spacing):
        raise DicomError(
            f"{name} must have square pixels, got a pixel spacing of ({spacing[0]:g}, {spacing[1]:g}) mm. "
            "Resample the series first."
        )
    # The shorter side: reformats are as long as a patient.
    side_mm = spacing[0] * min(int(dataset.Rows), int(dataset.Columns))
    if side_mm > LARGEST_FIELD_OF_VIEW_MM:
        raise DicomError(
            f"{name} must span at most {LARGEST_FIELD_OF_VIEW_MM:g} mm, got {side_mm:g} mm for {dataset.Rows} x "
            f"{dataset.Columns} pixels of {spacing[0]:g} mm (PixelSpacing)."
        )
    return float(spacing[0])


def _perpendicular(cosines: np.ndarray | None, name: str) -> np.ndarray | None:
    """Return (6,) direction cosines along a row and down a column, or None where they are unknown."""
    if cosines is None:
        return None
    row, column = cosines[:3], cosines[3:]
    errors = (np.dot(row, row) - 1, np.dot(column, column) - 1, np.dot(row, column))
    if max(map(abs, errors)) > UNIT_VECTOR_TOLERANCE:
        raise DicomError(
            f"{name} must have two perpendicular unit vectors as ImageOrientationPatient, got {cosines.tolist()}."
        )
    return cosines


def _optional_numbers(dataset: Dataset, keyword: str, name: str, count: int) -> np.ndarray | None:
    """Return numbers that a slice does not need; unreadable ones count as missing and are logged."""
    try:
        numbers = header_numbers(dataset, keyword, name, count)
    except DicomError:  # its message quotes the value, which a log must not
        logger.warning("%s has a %s that cannot be read; it is treated as missing.", name, keyword)
        return None
    return None if numbers is None else np.array(numbers)


def _optional_number(dataset: Dataset, keyword: str, name: str) -> float | None:
    """Return one number as `_optional_numbers` does."""
    numbers = _optional_numbers(dataset, keyword, name, 1)
    return None if numbers is None else float(numbers[0])


def _name(path: Path | None) -> str:
    """Return the name of a file in messages."""
    return "The given Dataset" if path is None else f'"{path}"'
