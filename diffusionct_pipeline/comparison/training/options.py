"""Options of the training of a system of the comparison."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ...train.options import ImageTrainOptions, option
from ..systems import SYSTEMS, TRAINABLE
from ..systems.trained import Recipe


@dataclass
class SystemOptions(ImageTrainOptions):
    """A rival of the comparison. What the recipe of a system says is taken where an option is 0."""

    system: str = option("", "name of the system, see `diffusionct info`")
    network: list[str] = option([], "NAME=VALUE of its networks' arguments, as base_channels=32; none: as published")
    vgg: str = option("", "VGG-19 weights (.safetensors, torchvision's layout) where a system has one; none: random")
    crop: int = option(0, "side of a training crop in pixels, a multiple of 32; 0: the recipe's")
    batch_size: int = option(0, "pairs a step and process; 0: the recipe's")
    learning_rate: float = option(0.0, "peak learning rate; linear warm-up, cosine decay to 0; 0: the recipe's")
    weight_decay: float = option(0.0, "has no effect: the optimizers are the systems' own")
    max_grad_norm: float = option(0.0, "gradients are clipped to this norm; 0 means not at all, as published")

    def __post_init__(self) -> None:
        if self.system not in SYSTEMS | TRAINABLE:
            raise ValueError(
                f"`system` is {self.system!r}; legal are {', '.join(map(repr, SYSTEMS | TRAINABLE))}. The encoder-decoder "
                "and the paper's own recipe have scripts of their own, training/train_literal_*.py."
            )
        if self.weight_decay:
            raise ValueError(f"`weight_decay` is {self.weight_decay}; legal is 0: the optimizers are the systems' own.")
        if self.system in SYSTEMS and (self.network or self.vgg):
            raise ValueError(f"`network` and `vgg` have no effect: {self.system} is fitted; leave them out.")
        recipe = TRAINABLE[self.system].recipe if self.system in TRAINABLE else Recipe(crop=128)
        self.crop = self.crop or recipe.crop
        self.batch_size = self.batch_size or recipe.batch_size
        self.learning_rate = self.learning_rate or recipe.learning_rate
        super().__post_init__()
        if recipe.unpaired_share == 0.5 and self.batch_size < 2:
            raise ValueError(f"`batch_size` is {self.batch_size}; legal are numbers from 2: half of a batch is paired.")
        self.network_arguments  # noqa: B018  raises where an argument is none

    @property
    def network_arguments(self) -> dict[str, Any]:
        """Name -> value, for the constructor of the system."""
        try:
            pairs = [item.split("=", 1) for item in self.network]
            return {name: json.loads(value) for name, value in pairs}
        except ValueError as error:
            raise ValueError(f"`network` is {self.network}; legal are items like base_channels=32.") from error
