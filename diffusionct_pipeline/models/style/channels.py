"""The channels of the style latent by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch


@dataclass(frozen=True)
class LatentChannels:
    """Slices of the channels of a latent (B, C, L) or style (B, C).

    Attributes:
        total: C.
        rings: Number of frequencies at which the local power is held.
        weight: How much a position counts in the style, a logit.
        power: Log power at `rings` frequencies, in units of `local_spectrum.LOG_POWER_UNIT`.
        features: What the ResNet adds.
    """

    total: int
    rings: int
    weight: ClassVar[slice] = slice(0, 1)

    def __post_init__(self) -> None:
        if not 1 <= self.rings <= self.total - 2:
            raise ValueError(
                f"`rings` is {self.rings} with {self.total} latent channels; legal is 1 to {self.total - 2}, which leaves "
                "one channel for the weight and one for features."
            )

    @property
    def power(self) -> slice:
        """See above."""
        return slice(1, 1 + self.rings)

    @property
    def features(self) -> slice:
        """See above."""
        return slice(1 + self.rings, self.total)

    def join(self, weight: torch.Tensor, power: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Tensors (B, n, ...) -> (B, C, ...)."""
        return torch.cat([weight, power, features], 1)
