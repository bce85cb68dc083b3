"""Map the voxels of a volume to axial slices of the patient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..dicom.folders import DIRECTION_TOLERANCE, SAME_POSITION_MM
from ..dicom.headers import LEGAL_RANGES
from ..dicom.reading import LARGEST_FIELD_OF_VIEW_MM, SQUARE_TOLERANCE
from .errors import VolumeError

LARGEST_SIDE = 8192  # voxels, four times the largest matrix of a scanner
MOST_VOXELS = 1 << 31  # 2,000 slices of 1024 x 1024, which limits what reading may take
TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # NIfTI's x to the right and y to anterior -> DICOM's left and posterior
PATIENT_AXES = ("left-right", "front-back", "head-foot")


@dataclass(frozen=True)
class AxialGrid:
    """Map an array of voxels to axial slices as in DICOM for patients on their back: from foot to head, rows to the left of
    the patient, columns to the back.

    Attributes:
        shape: Shape of the array.
        order: The array's axes head-foot, front-back and left-right.
        flipped: Which of these run in the opposite direction.
        spacing_mm: Side of a pixel, as DICOM's distance between rows.
        step_mm: Distance between slices.
        first_mm: Position of the lowest slice, increasing towards the head.
    """

    shape: tuple[int, int, int]
    order: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]
    spacing_mm: float
    step_mm: float
    first_mm: float

    @classmethod
    def of(cls, shape: tuple[int, int, int], affine: np.ndarray, name: str) -> AxialGrid:
        """Return the grid of an array.

        Args:
            shape: Shape of the array, three sizes.
            affine: (4, 4), index along each axis of the array -> mm to the left, to the back and to the head (LPS).
            name: Name of the volume in messages.

        Raises:
            VolumeError: for sizes or voxels that no scan has, sheared or oblique axes, or pixels that are not square.
        """
        if not all(1 <= size <= LARGEST_SIDE for size in shape) or np.prod(shape, dtype=float) > MOST_VOXELS:
            allowed = f"1 to {LARGEST_SIDE} voxels along each axis and at most {MOST_VOXELS} in all"
            raise VolumeError(f"{name} must have {allowed}, got {shape}.")
        steps = np.asarray(affine, np.float64)[:3, :3]  # a column for each axis of the array
        sides = np.linalg.norm(steps, axis=0)
        if not np.isfinite(affine).all() or not (sides > 0).all():
            raise VolumeError(f"{name} must have an invertible affine, got {np.asarray(affine).tolist()}.")
        # 1. Each axis of the array is an axis of the patient, in either direction.
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
        along, down, across = (int(np.flatnonzero(axes == axis)[0]) for axis in (2, 1, 0))
        order = (along, down, across)
        flipped = (bool(cosines[2, along] < 0), bool(cosines[1, down] < 0), bool(cosines[0, across] < 0))
        # 2. Pixels of an axial slice are square.
        step_mm, rows_mm, columns_mm = (float(sides[i]) for i in order)
        if abs(rows_mm - columns_mm) > SQUARE_TOLERANCE * max(rows_mm, columns_mm):
            longest = PATIENT_AXES[axes[int(sides.argmax())]]
            raise VolumeError(
                f"{name} has pixels of ({rows_mm:g}, {columns_mm:g}) mm in its axial slices, which lie "
                f"{step_mm:g} mm apart; only axial slices with square pixels are supported. Its voxels "
                f"are longest {longest}. Resample it first."
            )
        if step_mm <= SAME_POSITION_MM:
            raise VolumeError(
                f"{name} must have axial slices more than {SAME_POSITION_MM} mm apart, got {step_mm:g} mm."
            )
        low, high = LEGAL_RANGES["PixelSpacing"][:2]
        side_mm = rows_mm * min(shape[i] for i in order[1:])
        if not low <= rows_mm <= high or side_mm > LARGEST_FIELD_OF_VIEW_MM:
            raise VolumeError(
                f"{name} must have pixels of {low} to {high} mm that span at most {LARGEST_FIELD_OF_VIEW_MM:g} mm, "
                f"got {rows_mm:g} mm that span {side_mm:g} mm."
            )
        # 3. The lowest slice.
        ends = affine[2, 3] + np.array([0, shape[along] - 1]) * steps[2, along]
        return cls((shape[0], shape[1], shape[2]), order, flipped, rows_mm, step_mm, float(ends.min()))

    @property
    def slices_shape(self) -> tuple[int, int, int]:
        """Return the number of slices, rows and columns."""
        slices, rows, columns = (self.shape[i] for i in self.order)
        return slices, rows, columns

    def slices(self, array: np.ndarray) -> np.ndarray:
        """Return a view (slices, rows, columns) of an array of `shape`: writing to it changes the array."""
        return array.transpose(self.order)[tuple(slice(None, None, -1 if back else 1) for back in self.flipped)]

    def position_mm(self, index: int) -> float:
        """Return the position of a slice, increasing towards the head."""
        return self.first_mm + index * self.step_mm
