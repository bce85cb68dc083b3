"""Headers of NIfTI-1 and NIfTI-2 in one file: read, and given back for other voxels with everything else as it was.

Source: https://nifti.nimh.nih.gov, nifti1.h and nifti2.h.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .errors import VolumeError
from .grid import TO_LPS

# What of a header is read or changed: name -> type and offset in bytes.
NIFTI_1 = {
    "dim": ("8i2", 40), "datatype": ("i2", 70), "bitpix": ("i2", 72), "pixdim": ("8f4", 76), "vox_offset": ("f4", 108),
    "scl_slope": ("f4", 112), "scl_inter": ("f4", 116), "xyzt_units": ("u1", 123), "descrip": ("S80", 148),
    "qform_code": ("i2", 252), "sform_code": ("i2", 254), "quatern": ("3f4", 256), "qoffset": ("3f4", 268),
    "srow": ("(3,4)f4", 280), "magic": ("S4", 344),
}  # fmt: skip
NIFTI_2 = {
    "magic": ("S8", 4), "datatype": ("i2", 12), "bitpix": ("i2", 14), "dim": ("8i8", 16), "pixdim": ("8f8", 104),
    "vox_offset": ("i8", 168), "scl_slope": ("f8", 176), "scl_inter": ("f8", 184), "descrip": ("S80", 240),
    "qform_code": ("i4", 344), "sform_code": ("i4", 348), "quatern": ("3f8", 352), "qoffset": ("3f8", 376),
    "srow": ("(3,4)f8", 400), "xyzt_units": ("i4", 500),
}  # fmt: skip
SIZES = {348: NIFTI_1, 540: NIFTI_2}
IN_ONE_FILE = (b"n+1", b"n+2\0\r\n\x1a\n")
DATA_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
UNITS_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # unknown, m, mm, um
LARGEST_HEADER = 1 << 24  # bytes, extensions included


@dataclass(frozen=True)
class NiftiHeader:
    """What stands before the voxels of a .nii file.

    Attributes:
        raw: Its bytes, extensions included.
        fields: The header, see `NIFTI_1`; of one entry.
        shape: Voxels along x, y, z, of which x comes first in the file.
        affine: (4, 4), index -> mm, LPS.
        dtype: Of a stored value, in the byte order of the file.
        slope, intercept: HU = stored * slope + intercept.
    """

    raw: bytes
    fields: np.ndarray
    shape: tuple[int, int, int]
    affine: np.ndarray
    dtype: np.dtype
    slope: float
    intercept: float

    @classmethod
    def of(cls, data: bytes, name: str) -> NiftiHeader:
        """Read the header from the first bytes of a file.

        Raises:
            VolumeError: It is none, or one of something else than a single grey volume that says where it lies.
        """
        fields = _fields(data, name)
        offset = fields["vox_offset"][0]
        if not fields.itemsize <= offset <= LARGEST_HEADER:
            raise VolumeError(f"{name} is damaged: its voxels begin at byte {offset:g}.")
        if len(data) < offset:
            raise VolumeError(f"{name} is truncated: its header takes {int(offset)} bytes.")
        kind = int(fields["datatype"][0])
        if kind not in DATA_TYPES:
            raise VolumeError(f"{name} has NIfTI data type {kind}; legal are integers and floats, no colour.")
        slope, intercept = float(fields["scl_slope"][0]), float(fields["scl_inter"][0])
        if not (math.isfinite(slope) and math.isfinite(intercept)) or slope == 0:  # which NIfTI has for "not scaled"
            slope, intercept = 1.0, 0.0
        dtype = np.dtype(DATA_TYPES[kind]).newbyteorder(fields.dtype["dim"].base.byteorder)
        shape, affine = _shape(fields, name), _affine(fields, name)
        return cls(data[: int(offset)], fields, shape, affine, dtype, slope, intercept)

    @property
    def made_by(self) -> str:
        """What its description says."""
        return self.fields["descrip"][0].decode("latin-1")

    def with_voxels(self, voxels: np.ndarray, description: str) -> tuple[bytes, bytes]:
        """The same header for other voxels (x, y, z), which are HU, with another description; and their bytes."""
        raw = bytearray(self.raw)
        fields = np.frombuffer(raw, self.fields.dtype, 1)
        fields["datatype"] = next(code for code, kind in DATA_TYPES.items() if np.dtype(kind) == voxels.dtype)
        fields["bitpix"] = 8 * voxels.dtype.itemsize
        if (self.slope, self.intercept) != (1, 0):
            fields["scl_slope"], fields["scl_inter"] = 1, 0
        fields["descrip"] = description.encode("ascii", "replace")
        return bytes(raw), voxels.astype(voxels.dtype.newbyteorder(self.dtype.byteorder), copy=False).tobytes("F")


def _fields(data: bytes, name: str) -> np.ndarray:
    """The header as an array of one entry, in the byte order of the file."""
    for order in "<>":
        size = int(np.frombuffer(data[:4].ljust(4, b"\0"), f"{order}i4")[0])
        if size in SIZES and len(data) >= size:
            table = SIZES[size]
            formats, offsets = zip(*table.values())
            layout = np.dtype({"names": list(table), "formats": formats, "offsets": offsets, "itemsize": size})
            fields = np.frombuffer(data, layout.newbyteorder(order), 1)
            if bytes(fields["magic"][0]) in IN_ONE_FILE:
                return fields
            raise VolumeError(f"{name} is not NIfTI in one file: its magic is {bytes(fields['magic'][0])!r}.")
    raise VolumeError(f"{name} is not a NIfTI file, or truncated.")


def _shape(fields: np.ndarray, name: str) -> tuple[int, int, int]:
    """Of the one volume."""
    count, *sizes = (int(size) for size in fields["dim"][0])
    sizes = sizes[: max(count, 0)]
    if not 3 <= count <= 7 or any(size != 1 for size in sizes[3:]):
        raise VolumeError(f"{name} has {count} dimensions of {tuple(sizes)} voxels; legal is one volume, 3 dimensions.")
    return tuple(sizes[:3])


def _affine(fields: np.ndarray, name: str) -> np.ndarray:
    """(4, 4), index -> mm, LPS; the sform where there is one, else the qform."""
    affine = np.eye(4)
    if fields["sform_code"][0] > 0:
        affine[:3] = fields["srow"][0]
    elif fields["qform_code"][0] > 0:
        sides = fields["pixdim"][0].astype(np.float64)
        direction = rotation(*fields["quatern"][0].astype(np.float64))
        affine[:3, :3] = direction * sides[1:4] * [1, 1, -1 if sides[0] < 0 else 1]
        affine[:3, 3] = fields["qoffset"][0]
    else:
        raise VolumeError(f"{name} does not say where it lies: sform_code and qform_code are 0, so that it is not "
                          "known which axis is that of the slices. Set one of them, or pass the slices as an array.")
    unit = int(fields["xyzt_units"][0]) & 7
    if unit not in UNITS_MM:
        raise VolumeError(f"{name} has unit {unit} of length; legal are 0 to 3.")
    affine[:3] *= UNITS_MM[unit]
    return TO_LPS @ affine


def rotation(b: float, c: float, d: float) -> np.ndarray:
    """(3, 3) of a quaternion whose real part is not negative and left out (nifti1.h, method 2)."""
    a = math.sqrt(max(0.0, 1 - b * b - c * c - d * d))
    return np.array([
        [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
        [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
        [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
    ])  # fmt: skip
