"""Standardize as a transform of MONAI and TorchIO; arrays and tensors need neither of them.

    StandardizeCT()(image)                                 # MetaTensor, ScalarImage, Subject; or array and affine
    Compose([LoadImaged("ct"), StandardizeCTd("ct"), ...])  # MONAI; the same in TorchIO's Compose

Apply it before intensities are scaled and before volumes are resampled, cropped or rotated: the model expects Hounsfield
units on the pixels of the scanner, and distinguishes noise from anatomy by its spectrum.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Iterable, MutableMapping
from typing import Any, TypeVar

import numpy as np
import torch

from .pipeline import DiffusionCTPipeline
from .volumes import CTVolume

try:
    from monai.transforms import Transform  # MONAI's datasets cache the results of its own transforms only
except ImportError:
    Transform = object


Dictionary = TypeVar("Dictionary", bound=MutableMapping[Any, Any])


class StandardizeCT(Transform):
    """Standardize a volume of axial CT slices in Hounsfield units; the result is of the same kind, on the same grid.

    The same volume and seed give the same result. The noise also depends on a hash of the HU, so that no two scans share it.

    Args:
        pipe: A loaded pipeline; None loads the embedded checkpoint on the first call.
        seed: Seed of the noise.
        options: Further arguments of `DiffusionCTPipeline.__call__`, such as `reference` or `slice_thickness`.
    """

    def __init__(self, pipe: DiffusionCTPipeline | None = None, *, seed: int = 0, **options: Any) -> None:
        self.pipe, self.seed, self.options = pipe, seed, options

    def __call__(self, image: Any, affine: Any = None, name: str = "The given volume") -> Any:
        """Standardize one volume, or all intensity images of a TorchIO `Subject`.

        Args:
            image: Array or tensor (1, x, y, z) or (x, y, z), MONAI `MetaTensor`, TorchIO `ScalarImage` or `Subject`.
            affine: (4, 4), index -> mm (RAS); for arrays and tensors that have none themselves.
            name: What messages call it.

        Returns:
            A new image: float32, or int16 for integer input.

        Raises:
            ValueError: if there is no affine, or two, and as in `CTVolume.of_array`.
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
            found = "none" if own is None else "one of its own and another in `affine`"
            raise ValueError(f"{name} must have one affine (4, 4), which places its voxels, got {found}.")
        return self.standardized(image, own if affine is None else affine, name)

    def standardized(self, image: np.ndarray | torch.Tensor, affine: Any, name: str) -> np.ndarray | torch.Tensor:
        """Standardize an array or tensor (1, x, y, z) or (x, y, z): same kind and shape; a subclass keeps its metadata."""
        if isinstance(image, torch.Tensor):
            tensor = image.detach().cpu()
            array = (tensor.float() if tensor.is_floating_point() else tensor).numpy()  # numpy has no bfloat16
        else:
            array = image
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
    """Apply `StandardizeCT` to images of a dictionary.

    Args:
        keys: Keys of the images.
        pipe, seed, options: As in `StandardizeCT`.
        allow_missing_keys: Whether a dictionary may lack some of the keys.
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

    def __call__(self, data: Dictionary) -> Dictionary:
        """Return a copy of a dictionary, or of a TorchIO `Subject`, with the images of the keys standardized.

        Raises:
            KeyError: if one of the keys is missing.
            ValueError: as in `StandardizeCT`.
        """
        missing = [key for key in self.keys if key not in data]
        if missing and not self.allow_missing_keys:
            raise KeyError(f"{missing[0]!r} is missing; the dictionary has {sorted(map(str, data))}.")
        result = copy.copy(data)
        for key in self.keys:
            if key in data:
                result[key] = self.transform(data[key], name=f"`{key}`")
        return result
