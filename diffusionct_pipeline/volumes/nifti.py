"""Read headers of NIfTI-1 and NIfTI-2 in one file with nibabel, and adapt them to other voxels, leaving the rest unchanged.

Only nibabel's headers are used, unchecked: its checks repair what they find, and its images read voxels without gzip's
checksum.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..utils.optional import import_optional
from .errors import VolumeError
from .grid import TO_LPS

if TYPE_CHECKING:
    from nibabel import Nifti1Header

END_OF_LINES = np.array([13, 10, 26, 10])  # in NIfTI-2, which a transfer as text would change
DISAGREEMENT = 1e-2  # relative: single precision and rounded spacings are much nearer
UNITS_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # unknown, m, mm, um


@dataclass(frozen=True)
class NiftiHeader:
    """Hold the header of a .nii file.

    Attributes:
        raw: The bytes before the voxels, extensions included.
        fields: The header in the byte order of the file; a `Nifti2Header` is a `Nifti1Header`.
        shape: Voxels along x, y, z, of which x varies fastest in the file.
        affine: (4, 4), index -> mm, LPS.
        dtype: Type of a stored value, in the byte order of the file.
        slope, intercept: HU = stored * slope + intercept.
    """

    raw: bytes
    fields: Nifti1Header
    shape: tuple[int, int, int]
    affine: np.ndarray
    dtype: np.dtype
    slope: float
    intercept: float
    compressed = False  # the whole file may be, not the voxels alone

    @classmethod
    def of(cls, data: bytes, name: str) -> NiftiHeader:
        """Read the header from the first bytes of a file.

        Raises:
            VolumeError: if it is not a header of a single grey volume with a known position.
            ImportError: if nibabel is not installed.
        """
        nibabel, fields = import_optional("nibabel"), _fields(data, name)
        offset, unit, kind = fields["vox_offset"], int(fields["xyzt_units"]) & 7, int(fields["datatype"])
        if not fields.sizeof_hdr <= offset <= len(data):
            raise VolumeError(f"{name} is damaged or truncated: its voxels begin at byte {offset:g}.")
        count, *sizes = fields["dim"].tolist()  # not by nibabel, which takes some shapes for surfaces
        sizes = tuple(sizes[: max(count, 0)])
        if not 3 <= count <= 7 or any(size != 1 for size in sizes[3:]):
            found = f"{count} dimensions of {sizes} voxels"
            raise VolumeError(f"{name} must hold one volume of 3 dimensions, got {found}.")
        types = nibabel.nifti1.data_type_codes.dtype
        if kind not in types or types[kind].kind not in "iuf":
            raise VolumeError(f"{name} must hold integers or floats, not colour, got NIfTI data type {kind}.")
        if max(fields["sform_code"], fields["qform_code"]) <= 0:
            reason = "sform_code and qform_code are 0, so it is not known which axis is that of the slices"
            raise VolumeError(f"{name} has no position: {reason}. Set one, or pass the slices as an array.")
        if unit not in UNITS_MM:
            raise VolumeError(f"{name} must have a unit of length of 0 to 3, got {unit}.")
        try:
            affine, (slope, intercept) = _affine(fields), fields.get_slope_inter()  # None: not scaled
        except (nibabel.spatialimages.HeaderDataError, ValueError) as error:
            raise VolumeError(f"{name} is damaged in its qform or scaling: {error}.") from error
        affine[:3] *= UNITS_MM[unit]
        raw, dtype = data[: int(offset)], fields.get_data_dtype()
        return cls(raw, fields, sizes[:3], TO_LPS @ affine, dtype, slope or 1.0, intercept or 0.0)

    @property
    def made_by(self) -> str:
        """Return the description, which names the maker of a derived volume."""
        return self.fields["descrip"].item().decode("latin-1")

    @property
    def doubt(self) -> str:
        """Return what is doubtful about the header, as the rest of a sentence; "" where nothing is."""
        stated = np.abs(self.fields["pixdim"][1:4].astype(np.float64)) * UNITS_MM[int(self.fields["xyzt_units"]) & 7]
        sides = np.linalg.norm(self.affine[:3, :3], axis=0)
        if self.fields["sform_code"] <= 0 or np.allclose(sides, stated, rtol=DISAGREEMENT):
            return ""
        placed, stated = (" x ".join(f"{side:.4g}" for side in each) for each in (sides, stated))
        return (f"has voxels of {placed} mm by its sform and of {stated} mm by its pixdim; the sform was used. Does it belong "
                "to this image?")  # fmt: skip

    def for_voxels(self, dtype: np.dtype, description: str) -> tuple[bytes, np.dtype]:
        """Return this header for HU voxels of another type with another description, and the type to store them in."""
        fields = self.fields.copy()
        fields.set_data_dtype(dtype)
        if (self.slope, self.intercept) != (1, 0):
            fields.set_slope_inter(1, 0)
        fields["descrip"] = description.encode("ascii", "replace")
        return fields.binaryblock + self.raw[fields.sizeof_hdr :], fields.get_data_dtype()


def _fields(data: bytes, name: str) -> Nifti1Header:
    """Return the header, in the byte order of the file."""
    nibabel = import_optional("nibabel")
    for kind, order in itertools.product((nibabel.Nifti1Header, nibabel.Nifti2Header), ("little", "big")):
        if data.startswith(kind.sizeof_hdr.to_bytes(4, order)) and len(data) >= kind.sizeof_hdr:
            fields = kind(data[: kind.sizeof_hdr], order, check=False)
            if fields["magic"] == kind.single_magic and (fields.get("eol_check", END_OF_LINES) == END_OF_LINES).all():
                return fields
            raise VolumeError(f"{name} is not NIfTI in one file: its magic is {fields['magic'].item()!r}.")
    raise VolumeError(f"{name} is not a NIfTI file, or truncated.")


def _affine(fields: Nifti1Header) -> np.ndarray:
    """Return the affine (4, 4), index -> units of length, RAS: the sform where there is one, else the qform."""
    if fields["sform_code"] > 0:
        return fields.get_sform()
    signed = fields.copy()
    signed["pixdim"][0] = -1 if fields["pixdim"][0] < 0 else 1  # 0 means 1 (nifti1.h), but nibabel refuses it
    return signed.get_qform()
