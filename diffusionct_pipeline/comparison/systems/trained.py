"""Base of systems that are networks: how they process slices, and how they are trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers.configuration_utils import ConfigMixin
from diffusers.models.modeling_utils import ModelMixin
from torch import nn
from torch.optim import Adam, Optimizer

from .protocol import FittingPair, System

if TYPE_CHECKING:
    from typing_extensions import Self

STANDARD_KERNEL = "Bl64"  # the target of all trained systems, as of DiffusionCT's own checkpoint


@dataclass(frozen=True)
class HURange:
    """The range of HU that a network sees as -1 to 1."""

    low: float
    high: float

    @property
    def half(self) -> float:
        """HU that correspond to a difference of 1."""
        return (self.high - self.low) / 2

    def scaled(self, hu: torch.Tensor) -> torch.Tensor:
        """Clip HU to the range and scale them to -1 to 1."""
        return (hu.clamp(self.low, self.high) - self.low) / self.half - 1

    def to_hu(self, scaled: torch.Tensor) -> torch.Tensor:
        """Convert -1 to 1 back to HU."""
        return (scaled + 1) * self.half + self.low

    def excess(self, hu: torch.Tensor) -> torch.Tensor:
        """Return the HU that exceed the range, 0 within."""
        return hu - hu.clamp(self.low, self.high)


# Where a public recipe for paired kernels clips [C]. They are named constants so that derived UIDs change with them.
LOWEST_HU, HIGHEST_HU = -1024.0, 3072.0
CT_RANGE = HURange(LOWEST_HU, HIGHEST_HU)


@dataclass(frozen=True)
class Recipe:
    """Defaults for the training of a system.

    Attributes:
        crop: Side of a training image in pixels.
        batch_size: Images a step.
        learning_rate: Peak of the optimizers.
        candidates: Pairs drawn for each pair that is used, for systems that select.
        unpaired_share: Share of the batch, at its end, whose targets show other anatomy than their sources.
    """

    crop: int
    batch_size: int = 1
    learning_rate: float = 2e-4
    candidates: int = 1
    unpaired_share: float = 0.0


class SystemTraining(nn.Module):
    """Everything that is trained with a system. A step consists of one or more turns, each with its own optimizer.

    `forward(source, target, generator, turn)` takes (B, 1, n, n) HU twice, the random generator of the step and the turn,
    and returns losses by name, with the one to train on in this turn as "loss".

    Args:
        system: What is saved at the end.
    """

    def __init__(self, system: TrainedSystem):
        super().__init__()
        self.system = system

    def optimizers(self, learning_rate: float) -> dict[str, Optimizer]:
        """Return the optimizer of each turn by the name of the turn."""
        raise NotImplementedError

    def turns(self, done: float) -> Sequence[str]:
        """Return the turns of the next step, after a share `done` (0 to 1) of the budget."""
        raise NotImplementedError


class TrainedSystem(ModelMixin, ConfigMixin, System):  # type: ignore[misc]  # ConfigMixin's config_name is typed as None
    """Base of the systems that are networks: `comparison/training/system_phase.py` trains them, and `fit` does nothing."""

    recipe: Recipe
    target_kernel = STANDARD_KERNEL

    @property
    def remark(self) -> str:
        """Remark that its row adds to the name; "" for none."""
        return ""

    def translate(self, hu: torch.Tensor) -> torch.Tensor:
        """Give (B, 1, H, W) HU the target's texture; same shape."""
        raise NotImplementedError

    def make_training(self, crop: int) -> SystemTraining:
        """Return what trains this system on images of `crop` pixels."""
        raise NotImplementedError

    @classmethod
    def from_pretrained(cls, folder: str | Path, **options: Any) -> Self:  # type: ignore[override]  # no None here
        """Load what `save_pretrained` wrote.

        Raises:
            ValueError, OSError: naming the folder and the reason.
        """
        config: dict[str, Any] = cls.load_config(folder)  # type: ignore[assignment]  # a tuple only where more is asked for
        saved = config.get("_class_name")
        if saved != cls.__name__:
            raise ValueError(
                f'"{folder}" holds a {saved}, not a {cls.__name__}; load it as the system that it was trained as.'
            )
        return super().from_pretrained(folder, **options)

    def fit(self, pairs: Iterable[FittingPair]) -> Self:
        """Do nothing, as the system is trained; return the system itself."""
        return self

    def standardize(self, hu: np.ndarray, pixel_spacing: float) -> np.ndarray:
        """Standardize (H, W) HU; return (H, W) float32 HU. The networks work in pixels: the spacing is not used."""
        return self._apply_to_slice(self.translate, hu)

    @torch.no_grad()
    def _apply_to_slice(self, translate: Callable[[torch.Tensor], torch.Tensor], hu: np.ndarray) -> np.ndarray:
        image = torch.from_numpy(np.array(hu, np.float32))[None, None].to(self.device)
        return translate(image)[0, 0].float().cpu().numpy()


def adam(learning_rate: float, *modules: nn.Module) -> Adam:
    """Return Adam with the betas of all image-to-image GANs (Isola et al. 2017, section 3.3)."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    return Adam(parameters, learning_rate, betas=(0.5, 0.999))
