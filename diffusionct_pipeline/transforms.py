"""Standardization as a transform of MONAI and TorchIO; on arrays and tensors it needs neither of them.

    StandardizeCT()(image)                                 # MetaTensor, ScalarImage, Subject; or array and affine
    Compose([LoadImaged("ct"), StandardizeCTd("ct"), ...])  # MONAI; the same in TorchIO's Compose

Before intensities are scaled and before volumes are resampled, cropped or rotated: the model sees Hounsfield units on
the pixels of the scanner, and noise is told from anatomy by its spectrum.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import numpy as np
import torch

from .pipeline import DiffusionCTPipeline
from .volumes import CTVolume

try:
    from monai.transforms import Transform  # datasets of MONAI cache what these do, and of others nothing
except ImportError:
    Transform = object


class StandardizeCT(Transform):
    """Standardize a volume of axial CT slices in Hounsfield units; the result is of the same kind, on the same grid.

    The same volume and seed give the same result. Noise is named by a hash of the HU, so that no two scans share it.

    Args:
        pipe: Loaded pipeline; None loads the embedded checkpoint at the first call.
        seed: Of the noise.
        options: Further arguments of `DiffusionCTPipeline.__call__`, such as `reference` or `slice_thickness`.
    """

    def __init__(self, pipe: DiffusionCTPipeline | None = None, *, seed: int = 0, **options: Any) -> None:
        self.pipe, self.seed, self.options = pipe, seed, options

    def __call__(self, image: Any, affine: Any = None, name: str = "The given volume") -> Any:
        """Standardize one volume, or all images of intensities of a TorchIO `Subject`.

        Args:
            image: Array or tensor (1, x, y, z) or (x, y, z), MONAI `MetaTensor`, TorchIO `ScalarImage` or `Subject`.
            affine: (4, 4), index -> mm (RAS); for arrays and tensors that do not have one themselves.
            name: What messages call it.

        Returns:
            A new image: float32, or int16 where integers were given.

        Raises:
            ValueError: there is no affine, or as of `CTVolume.of_array`.
        """
        if hasattr(image, "get_images_dict"):
            subject = copy.deepcopy(image)
            for key, inner in subject.get_images_dict().items():  # of intensities only
                subject[key].set_data(self.standardized(inner.data, inner.affine, f"`{key}`"))
            return subject
        if hasattr(image, "set_data"):
            scalar_image = copy.deepcopy(image)
            scalar_image.set_data(self.standardized(image.data, image.affine, name))
            return scalar_image
        own = getattr(image, "affine", None)
        if (own is None) == (affine is None):
            found = "no affine" if own is None else "an affine, and another is given"
            raise ValueError(f"{name} has {found}; legal is one (4, 4), which says where its voxels lie.")
        return self.standardized(image, own if affine is None else affine, name)

    def standardized(self, image: np.ndarray | torch.Tensor, affine: Any, name: str) -> np.ndarray | torch.Tensor:
        """Array or tensor (1, x, y, z) or (x, y, z) -> the same kind and shape; what a subclass of it holds beside."""
        array = image
        if isinstance(image, torch.Tensor):
            array = image.detach().cpu()
            array = (array.float() if array.is_floating_point() else array).numpy()  # numpy has no bfloat16
        voxels = array[0] if array.ndim == 4 and len(array) == 1 else array
        volume = CTVolume.of_array(voxels, np.asarray(torch.as_tensor(affine).cpu()), name)
        if self.pipe is None:
            self.pipe = DiffusionCTPipeline.from_pretrained()
            self.pipe.set_progress_bar_config(disable=True)
        generator = torch.Generator().manual_seed(self.seed)
        result = self.pipe(volume, generator=generator, **self.options).images[0].voxels.reshape(array.shape)
        if not isinstance(image, torch.Tensor):
            return result
        result = torch.from_numpy(np.ascontiguousarray(result))
        return image.to(result.dtype).clone().copy_(result)  # a MetaTensor with its metadata


class StandardizeCTd(Transform):
    """`StandardizeCT` for images of a dictionary.

    Args:
        keys: Of the images.
        pipe, seed, options: As in `StandardizeCT`.
        allow_missing_keys: Whether a dictionary may lack some.
    """

    def __init__(
        self,
        keys: Hashable | Iterable[Hashable],
        pipe: DiffusionCTPipeline | None = None,
        *,
        seed: int = 0,
        allow_missing_keys: bool = False,
        **options: Any,
    ) -> None:
        self.keys = tuple(keys) if isinstance(keys, (list, tuple, set)) else (keys,)
        self.allow_missing_keys = allow_missing_keys
        self.transform = StandardizeCT(pipe, seed=seed, **options)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """A copy of a dictionary, or of a TorchIO `Subject`, with the images of the keys standardized.

        Raises:
            KeyError: one is missing.
            ValueError: as of `StandardizeCT`.
        """
        missing = [key for key in self.keys if key not in data]
        if missing and not self.allow_missing_keys:
            raise KeyError(f"{missing[0]!r} is missing; the dictionary has {sorted(map(str, data))}.")
        result = copy.copy(data)
        for key in self.keys:
            if key in data:
                result[key] = self.transform(data[key], name=f"`{key}`")
        return result
