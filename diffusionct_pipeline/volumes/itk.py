"""SimpleITK images as volumes: in as they are, out with the same geometry."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..utils.optional import import_optional
from .errors import VolumeError
from .grid import AxialGrid
from .volume import CTVolume

if TYPE_CHECKING:
    from SimpleITK import Image

NAME = "The SimpleITK image"
KEY = "DiffusionCT"  # of what a derived image says of its making


@dataclass(frozen=True, eq=False)
class ITKVolume(CTVolume):
    """A CT volume that was given as a SimpleITK image, or was derived from one.

    Attributes:
        given: The image that was given.
    """

    given: Image | None = None

    @classmethod
    def of(cls, image: Image) -> ITKVolume:
        """The volume of an image.

        Raises:
            VolumeError: It has not three axes and one value a voxel, is not axial with square pixels, or not in Hounsfield
                units.
        """
        if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
            found = f"{image.GetDimension()} axes and {image.GetNumberOfComponentsPerPixel()} values a voxel"
            raise VolumeError(f"{NAME} has {found}; legal are 3 and 1.")
        voxels = (
            import_optional("SimpleITK").GetArrayViewFromImage(image).T.copy(order="F")
        )  # (x, y, z), x first in memory
        if voxels.dtype.kind not in "iuf":
            raise VolumeError(f"{NAME} holds {voxels.dtype} values; legal are integers and floats.")
        affine = np.eye(4)  # index -> mm, LPS as in DICOM
        affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
        affine[:3, 3] = image.GetOrigin()
        volume = cls(voxels, AxialGrid.of(voxels.shape, affine, NAME), given=image)
        volume.require_hu(NAME)
        return volume

    def to_image(self) -> Image:
        """The voxels as an image where the given one lies, int16 or float32.

        Of what the given image says of itself nothing is kept: a kernel among it would be that of the source. The key
        "DiffusionCT" says what it was made from.
        """
        image = import_optional("SimpleITK").GetImageFromArray(self.voxels.T)
        image.CopyInformation(self.given)
        for key in image.GetMetaDataKeys():
            image.EraseMetaData(key)
        image.SetMetaData(KEY, self.description)
        return image


def is_itk_image(value: Any) -> bool:
    """Whether a value is a SimpleITK image; who has one has imported SimpleITK."""
    module = sys.modules.get("SimpleITK")
    return module is not None and isinstance(value, module.Image)


def as_given(volume: CTVolume) -> CTVolume | Image:
    """A derived volume in the kind that its source had."""
    return volume.to_image() if isinstance(volume, ITKVolume) else volume
