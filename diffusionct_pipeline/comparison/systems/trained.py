"""What systems that are networks have in common: slices in and out, and how they are trained."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import ConfigMixin, ModelMixin
from torch import nn
from torch.optim import Adam, Optimizer

from .protocol import FittingPair

STANDARD_KERNEL = "Bl64"  # what all are trained to give, as DiffusionCT's own checkpoint


@dataclass(frozen=True)
class HURange:
    """The HU that a network sees, as -1 to 1."""

    low: float
    high: float

    @property
    def half(self) -> float:
        """HU of a difference of 1."""
        return (self.high - self.low) / 2

    def scaled(self, hu: torch.Tensor) -> torch.Tensor:
        """HU, clipped to the range -> -1 to 1."""
        return (hu.clamp(self.low, self.high) - self.low) / self.half - 1

    def to_hu(self, scaled: torch.Tensor) -> torch.Tensor:
        """-1 to 1 -> HU."""
        return (scaled + 1) * self.half + self.low

    def excess(self, hu: torch.Tensor) -> torch.Tensor:
        """HU beyond the range, 0 within."""
        return hu - hu.clamp(self.low, self.high)


# Where a public recipe for paired kernels clips [C]; numbers by name, so that derived UIDs change with them.
LOWEST_HU, HIGHEST_HU = -1024.0, 3072.0
CT_RANGE = HURange(LOWEST_HU, HIGHEST_HU)


@dataclass(frozen=True)
class Recipe:
    """How a system is trained where the command line says nothing else.

    Attributes:
        crop: Side of a training image in pixels.
        batch_size: Images a step.
        learning_rate: Peak of the optimizers.
        candidates: Pairs drawn for each that is used, for systems that choose.
        unpaired_share: Share of the batch, the last of it, whose targets show other anatomy than their sources.
    """

    crop: int
    batch_size: int = 1
    learning_rate: float = 2e-4
    candidates: int = 1
    unpaired_share: float = 0.0


class SystemTraining(nn.Module):
    """Everything that is trained with a system; one step is a turn or several, each with an optimizer of its own.

    `forward(source, target, generator, turn)` takes (B, 1, n, n) HU twice, the randomness of the step and the turn, and
    returns losses by name, the one to train on in this turn as "loss".

    Args:
        system: What is saved in the end.
    """

    def __init__(self, system: TrainedSystem):
        super().__init__()
        self.system = system

    def optimizers(self, learning_rate: float) -> dict[str, Optimizer]:
        """Turn -> optimizer of what is trained in it."""
        raise NotImplementedError

    def turns(self, done: float) -> Sequence[str]:
        """Turns of the next step, after a share `done` (0 to 1) of the budget."""
        raise NotImplementedError


class TrainedSystem(ModelMixin, ConfigMixin):
    """Base of the systems that are networks: `comparison/training/system_phase.py` trains them, `fit` has nothing left to do."""

    config_name = "config.json"
    recipe: Recipe
    target_kernel = STANDARD_KERNEL
    remark = ""  # what the name of its row must say besides

    def translate(self, hu: torch.Tensor) -> torch.Tensor:
        """(B, 1, H, W) HU -> the same with the target's texture."""
        raise NotImplementedError

    def make_training(self, crop: int) -> SystemTraining:
        """What trains this system on images of `crop` pixels."""
        raise NotImplementedError

    @classmethod
    def from_pretrained(cls, folder: str | Path, **options: Any) -> TrainedSystem:
        """What `save_pretrained` wrote.

        Raises:
            ValueError, OSError: naming the folder and the reason.
        """
        saved = cls.load_config(folder).get("_class_name")
        if saved != cls.__name__:
            raise ValueError(f'"{folder}" holds a {saved}, not a {cls.__name__}; name what it was trained as.')
        return super().from_pretrained(folder, **options)

    def fit(self, pairs: Iterable[FittingPair]) -> TrainedSystem:
        """Learns nothing: training did."""
        return self

    @torch.no_grad()
    def standardize(self, hu: np.ndarray, pixel_spacing: float) -> np.ndarray:
        """(H, W) HU -> (H, W) float32 HU. The networks count in pixels: the spacing is not used."""
        image = torch.from_numpy(np.array(hu, np.float32))[None, None].to(self.device)
        return self.translate(image)[0, 0].float().cpu().numpy()


def adam(learning_rate: float, *modules: nn.Module) -> Adam:
    """Adam with the betas of all image-to-image GANs (Isola et al. 2017, section 3.3)."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    return Adam(parameters, learning_rate, betas=(0.5, 0.999))
