"""Headers of NRRD with its voxels in the same file: read, and given back for other voxels with the rest as it was.

Source: https://teem.sourceforge.net/nrrd/format.html.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from .errors import VolumeError
from .grid import TO_LPS

END = re.compile(rb"\r?\n\r?\n")  # of the header
LARGEST_HEADER = 1 << 20  # bytes
KEY = "DiffusionCT"
TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "f4": ("float",),
    "f8": ("double",),
}
GZIP = ("gzip", "gz")
TO_LPS_OF = {
    "left-posterior-superior": np.eye(4), "LPS": np.eye(4),
    "right-anterior-superior": TO_LPS, "RAS": TO_LPS,
    "left-anterior-superior": np.diag([1.0, -1.0, 1.0, 1.0]), "LAS": np.diag([1.0, -1.0, 1.0, 1.0]),
}  # fmt: skip
REFUSED_FIELDS = ("data file", "datafile", "line skip", "lineskip", "byte skip", "byteskip")  # voxels are elsewhere


@dataclass(frozen=True)
class NrrdHeader:
    """What stands before the voxels of a .nrrd file.

    Attributes:
        raw: Its bytes.
        compressed: Whether the voxels are.
        shape, affine, dtype: As in `NiftiHeader`.
    """

    raw: bytes
    compressed: bool
    shape: tuple[int, int, int]
    affine: np.ndarray
    dtype: np.dtype
    slope = 1.0
    intercept = 0.0

    @classmethod
    def of(cls, data: bytes, name: str) -> NrrdHeader:
        """Read the header from the first bytes of a file.

        Raises:
            VolumeError: It is none, or one of something else than a single grey volume that says where it lies.
        """
        end = END.search(data, 0, LARGEST_HEADER)
        if not data.startswith(b"NRRD000") or end is None:
            raise VolumeError(f"{name} is not an NRRD file, or truncated.")
        lines = data[: end.start()].decode("latin-1").splitlines()
        pairs = (line.split(":", 1) for line in lines[1:] if ":" in line and ":=" not in line and line[0] != "#")
        fields = {key.strip().lower(): value.strip() for key, value in pairs}
        encoding, kind = fields.get("encoding"), fields.get("type")
        elsewhere = [key for key in REFUSED_FIELDS if fields.get(key, "0") != "0"]
        if encoding not in ("raw", *GZIP) or elsewhere:
            found = elsewhere[0] if elsewhere else f"encoding {encoding}"
            raise VolumeError(f"{name} has {found}; legal are voxels in the file itself, encoding raw or gzip.")
        dtype = next((np.dtype(code) for code, names in TYPES.items() if kind in names), None)
        if dtype is None:
            legal = ", ".join(names[0] for names in TYPES.values())
            raise VolumeError(f"{name} has NRRD type {kind}; legal are {legal}.")
        dtype = dtype.newbyteorder(">" if fields.get("endian") == "big" else "<")
        if fields.get("dimension") != "3":
            raise VolumeError(f"{name} has {fields.get('dimension')} dimensions of {fields.get('sizes')} voxels; legal "
                              "is one volume, 3 dimensions.")
        sizes = _numbers(fields, "sizes", 3, name)
        return cls(data[: end.end()], encoding in GZIP, tuple(map(int, sizes)), _affine(fields, name), dtype)

    @property
    def lines(self) -> list[str]:
        """Of the header, without the empty one that ends it."""
        return self.raw.decode("latin-1").splitlines()[:-1]

    @property
    def made_by(self) -> str:
        """What its key `DiffusionCT` says."""
        return next((line.split(":=", 1)[1] for line in self.lines if line.startswith(f"{KEY}:=")), "")

    def with_voxels(self, voxels: np.ndarray, description: str) -> tuple[bytes, bytes]:
        """The same header for other voxels (x, y, z), which are HU, with another description; and their bytes."""
        changed = {"type": TYPES[voxels.dtype.str[1:]][0], "endian": "little"}
        replaced = (*changed, KEY.lower())
        kept = [line for line in self.lines if line.split(":")[0].strip().lower() not in replaced]
        lines = [*kept, *(f"{key}: {value}" for key, value in changed.items()), f"{KEY}:={description}"]
        return "\n".join([*lines, "", ""]).encode("latin-1"), voxels.astype(voxels.dtype.newbyteorder("<")).tobytes("F")


def _affine(fields: dict[str, str], name: str) -> np.ndarray:
    """(4, 4), index -> mm, LPS."""
    space, units = fields.get("space"), set(re.findall(r'"([^"]*)"', fields.get("space units", "")))
    if space not in TO_LPS_OF or "space directions" not in fields or "space origin" not in fields:
        raise VolumeError(f"{name} does not say where it lies: its space is {space}. Needed are space (legal: "
                          f"{', '.join(TO_LPS_OF)}), space directions and space origin.")
    if not units <= {"mm", ""}:
        raise VolumeError(f"{name} has space units {sorted(units)}; legal is mm.")
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(_numbers(fields, "space directions", 9, name), (3, 3)).T
    affine[:3, 3] = _numbers(fields, "space origin", 3, name)
    return TO_LPS_OF[space] @ affine


def _numbers(fields: dict[str, str], key: str, count: int, name: str) -> list[float]:
    """So many numbers of a field, brackets left out."""
    try:
        numbers = [float(text) for text in re.split(r"[\s(),]+", fields[key].strip("() "))]
        if len(numbers) == count and np.isfinite(numbers).all():
            return numbers
    except (KeyError, ValueError):
        pass
    raise VolumeError(f"{name} has {key} {fields.get(key)!r}; expected {count} finite numbers.")
