"""Where the voxels of a volume lie in the patient, and which of them are its axial slices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..dicom.folders import DIRECTION_TOLERANCE, SAME_POSITION_MM
from ..dicom.headers import LEGAL_RANGES
from ..dicom.reading import LARGEST_FIELD_OF_VIEW_MM, SQUARE_TOLERANCE
from .errors import VolumeError

LARGEST_SIDE = 8192  # voxels, four times the largest matrix of a scanner
MOST_VOXELS = 1 << 31  # 2,000 slices of 1024 x 1024: what reading may take has an end
TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # x to right and y to anterior, as in NIfTI, to DICOM's left and posterior
PATIENT_AXES = ("left-right", "front-back", "head-foot")


@dataclass(frozen=True)
class AxialGrid:
    """How an array of voxels becomes axial slices as DICOM has them of patients on their back: from foot to head, rows
    to the left of the patient, columns to the back.

    Attributes:
        shape: Of the array.
        order: Its axes head-foot, front-back, left-right.
        flipped: Which of these run the other way.
        spacing_mm: Side of a pixel, as DICOM's distance of rows.
        step_mm: Distance of the slices.
        first_mm: Position of the lowest slice, towards the head.
    """

    shape: tuple[int, int, int]
    order: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]
    spacing_mm: float
    step_mm: float
    first_mm: float

    @classmethod
    def of(cls, shape: tuple[int, int, int], affine: np.ndarray, name: str) -> AxialGrid:
        """The grid of an array.

        Args:
            shape: Of the array, three sizes.
            affine: (4, 4), index along each axis of the array -> mm to the left, to the back and to the head (LPS).
            name: What messages call the volume.

        Raises:
            VolumeError: sizes or voxels no scan has, axes that are sheared or oblique, or pixels that are not square.
        """
        if not all(1 <= size <= LARGEST_SIDE for size in shape) or np.prod(shape, dtype=float) > MOST_VOXELS:
            legal = f"1 to {LARGEST_SIDE} along each axis, at most {MOST_VOXELS} in all"
            raise VolumeError(f"{name} has {shape} voxels; legal are {legal}.")
        steps = np.asarray(affine, np.float64)[:3, :3]  # a column for each axis of the array
        sides = np.linalg.norm(steps, axis=0)
        if not np.isfinite(affine).all() or not (sides > 0).all():
            raise VolumeError(f"{name} has an affine that places no voxels: {np.asarray(affine).tolist()}.")
        # 1. Each axis of the array is one of the patient, in either direction.
        cosines = steps / sides
        axes = np.abs(cosines).argmax(0)  # patient axis of each array axis
        if np.abs(cosines.T @ cosines - np.eye(3)).max() > DIRECTION_TOLERANCE:
            raise VolumeError(
                f"{name} has a sheared affine, as under a tilted gantry: its axes are not perpendicular. "
                "Resample it onto perpendicular axes first."
            )
        if np.abs(np.abs(cosines) - np.eye(3)[axes].T).max() > DIRECTION_TOLERANCE:
            raise VolumeError(
                f"{name} is oblique: its axes {cosines.T.round(4).tolist()} are not those of the patient."
                " Only axial slices are supported; resample it first."
            )
        order = tuple(int(np.flatnonzero(axes == axis)[0]) for axis in (2, 1, 0))
        flipped = tuple(bool(cosines[axis, i] < 0) for axis, i in zip((2, 1, 0), order))
        # 2. Pixels of an axial slice are square.
        step_mm, rows_mm, columns_mm = (float(sides[i]) for i in order)
        if abs(rows_mm - columns_mm) > SQUARE_TOLERANCE * max(rows_mm, columns_mm):
            across = PATIENT_AXES[axes[int(sides.argmax())]]
            raise VolumeError(
                f"{name} has pixels of ({rows_mm:g}, {columns_mm:g}) mm in its axial slices, which lie "
                f"{step_mm:g} mm apart; only axial slices with square pixels are supported. Its voxels "
                f"are longest {across}. Resample it first."
            )
        if step_mm <= SAME_POSITION_MM:
            raise VolumeError(f"{name} has axial slices {step_mm:g} mm apart; legal is more than {SAME_POSITION_MM}.")
        low, high = LEGAL_RANGES["PixelSpacing"][:2]
        side_mm = rows_mm * min(shape[i] for i in order[1:])
        if not low <= rows_mm <= high or side_mm > LARGEST_FIELD_OF_VIEW_MM:
            raise VolumeError(
                f"{name} has pixels of {rows_mm:g} mm, which span {side_mm:g} mm; legal are {low} to "
                f"{high} mm and at most {LARGEST_FIELD_OF_VIEW_MM:g} mm."
            )
        # 3. The lowest slice.
        along = order[0]
        ends = affine[2, 3] + np.array([0, shape[along] - 1]) * steps[2, along]
        return cls(tuple(shape), order, flipped, rows_mm, step_mm, float(ends.min()))

    @property
    def slices_shape(self) -> tuple[int, int, int]:
        """(slices, rows, columns)."""
        return tuple(self.shape[i] for i in self.order)

    def slices(self, array: np.ndarray) -> np.ndarray:
        """An array of `shape` as (slices, rows, columns): a view, so that what is written to it is in the array."""
        return array.transpose(self.order)[tuple(slice(None, None, -1 if back else 1) for back in self.flipped)]

    def position_mm(self, index: int) -> float:
        """Of a slice, towards the head."""
        return self.first_mm + index * self.step_mm
