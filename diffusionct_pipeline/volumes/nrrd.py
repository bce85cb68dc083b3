"""Read headers of NRRD with the voxels in the same file with pynrrd, and adapt them to other voxels.

Changes are made in the header's text. pynrrd would drop comments and non-ASCII letters, turn unknown fields into keys, and
add the time, so that no two runs would write the same bytes.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..utils.optional import import_optional
from .errors import VolumeError
from .grid import TO_LPS

KEY = "DiffusionCT"
GZIP = ("gzip", "gz")
TYPES = {"i2": "short", "f4": "float"}  # of derived volumes
TO_LPS_OF = {
    "left-posterior-superior": np.eye(4), "LPS": np.eye(4),
    "right-anterior-superior": TO_LPS, "RAS": TO_LPS,
    "left-anterior-superior": np.diag([1.0, -1.0, 1.0, 1.0]), "LAS": np.diag([1.0, -1.0, 1.0, 1.0]),
}  # fmt: skip
REFUSED_FIELDS = ("data file", "datafile", "line skip", "lineskip", "byte skip", "byteskip")  # voxels in another place


@dataclass(frozen=True)
class NrrdHeader:
    """Hold the header of a .nrrd file.

    Attributes:
        raw: The bytes before the voxels.
        compressed: Whether the voxels are compressed.
        shape, affine, dtype: As in `NiftiHeader`.
        made_by: Value of its key `DiffusionCT`.
    """

    raw: bytes
    compressed: bool
    shape: tuple[int, int, int]
    affine: np.ndarray
    dtype: np.dtype
    made_by: str
    slope = 1.0
    intercept = 0.0
    doubt = ""

    @classmethod
    def of(cls, data: bytes, name: str) -> NrrdHeader:
        """Read the header from the first bytes of a file.

        Raises:
            VolumeError: if it is not a header of a single grey volume with a known position.
            ImportError: if pynrrd is not installed.
        """
        fields, raw = _fields(data, name)
        encoding, sizes = fields.get("encoding"), tuple(map(int, fields.get("sizes", ())))
        elsewhere = [key for key in REFUSED_FIELDS if fields.get(key, 0) != 0]
        if encoding not in ("raw", *GZIP) or elsewhere:
            found = elsewhere[0] if elsewhere else f"encoding {encoding}"
            raise VolumeError(f"{name} must hold its voxels itself, with encoding raw or gzip, got {found}.")
        if fields.get("dimension") != 3 or len(sizes) != 3:
            found = f"{fields.get('dimension')} dimensions of {sizes} voxels"
            raise VolumeError(f"{name} must hold one volume of 3 dimensions, got {found}.")
        dtype, affine = _dtype(fields, name), _affine(fields, name)
        return cls(raw, encoding in GZIP, sizes, affine, dtype, fields.get(KEY, ""))

    def for_voxels(self, dtype: np.dtype, description: str) -> tuple[bytes, np.dtype]:
        """Return this header for HU voxels of another type with another description, and the type to store them in."""
        replaced = (b"type", b"endian", KEY.lower().encode())
        kept = [line for line in self.raw.rstrip().split(b"\n") if line.split(b":")[0].strip().lower() not in replaced]
        added = f"type: {TYPES[dtype.str[1:]]}\nendian: little\n{KEY}:={description}\n\n"
        return b"\n".join([*kept, added.encode("ascii", "replace")]), dtype.newbyteorder("<")


def _fields(data: bytes, name: str) -> tuple[dict[str, Any], bytes]:
    """Return the header parsed, and its bytes."""
    # As text, because pynrrd drops non-ASCII letters of bytes.
    nrrd, stream = import_optional("nrrd"), io.StringIO(data.decode("latin-1"))
    try:
        fields = nrrd.read_header(stream)
    except (nrrd.NRRDError, ValueError, IndexError, StopIteration) as error:
        raise VolumeError(f"{name} is not an NRRD file, or damaged or truncated: {error}.") from error
    raw = data[: stream.tell()]
    if raw.splitlines()[-1].strip():  # an empty line ends it
        raise VolumeError(f"{name} is truncated: its NRRD header has no end.")
    return fields, raw


def _dtype(fields: dict[str, Any], name: str) -> np.dtype:
    """Return the type of a stored value, in the byte order of the file: the type of a single zero read by pynrrd."""
    nrrd, one = import_optional("nrrd"), {"dimension": 1, "sizes": np.ones(1, int), "encoding": "raw"}
    try:
        return nrrd.read_data({**fields, **one}, io.BytesIO(bytes(8))).dtype
    except (nrrd.NRRDError, ValueError, KeyError) as error:
        found = f"NRRD type {fields.get('type')} and endian {fields.get('endian')}"
        raise VolumeError(f"{name} must hold integers or floats, little- or big-endian, got {found}.") from error


def _affine(fields: dict[str, Any], name: str) -> np.ndarray:
    """Return the affine (4, 4), index -> mm, LPS."""
    space, units = fields.get("space"), set(fields.get("space units", ()))
    directions, origin = np.array(fields.get("space directions")), np.array(fields.get("space origin"))
    if space not in TO_LPS_OF or directions.shape != (3, 3) or origin.shape != (3,):
        found = f"space {space}, space directions {directions.tolist()} and space origin {origin.tolist()}"
        needed = f"a space ({', '.join(TO_LPS_OF)}), and space directions and a space origin of 3 numbers each"
        raise VolumeError(f"{name} has no position: it must have {needed}, got {found}.")
    if not units <= {"mm", ""}:
        raise VolumeError(f"{name} must have space units of mm, got {sorted(units)}.")
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = directions.T, origin
    return TO_LPS_OF[space] @ affine
