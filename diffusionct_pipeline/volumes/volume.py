"""Define a CT volume: voxels as a file stores them, accessed as axial slices in Hounsfield units."""

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
    """Hold what is known of a volume before its voxels are read.

    Attributes:
        path: The file.
        fields: Its header.
        grid: The position of its voxels.
    """

    path: Path
    fields: NiftiHeader | NrrdHeader
    grid: AxialGrid


@dataclass(frozen=True, eq=False)
class CTVolume:
    """Hold a CT volume of axial slices.

    Attributes:
        voxels: (x, y, z) as they are stored: HU = voxels * slope + intercept.
        grid: The position of the voxels.
        slope, intercept: The scaling of the voxels.
        header: Header of the file; None for a volume without a file.
        description: How a derived volume was made, "" for a source.
        clipped_pixels: Number of voxels of a derived volume beyond the range of 16 bits.
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
        """Return a volume without a file.

        Args:
            voxels: (x, y, z) in HU.
            affine: (4, 4), index -> mm to the right, to the front and to the head (RAS), as in nibabel, MONAI, TorchIO.
            name: Its name in messages.

        Raises:
            VolumeError: if it does not have three axes, is not axial with square pixels, or is not in Hounsfield units.
        """
        voxels = np.asarray(voxels)
        if voxels.ndim != 3 or voxels.dtype.kind not in "iuf":
            raise VolumeError(f"{name} must hold numbers (x, y, z), got shape {voxels.shape} and dtype {voxels.dtype}.")
        if np.shape(affine) != (4, 4):
            raise VolumeError(f"{name} must have an affine of shape (4, 4), got {np.shape(affine)}.")
        volume = cls(voxels, AxialGrid.of(voxels.shape, TO_LPS @ np.asarray(affine, np.float64), name))
        volume.require_hu(name)
        return volume

    def __len__(self) -> int:
        return self.grid.slices_shape[0]

    def slice_hu(self, index: int) -> np.ndarray:
        """Return an axial slice, counted from the feet: (H, W) float32 HU, rows to the left, columns to the back."""
        stored = self.grid.slices(self.voxels)[index].astype(np.float64)
        return np.ascontiguousarray(stored * self.slope + self.intercept, dtype=np.float32)

    @property
    def hu(self) -> np.ndarray:
        """Return all slices, (N, H, W) float32 HU."""
        return np.stack([self.slice_hu(index) for index in range(len(self))])

    @cached_property
    def uid(self) -> str:
        """Return an identifier of the scan by its HU, the same in any file, format and orientation."""
        digest = hashlib.sha256()
        for index in range(len(self)):
            digest.update(self.slice_hu(index) + np.float32(0))  # no negative zeros
        return digest.hexdigest()[:ID_DIGITS]

    def derived(self, slices_hu: Sequence[np.ndarray]) -> CTVolume:
        """Return this volume with other HU.

        Integers without scaling, or with integer intercepts only, become int16; other volumes become float32. Voxels
        below -1500 HU, where nothing was measured, keep their value.

        Args:
            slices_hu: HU (H, W) of each slice.
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
        """Refuse a volume that is not CT in Hounsfield units, as far as its values show.

        Raises:
            VolumeError: naming the volume and its values; of kind `NOT_CT` for a mask.
        """
        ends = [float(end) * self.slope + self.intercept for end in (self.voxels.min(), self.voxels.max())]
        low, high = min(ends), max(ends)
        found = not_hounsfield(low, high, low >= 0 and bool((self.voxels == np.rint(self.voxels)).all()))
        if found:
            raise VolumeError(f"{name} holds values from {low:g} to {high:g}, {found[0]}.", found[1])
