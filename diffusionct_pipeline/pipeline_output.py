"""What a call of the pipeline returns."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.utils import BaseOutput

from .estimation.scan_estimate import ScanEstimate
from .method.step import Step


@dataclass
class DiffusionCTPipelineOutput(BaseOutput):
    """Output of `DiffusionCTPipeline`.

    Attributes:
        images: One entry for each slice, in the order of the input. By `output_type`:
            "np": float32 arrays (H, W) in HU, not clipped;
            "pt": float32 tensors (H, W) in HU, not clipped, on the CPU or on the device that a tensor came from;
            "dicom": derived CT `Dataset`s, not written to disk;
            "pil": 8-bit grey previews (H, W) through the lung window -1350..150 HU;
            "latent": float32 tensors (C, L) on the CPU, the standardized latents Z_A' (about zero mean, unit variance);
            "auto": "np", "pt" or "dicom", whichever each slice was given as; of a volume one entry, a derived
            `CTVolume` for `volumes.write_volume`, or the SimpleITK image that it becomes if it was given as one.
        samples: With `num_samples` K above 1, for each slice its K samples, float32 HU (K, H, W), the first of which is
            what `images` shows; (K, N, H, W) where that has a volume; latents (K, C, L) with "latent". None otherwise.
        sources: What was known of each scan, in order of appearance: give it as `source` to standardize more of its slices.
        steps: How each scan was changed: its dose, expected noise, and remarks for the user.
    """

    images: list[Any]  # their type depends on values; of a union every use would be a type error
    samples: list[np.ndarray | torch.Tensor] | None = None
    sources: list[ScanEstimate] | None = None
    steps: list[Step] | None = None

    @property
    def spread(self) -> list[np.ndarray] | None:
        """Standard deviation of each pixel over the samples, in HU and the shape of one; None without several."""
        return None if self.samples is None else [np.asarray(of_slice).std(0, ddof=1) for of_slice in self.samples]
