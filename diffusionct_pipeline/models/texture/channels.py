"""Name the channels of the texture latent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

TYPICAL_SPACING_MM, SPACING_UNIT = 0.7, 0.25  # log(spacing / typical) / unit is of the order of 1
AIR_LIMIT = -1.5  # -900 HU in model range: a local mean below is air around the patient
IN_PATIENT = 0.5  # a position of higher weight lies in the patient
AIR_SHARPNESS = 20.0  # how fast the weight of a position grows with its mean


@dataclass(frozen=True)
class LatentChannels:
    """Give the slices of the channels of a latent (B, C, L).

    Attributes:
        rings: Number of frequencies at which the local power is stored.
        spacing: Pixel spacing of the slice, see `scaled_spacing`; the same at every position.
        mean: Local mean, model range.
        power: Log power at `rings` frequencies.
    """

    rings: int
    spacing: ClassVar[slice] = slice(0, 1)
    mean: ClassVar[slice] = slice(1, 2)

    @property
    def power(self) -> slice:
        """Return the slice of the log power."""
        return slice(2, 2 + self.rings)

    @property
    def total(self) -> int:
        """Return the number of channels C."""
        return 2 + self.rings


def scaled_spacing(pixel_spacing: torch.Tensor) -> torch.Tensor:
    """Convert mm to the channel `spacing`."""
    return torch.log(pixel_spacing / TYPICAL_SPACING_MM) / SPACING_UNIT


def patient_weight(latent: torch.Tensor) -> torch.Tensor:
    """Return the weight (B, 1, L) of every position of a latent (B, C, L), normalized or not: 0 in air, 1 in the patient."""
    return torch.sigmoid(AIR_SHARPNESS * (latent[:, LatentChannels.mean] - AIR_LIMIT))


def patient_mean(latent: torch.Tensor, weighted_by: torch.Tensor | None = None) -> torch.Tensor:
    """Return the mean (B, C) of a latent (B, C, L), or of a difference of latents, over the patient.

    Args:
        latent: What to average.
        weighted_by: The latent (B, C, L) that shows where the patient is; None for `latent` itself.
    """
    weight = patient_weight(latent if weighted_by is None else weighted_by)
    return (latent * weight).sum(-1) / weight.sum(-1).clamp(min=1e-3)
