"""Convert SimpleITK images to volumes and back, with the same geometry."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from ..utils.optional import import_optional
from .errors import VolumeError
from .grid import AxialGrid
from .volume import CTVolume

if TYPE_CHECKING:
    from SimpleITK import Image

NAME = "The SimpleITK image"
KEY = "DiffusionCT"  # of the metadata in which a derived image says how it was made


@dataclass(frozen=True, eq=False)
class ITKVolume(CTVolume):
    """Hold a CT volume that was given as a SimpleITK image, or was derived from one.

    Attributes:
        given: The given image.
    """

    given: Image | None = None

    @classmethod
    def of(cls, image: Image) -> ITKVolume:
        """Convert an image to a volume.

        Raises:
            VolumeError: if it does not have three axes and one value per voxel, is not axial with square pixels, or is not in
                Hounsfield units.
        """
        if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
            found = f"{image.GetDimension()} axes and {image.GetNumberOfComponentsPerPixel()} values"
            raise VolumeError(f"{NAME} must have 3 axes and 1 value per voxel, got {found}.")
        # (x, y, z), x first in memory
        voxels = import_optional("SimpleITK").GetArrayViewFromImage(image).T.copy(order="F")
        if voxels.dtype.kind not in "iuf":
            raise VolumeError(f"{NAME} must hold integers or floats, got {voxels.dtype}.")
        affine = np.eye(4)  # index -> mm, LPS as in DICOM
        affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
        affine[:3, 3] = image.GetOrigin()
        volume = cls(voxels, AxialGrid.of(voxels.shape, affine, NAME), given=image)
        volume.require_hu(NAME)
        return volume

    def to_image(self) -> Image:
        """Return the voxels, int16 or float32, as an image with the geometry of the given one.

        The given image's metadata are not kept: a kernel among them would be that of the source. The key "DiffusionCT" says
        how the image was made.
        """
        image = import_optional("SimpleITK").GetImageFromArray(self.voxels.T)
        image.CopyInformation(self.given)
        for key in image.GetMetaDataKeys():
            image.EraseMetaData(key)
        image.SetMetaData(KEY, self.description)
        return image


def is_itk_image(value: Any) -> TypeGuard[Image]:
    """Return whether a value is a SimpleITK image; a caller that has one has imported SimpleITK."""
    module = sys.modules.get("SimpleITK")
    return module is not None and isinstance(value, module.Image)


def as_given(volume: CTVolume) -> CTVolume | Image:
    """Return a derived volume in the kind of its source."""
    return volume.to_image() if isinstance(volume, ITKVolume) else volume
