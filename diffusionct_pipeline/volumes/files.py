"""Volumes from files and into files, whole or not at all."""

from __future__ import annotations

import contextlib
import gzip
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..dicom import SkippedKind
from ..utils.files import whole_file
from .errors import VolumeError
from .grid import MOST_VOXELS, AxialGrid
from .nifti import NiftiHeader
from .nrrd import NrrdHeader
from .volume import CTVolume, VolumeHeader

FORMATS = {".nii.gz": NiftiHeader, ".nii": NiftiHeader, ".nrrd": NrrdHeader}
VOLUME_SUFFIXES = tuple(FORMATS)
GZIP_MAGIC = b"\x1f\x8b"
HEADER_BYTES = 1 << 20  # in which a header ends, extensions included: what parsing may take has an end
COMPRESSION = 1  # of noise: a level of 6 takes 2.4 times as long and saves .2 % of a standardized chest
MADE_BY = "DiffusionCT"  # what the description of a derived volume begins with


def volume_suffix(path: str | os.PathLike) -> str:
    """ ".nii.gz", ".nii" or ".nrrd", in whatever case; "" for other names."""
    return next((suffix for suffix in FORMATS if Path(path).name.lower().endswith(suffix)), "")


def is_volume(path: str | os.PathLike) -> bool:
    """Whether a file is named like a volume."""
    return volume_suffix(path) != ""


def read_volume_header(path: str | os.PathLike) -> VolumeHeader:
    """Read what stands before the voxels, and check that they are axial slices.

    Raises:
        VolumeError: naming the file and the reason.
        ImportError: naming the package that reads this format, which is not installed.
    """
    path = Path(path)
    with _opened(path) as stream:
        return _header(stream, path)


def read_volume(path: str | os.PathLike) -> CTVolume:
    """Read a NIfTI or NRRD file.

    Raises:
        VolumeError: naming the file and the reason: damaged or truncated, more or fewer than three dimensions, no
            affine, sheared, oblique, pixels that are not square, or no Hounsfield units.
        ImportError: as of `read_volume_header`.
    """
    volume = _read(Path(path))
    volume.require_hu(f'"{path}"')
    return volume


def write_volume(volume: CTVolume, path: str | os.PathLike) -> Path:
    """Write a derived volume under the header of its source, so that `path` holds all of it or what it held before.

    An existing file is replaced only if it is an earlier result of this package.

    Args:
        volume: Of `CTVolume.derived`, its source read from a file.
        path: Of the format that the source has; .nii and .nii.gz are one.

    Raises:
        VolumeError: the format is another, the volume comes from no file, or `path` is no earlier result.
        OSError: it cannot be written; nothing is left behind.
    """
    path = Path(path)
    if volume.header is None:
        raise VolumeError(f'"{path}" was not written: the volume comes from no file whose header could be kept.')
    fields = volume.header.fields
    if FORMATS.get(volume_suffix(path)) is not type(fields):
        legal = " or ".join(suffix for suffix, kind in FORMATS.items() if kind is type(fields))
        raise VolumeError(f'"{path}" was not written: a volume from "{volume.header.path}" can be {legal}.')
    if path.exists() and (path.samefile(volume.header.path) or not made_here(path)):
        raise VolumeError(f'"{path}" exists and is not a result of DiffusionCT; it is not overwritten.')
    head, stored = fields.for_voxels(volume.voxels.dtype, volume.description)
    voxels = np.ascontiguousarray(volume.voxels.astype(stored, copy=False).T)  # x comes first in the file
    is_zipped = volume_suffix(path) == ".nii.gz"
    with whole_file(path) as part, open(part, "wb") as file, _compressed(file, is_zipped) as whole:
        whole.write(head)
        with _compressed(whole, fields.compressed) as body:
            for plane in voxels:  # one by one: what is compressed at once is in memory twice
                body.write(plane)
    return path


def made_here(path: Path) -> bool:
    """Whether a file is a volume that this package derived."""
    try:
        return is_result(read_volume_header(path))
    except (VolumeError, OSError):
        return False


def is_result(header: VolumeHeader) -> bool:
    """Whether a volume is a result of this package."""
    return header.fields.made_by.startswith(MADE_BY)


def written_volume(path: Path, source: CTVolume) -> CTVolume | None:
    """What `write_volume` wrote of a source, with its description; None if the file is absent or of something else."""
    try:
        volume = _read(path)
    except (VolumeError, OSError):
        return None
    fields = volume.header.fields
    if not fields.made_by.startswith(MADE_BY) or (fields.slope, fields.intercept) != (1, 0):
        return None
    native = volume.voxels.astype(volume.voxels.dtype.newbyteorder("="), copy=False)
    if fields.raw != source.header.fields.for_voxels(native.dtype, fields.made_by)[0]:
        return None
    return CTVolume(native, source.grid, header=source.header, description=fields.made_by)


def read_voxels(path: str | os.PathLike, most: int = MOST_VOXELS) -> tuple[np.ndarray, np.ndarray]:
    """Read a file of any regular grid, a mask for example.

    Args:
        path: NIfTI or NRRD.
        most: Voxels that it may have.

    Returns:
        Scaled voxels (x, y, z) and the affine (4, 4), index -> mm to the left, to the back and to the head (LPS).

    Raises:
        VolumeError: naming the file and the reason: damaged or truncated, too large, or without an affine.
        ImportError: as of `read_volume_header`.
    """
    path = Path(path)
    with _opened(path) as stream:
        fields = _fields(stream, path)
        voxels = _voxels(stream, fields, path, most)
    if (fields.slope, fields.intercept) != (1, 0):
        voxels = voxels * fields.slope + fields.intercept
    return voxels, fields.affine


def _read(path: Path) -> CTVolume:
    """A file, whatever its values are."""
    with _opened(path) as stream:
        header = _header(stream, path)
        fields = header.fields
        return CTVolume(_voxels(stream, fields, path), header.grid, fields.slope, fields.intercept, header)


def _voxels(stream: BinaryIO, fields: NiftiHeader | NrrdHeader, path: Path, most: int = MOST_VOXELS) -> np.ndarray:
    """(x, y, z) as they are stored, whole."""
    if np.prod(fields.shape, dtype=float) > most:
        raise VolumeError(f'"{path}" holds {fields.shape} voxels; legal are {most} in all.')
    stream.seek(len(fields.raw))
    if fields.compressed:
        stream = gzip.GzipFile(fileobj=stream)
    expected = int(np.prod(fields.shape, dtype=np.int64)) * fields.dtype.itemsize
    data = stream.read(expected + 1)  # to the end, where the checksum is
    if len(data) != expected:
        found = "more" if len(data) > expected else f"{len(data)}"
        raise VolumeError(f'"{path}" is damaged: it holds {found} of {expected} bytes of voxels.')
    return np.frombuffer(data, fields.dtype).reshape(fields.shape, order="F")


def _fields(stream: BinaryIO, path: Path) -> NiftiHeader | NrrdHeader:
    """From the beginning of a file."""
    return FORMATS[volume_suffix(path)].of(stream.read(HEADER_BYTES), f'"{path}"')


def _header(stream: BinaryIO, path: Path) -> VolumeHeader:
    """Of axial slices."""
    fields = _fields(stream, path)
    return VolumeHeader(path, fields, AxialGrid.of(fields.shape, fields.affine, f'"{path}"'))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """A file, decompressed if all of it is compressed; what reading it raises becomes a `VolumeError`."""
    if not is_volume(path):
        raise VolumeError(f'"{path}" is no volume; legal are {", ".join(VOLUME_SUFFIXES)}.')
    if path.exists() and not path.is_file():  # to open a pipe would wait for ever
        raise VolumeError(f'"{path}" is not a regular file.', SkippedKind.NOT_REGULAR)
    try:
        with open(path, "rb") as file:
            is_compressed = file.read(2) == GZIP_MAGIC
            file.seek(0)
            yield gzip.GzipFile(fileobj=file) if is_compressed else file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise VolumeError(f'"{path}" is damaged: {error}') from error
    except OSError as error:
        raise VolumeError(f'"{path}" cannot be read: {error.strerror or error}.') from error


def _compressed(stream: BinaryIO, really: bool) -> contextlib.AbstractContextManager[BinaryIO]:
    """Writes to a stream as gzip, the same bytes each time; the stream itself if not `really`."""
    return gzip.GzipFile("", "wb", COMPRESSION, stream, mtime=0) if really else contextlib.nullcontext(stream)
