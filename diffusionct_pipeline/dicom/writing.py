"""Write derived images: they replace only earlier results, and no file is left half-written."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

from ..utils.files import whole_file
from .errors import DicomError
from .reading import is_standardized


def write_slice(dataset: Dataset, path: str | os.PathLike) -> Path:
    """Write a slice so that `path` holds either all of it or what it held before.

    The file is written under a temporary name in the same folder (which is created if needed), read back, compared, and
    renamed. An existing file is replaced only if it is an earlier result: one of the same SOPInstanceUID, or another image
    made by this package that is not a source of this one.

    Returns:
        The path.

    Raises:
        DicomError: if the file cannot be written (no space, no permission), reads back differently, or would replace
            something other than an earlier result. Nothing is left behind.
    """
    path = Path(path)
    _require_replaceable(path, dataset)
    try:
        with whole_file(path) as part:
            pydicom.dcmwrite(part, dataset, enforce_file_format=True)
            written = pydicom.dcmread(part)
            if written.SOPInstanceUID != dataset.SOPInstanceUID or written.PixelData != dataset.PixelData:
                raise DicomError(f'"{path}" was not written: its pixels read back differently.')
    except OSError as error:
        raise DicomError(f'"{path}" cannot be written: {error.strerror or error}.') from error
    except DicomError:  # which is a ValueError, too
        raise
    except (
        AttributeError,
        TypeError,
        ValueError,
        struct.error,
    ) as error:  # pydicom's, for values that no file can hold
        raise DicomError(f'"{path}" cannot be written: {error}') from error
    return path


def _require_replaceable(path: Path, dataset: Dataset) -> None:
    """Refuse to overwrite a source image, or a file of unknown origin."""
    if not path.exists():
        return
    if not path.is_file():  # opening a pipe would wait forever
        raise DicomError(f'"{path}" exists and is not a regular file; it is not overwritten.')
    try:
        existing = pydicom.dcmread(path, stop_before_pixels=True)
        uid = str(existing.SOPInstanceUID)
        ours = is_standardized(existing, f'"{path}"')
    except Exception as error:
        raise DicomError(f'"{path}" exists and is not a DICOM file; it is not overwritten.') from error
    sources = [str(item.get("ReferencedSOPInstanceUID")) for item in dataset.get("SourceImageSequence", [])]
    if uid in sources:
        raise DicomError(f'"{path}" is the source image of this slice; it is not overwritten.')
    if uid != dataset.SOPInstanceUID and not ours:
        raise DicomError(f'"{path}" exists and is another image (not made by DiffusionCT); it is not overwritten.')
