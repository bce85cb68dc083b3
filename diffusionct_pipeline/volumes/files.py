"""Read volumes from files and write them to files, completely or not at all."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..dicom import SkippedKind
from ..utils.files import whole_file
from .errors import VolumeError
from .grid import MOST_VOXELS, AxialGrid
from .nifti import NiftiHeader
from .nrrd import NrrdHeader
from .volume import CTVolume, VolumeHeader

FORMATS: dict[str, type[NiftiHeader] | type[NrrdHeader]] = {
    ".nii.gz": NiftiHeader,
    ".nii": NiftiHeader,
    ".nrrd": NrrdHeader,
}
VOLUME_SUFFIXES = tuple(FORMATS)
GZIP_MAGIC = b"\x1f\x8b"
HEADER_BYTES = 1 << 20  # limit of a header, extensions included, which also limits what parsing may take
COMPRESSION = 1  # noise hardly compresses: level 6 takes 2.4 times as long and saves .2 % of a standardized chest
MADE_BY = "DiffusionCT"  # prefix of the description of a derived volume


def volume_suffix(path: str | os.PathLike) -> str:
    """Return ".nii.gz", ".nii" or ".nrrd" for names that end so in any case; "" for other names."""
    return next((suffix for suffix in FORMATS if Path(path).name.lower().endswith(suffix)), "")


def is_volume(path: str | os.PathLike) -> bool:
    """Return whether a file is named like a volume."""
    return volume_suffix(path) != ""


def read_volume_header(path: str | os.PathLike) -> VolumeHeader:
    """Read the header of a volume, and check that its voxels are axial slices.

    Raises:
        VolumeError: naming the file and the reason.
        ImportError: naming the package that reads this format, if it is not installed.
    """
    path = Path(path)
    with _opened(path) as stream:
        return _header(stream, path)


def read_volume(path: str | os.PathLike) -> CTVolume:
    """Read a NIfTI or NRRD file.

    Raises:
        VolumeError: naming the file and the reason: damaged or truncated, more or fewer than three dimensions, no
            affine, sheared, oblique, pixels that are not square, or no Hounsfield units.
        ImportError: as in `read_volume_header`.
    """
    volume = _read(Path(path))
    volume.require_hu(f'"{path}"')
    return volume


def write_volume(volume: CTVolume, path: str | os.PathLike) -> Path:
    """Write a derived volume with the header of its source, so that `path` holds all of it or what it held before.

    An existing file is replaced only if it is an earlier result of this package.

    Args:
        volume: From `CTVolume.derived`, its source read from a file.
        path: The file to write, in the format of the source; .nii and .nii.gz count as one.

    Raises:
        VolumeError: if the format is another, the volume does not come from a file, or `path` is not an earlier result.
        OSError: if it cannot be written; nothing is left behind.
    """
    path = Path(path)
    if volume.header is None:
        raise VolumeError(
            f'"{path}" was not written: the volume does not come from a file, whose header would be kept.'
        )
    fields = volume.header.fields
    if FORMATS.get(volume_suffix(path)) is not type(fields):
        allowed = " or ".join(suffix for suffix, kind in FORMATS.items() if kind is type(fields))
        raise VolumeError(f'"{path}" was not written: a volume from "{volume.header.path}" must be {allowed}.')
    if path.exists() and (path.samefile(volume.header.path) or not made_here(path)):
        raise VolumeError(f'"{path}" exists and is not a result of DiffusionCT; it is not overwritten.')
    head, stored = fields.for_voxels(volume.voxels.dtype, volume.description)
    voxels = np.ascontiguousarray(volume.voxels.astype(stored, copy=False).T)  # x varies fastest in the file
    is_zipped = volume_suffix(path) == ".nii.gz"
    with whole_file(path) as part, open(part, "wb") as file, _compressed(file, is_zipped) as whole:
        whole.write(head)
        with _compressed(whole, fields.compressed) as body:
            for plane in voxels:  # one by one, as data compressed at once are in memory twice
                body.write(plane)
    return path


def made_here(path: Path) -> bool:
    """Return whether a file is a volume that this package derived."""
    try:
        return is_result(read_volume_header(path))
    except (VolumeError, OSError):
        return False


def is_result(header: VolumeHeader) -> bool:
    """Return whether a volume is a result of this package."""
    return header.fields.made_by.startswith(MADE_BY)


def written_volume(path: Path, source: CTVolume) -> CTVolume | None:
    """Return what `write_volume` wrote for a source, with its description; None if the file is absent or anything else."""
    try:
        volume = _read(path)
    except (VolumeError, OSError):
        return None
    if volume.header is None or source.header is None:
        return None
    fields = volume.header.fields
    if not fields.made_by.startswith(MADE_BY) or (fields.slope, fields.intercept) != (1, 0):
        return None
    native = volume.voxels.astype(volume.voxels.dtype.newbyteorder("="), copy=False)
    if fields.raw != source.header.fields.for_voxels(native.dtype, fields.made_by)[0]:
        return None
    return CTVolume(native, source.grid, header=source.header, description=fields.made_by)


def read_voxels(path: str | os.PathLike, most: int = MOST_VOXELS) -> tuple[np.ndarray, np.ndarray]:
    """Read a file with any regular grid, such as a mask.

    Args:
        path: NIfTI or NRRD file.
        most: Largest number of voxels.

    Returns:
        Scaled voxels (x, y, z) and the affine (4, 4), index -> mm to the left, to the back and to the head (LPS).

    Raises:
        VolumeError: naming the file and the reason: damaged or truncated, too large, or without an affine.
        ImportError: as in `read_volume_header`.
    """
    path = Path(path)
    with _opened(path) as stream:
        fields = _fields(stream, path)
        voxels = _voxels(stream, fields, path, most)
    if (fields.slope, fields.intercept) != (1, 0):
        voxels = voxels * fields.slope + fields.intercept
    return voxels, fields.affine


def _read(path: Path) -> CTVolume:
    """Read a volume without checking its values."""
    with _opened(path) as stream:
        header = _header(stream, path)
        fields = header.fields
        return CTVolume(_voxels(stream, fields, path), header.grid, fields.slope, fields.intercept, header)


def _voxels(
    stream: io.BufferedIOBase, fields: NiftiHeader | NrrdHeader, path: Path, most: int = MOST_VOXELS
) -> np.ndarray:
    """Read all voxels (x, y, z) as they are stored."""
    if np.prod(fields.shape, dtype=float) > most:
        raise VolumeError(f'"{path}" must hold at most {most} voxels, got {fields.shape}.')
    stream.seek(len(fields.raw))
    body = gzip.GzipFile(fileobj=stream) if fields.compressed else stream
    expected = int(np.prod(fields.shape, dtype=np.int64)) * fields.dtype.itemsize
    data = body.read(expected + 1)  # to the end, where the checksum is
    if len(data) != expected:
        found = "more" if len(data) > expected else f"{len(data)}"
        raise VolumeError(f'"{path}" is damaged: it must hold {expected} bytes of voxels, got {found}.')
    return np.frombuffer(data, fields.dtype).reshape(fields.shape, order="F")


def _fields(stream: io.BufferedIOBase, path: Path) -> NiftiHeader | NrrdHeader:
    """Read the header's fields at the beginning of a file."""
    return FORMATS[volume_suffix(path)].of(stream.read(HEADER_BYTES), f'"{path}"')


def _header(stream: io.BufferedIOBase, path: Path) -> VolumeHeader:
    """Read the header and check that its voxels are axial slices."""
    fields = _fields(stream, path)
    return VolumeHeader(path, fields, AxialGrid.of(fields.shape, fields.affine, f'"{path}"'))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[io.BufferedIOBase]:
    """Open a file, decompressing it if all of it is compressed; turn errors of reading it into a `VolumeError`."""
    if not is_volume(path):
        raise VolumeError(f'"{path}" must be a volume, one of {", ".join(VOLUME_SUFFIXES)}.')
    if path.exists() and not path.is_file():  # opening a pipe would wait forever
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


def _compressed(stream: io.BufferedIOBase, really: bool) -> contextlib.AbstractContextManager[io.BufferedIOBase]:
    """Return a gzip writer to a stream, the same bytes each time; the stream itself unless `really`."""
    if really:
        return gzip.GzipFile("", "wb", COMPRESSION, stream, mtime=0)
    return contextlib.nullcontext(stream)
