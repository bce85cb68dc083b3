"""Volumes made to measure, without the code that reads them."""

import gzip
import itertools
import struct

import numpy as np

COUNT, STEP, FIRST, THICKNESS = 4, 0.6, -1.2, 2.5  # a scan; slices and mm; one slice lies at 0, which has two signs
CODES = {"|u1": 2, "i2": 4, "i4": 8, "f4": 16, "f8": 64, "u2": 512}
NRRD_TYPES = {"i2": "short", "f4": "float", "u2": "ushort"}
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def phantom(slices=3, rows=40, columns=48, seed=0):
    """(slices, rows, columns) of whole HU: no two slices, rows or columns are alike."""
    noise = np.random.default_rng(seed).normal(0, 30, (slices, rows, columns))
    ramp = np.linspace(-1000, 600, slices * rows * columns).reshape(slices, rows, columns)
    return np.rint(ramp + noise).astype(np.int16)


def affine_ras(spacing=(0.7, 0.7, 0.6), origin=(-10.0, -20.0, -340.2)):
    """Of an array (x, y, z) whose axes run to the left, to the back and to the head; origin in LPS, as in DICOM."""
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = origin
    return LPS_TO_RAS @ affine


def turned(voxels, affine, order, flips):
    """The same volume in another order and direction of its axes: voxels and affine."""
    voxels = voxels.transpose(order)
    affine = np.column_stack([affine[:, order], affine[:, 3]])
    for axis in np.flatnonzero(flips):
        affine[:, 3] = affine[:, 3] + (voxels.shape[axis] - 1) * affine[:, axis]
        affine[:, axis] = -affine[:, axis]
        voxels = np.flip(voxels, axis)
    return voxels, affine


TURNS = list(itertools.product(itertools.permutations(range(3)), itertools.product((0, 1), repeat=3)))


def nifti(voxels, affine, byte_order="<", scale=(1.0, 0.0), extension=b"", units=2, quaternion=None, **patches):
    """Bytes of a NIfTI-1 file with a sform, or with a qform of no rotation but a quaternion (b, c, d).

    Args:
        voxels: (x, y, z).
        affine: RAS.
        byte_order, scale, extension, units: As they are stored.
        quaternion: None for a sform.
        patches: "at_OFFSET" -> (format, value, ...), at last.
    """
    header = bytearray(348)
    offset = 352 + len(extension)
    kind = voxels.dtype.str.lstrip("<>=")

    def put(at, kinds, *values):
        struct.pack_into(byte_order + kinds, header, at, *values)

    put(0, "i", 348)
    put(40, "8h", voxels.ndim, *voxels.shape, *[1] * (7 - voxels.ndim))
    put(70, "hh", CODES[kind], 8 * voxels.dtype.itemsize)
    sides = np.linalg.norm(affine[:3, :3], axis=0)
    put(76, "8f", -1 if quaternion and np.linalg.det(affine[:3, :3]) < 0 else 1, *sides, 0, 0, 0, 0)
    put(108, "3f", offset, *scale)
    put(123, "B", units)
    put(148, "80s", b"original description")
    put(252, "hh", 1 if quaternion else 0, 0 if quaternion else 1)
    if quaternion:
        put(256, "6f", *quaternion, *affine[:3, 3])
    else:
        put(280, "12f", *affine[:3].ravel())
    put(328, "16s", b"intent")
    put(344, "4s", b"n+1\0")
    for at, (kinds, *values) in patches.items():
        put(int(at.removeprefix("at_")), kinds, *values)
    flag = b"\1\0\0\0" if extension else bytes(4)
    data = voxels.astype(voxels.dtype.newbyteorder(byte_order)).tobytes("F")
    return bytes(header) + flag + extension + data


def nrrd(voxels, affine, encoding="raw", lines=(), **changed):
    """Bytes of a NRRD file in RAS; `changed` replaces fields, None leaves one out."""
    steps = " ".join(f"({','.join(map(repr, map(float, affine[:3, axis])))})" for axis in range(3))
    fields = {
        "type": NRRD_TYPES[voxels.dtype.str.lstrip("<>=")],
        "dimension": 3,
        "space": "right-anterior-superior",
        "sizes": " ".join(map(str, voxels.shape)),
        "space directions": steps,
        "kinds": "domain domain domain",
        "endian": "little",
        "encoding": encoding,
        "space origin": f"({','.join(map(repr, map(float, affine[:3, 3])))})",
        **{key.replace("_", " "): value for key, value in changed.items()},
    }
    text = ["NRRD0004", "# made to measure", *(f"{key}: {value}" for key, value in fields.items() if value is not None)]
    data = voxels.tobytes("F")
    return "\n".join([*text, *lines, "", ""]).encode() + (gzip.compress(data) if encoding == "gzip" else data)


def volume_of(slices):
    """(slices, rows, columns) -> (x, y, z)."""
    return slices.transpose(2, 1, 0)
