"""A CT volume: voxels as a file stores them, seen as axial slices in Hounsfield units."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from ..dicom import PixelFormat, hu_to_cells
from ..dicom.hounsfield import OUTSIDE_FIELD_OF_VIEW_HU
from ..dicom.plausible import not_hounsfield
from .errors import VolumeError
from .grid import TO_LPS, AxialGrid
from .nifti import NiftiHeader
from .nrrd import NrrdHeader

HU_INT16 = PixelFormat(slope=1.0, intercept=0.0)
ID_DIGITS = 16  # hexadecimal, of SHA-256


@dataclass(frozen=True, eq=False)
class VolumeHeader:
    """What is known of a volume before its voxels are read.

    Attributes:
        path: The file.
        fields: Its header.
        grid: Where its voxels lie.
    """

    path: Path
    fields: NiftiHeader | NrrdHeader
    grid: AxialGrid


@dataclass(frozen=True, eq=False)
class CTVolume:
    """A CT volume of axial slices.

    Attributes:
        voxels: (x, y, z) as they are stored: HU = voxels * slope + intercept.
        grid: Where they lie.
        slope, intercept: See there.
        header: Of the file; None for a volume that has none.
        description: What a derived volume says of its making, "" for a source.
        clipped_pixels: Voxels of a derived volume beyond what 16 bits hold.
    """

    voxels: np.ndarray
    grid: AxialGrid
    slope: float = 1.0
    intercept: float = 0.0
    header: VolumeHeader | None = None
    description: str = ""
    clipped_pixels: int = 0

    @classmethod
    def of_array(cls, voxels: np.ndarray, affine: np.ndarray, name: str = "The given volume") -> CTVolume:
        """A volume that is in no file.

        Args:
            voxels: (x, y, z) in HU.
            affine: (4, 4), index -> mm to the right, to the front and to the head (RAS), as in nibabel, MONAI, TorchIO.
            name: What messages call it.

        Raises:
            VolumeError: it has not three axes, is not axial with square pixels, or not in Hounsfield units.
        """
        voxels = np.asarray(voxels)
        if voxels.ndim != 3 or voxels.dtype.kind not in "iuf":
            raise VolumeError(f"{name} has shape {voxels.shape} and dtype {voxels.dtype}; legal are numbers (x, y, z).")
        if np.shape(affine) != (4, 4):
            raise VolumeError(f"{name} has an affine of shape {np.shape(affine)}; legal is (4, 4).")
        volume = cls(voxels, AxialGrid.of(voxels.shape, TO_LPS @ np.asarray(affine, np.float64), name))
        volume.require_hu(name)
        return volume

    def __len__(self) -> int:
        return self.grid.slices_shape[0]

    def slice_hu(self, index: int) -> np.ndarray:
        """Of an axial slice, counted from the feet: (H, W) float32, rows to the left, columns to the back."""
        stored = self.grid.slices(self.voxels)[index].astype(np.float64)
        return np.ascontiguousarray(stored * self.slope + self.intercept, dtype=np.float32)

    @property
    def hu(self) -> np.ndarray:
        """All slices, (N, H, W)."""
        return np.stack([self.slice_hu(index) for index in range(len(self))])

    @cached_property
    def uid(self) -> str:
        """Names the scan by its HU: in any file, format and orientation the same."""
        digest = hashlib.sha256()
        for index in range(len(self)):
            digest.update(self.slice_hu(index) + np.float32(0))  # no negative zeros
        return digest.hexdigest()[:ID_DIGITS]

    def derived(self, slices_hu: Sequence[np.ndarray]) -> CTVolume:
        """The same volume with other HU.

        Integers without scaling, or scaled by whole intercepts, become int16; other volumes float32. Voxels below
        -1500 HU, where nothing was measured, keep their value.

        Args:
            slices_hu: One (H, W) for each slice.
        """
        is_whole = self.voxels.dtype.kind in "iu" and self.slope == 1 and self.intercept == round(self.intercept)
        voxels = np.empty(self.grid.shape, np.int16 if is_whole else np.float32, order="F")
        clipped = 0
        for index, (target, hu) in enumerate(zip(self.grid.slices(voxels), slices_hu, strict=True)):
            before = self.slice_hu(index)
            padding = before < OUTSIDE_FIELD_OF_VIEW_HU
            if is_whole:
                target[:], count = hu_to_cells(hu, HU_INT16, padding, before)
                clipped += count
            else:
                target[:] = np.where(padding, before, hu)
        return replace(self, voxels=voxels, slope=1.0, intercept=0.0, clipped_pixels=clipped)

    def require_hu(self, name: str) -> None:
        """Refuse what is no CT in Hounsfield units, as far as its values tell.

        Raises:
            VolumeError: of kind `NOT_CT` for a mask.
        """
        ends = [float(end) * self.slope + self.intercept for end in (self.voxels.min(), self.voxels.max())]
        low, high = min(ends), max(ends)
        found = not_hounsfield(low, high, low >= 0 and bool((self.voxels == np.rint(self.voxels)).all()))
        if found:
            raise VolumeError(f"{name} holds values from {low:g} to {high:g}, {found[0]}.", found[1])
