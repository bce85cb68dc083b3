"""Define what a call of the pipeline returns."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.utils import BaseOutput

from .estimation.scan_estimate import ScanEstimate
from .method.step import Step


@dataclass
class DiffusionCTPipelineOutput(BaseOutput):
    """Hold the output of `DiffusionCTPipeline`.

    Attributes:
        images: One entry for each slice, in the order of the input. By `output_type`:
            "np": float32 arrays (H, W) in HU, not clipped;
            "pt": float32 tensors (H, W) in HU, not clipped, on the CPU or on the device that a tensor came from;
            "dicom": derived CT `Dataset`s, not written to disk;
            "pil": 8-bit grey previews (H, W) through the lung window -1350..150 HU;
            "latent": float32 tensors (C, L) on the CPU, the standardized latents Z_A' (about zero mean, unit variance);
            "auto": "np", "pt" or "dicom", the kind of each slice of the input; one entry for a volume, a derived
            `CTVolume` for `volumes.write_volume`, or a SimpleITK image if the input was one.
        samples: With `num_samples` K above 1, the K samples of each slice, float32 HU (K, H, W), the first of which is in
            `images`; (K, N, H, W) for a volume; latents (K, C, L) with "latent". None otherwise.
        sources: The estimate of each scan, in order of appearance: pass it as `source` to standardize more of its slices.
        steps: How each scan was changed: its dose, expected noise, and remarks for the user.
    """

    images: list[Any]  # their type depends on values; with a union every use would be a type error
    samples: list[np.ndarray | torch.Tensor] | None = None
    sources: list[ScanEstimate] | None = None
    steps: list[Step] | None = None

    @property
    def spread(self) -> list[np.ndarray] | None:
        """Return the standard deviation of each pixel over the samples, in HU and the shape of one; None for one sample."""
        return None if self.samples is None else [np.asarray(of_slice).std(0, ddof=1) for of_slice in self.samples]
