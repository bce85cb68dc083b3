"""Options for training a system of the comparison."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ...train.options import ImageTrainOptions, option
from ..systems import SYSTEMS, TRAINABLE
from ..systems.trained import Recipe


@dataclass
class SystemOptions(ImageTrainOptions):
    """A rival of the comparison. The recipe of the system applies where an option is 0."""

    system: str = option("", "name of the system, see `diffusionct info`")
    network: list[str] = option(
        [], "arguments of its networks as NAME=VALUE, e.g. base_channels=32; none: as published"
    )
    vgg: str = option("", "VGG-19 weights (.safetensors, torchvision's layout) for systems that have one; none: random")
    crop: int = option(0, "side of a training crop in pixels, a multiple of 32; 0: the recipe's")
    batch_size: int = option(0, "pairs per step and process; 0: the recipe's")
    learning_rate: float = option(0.0, "peak learning rate; linear warm-up, cosine decay to 0; 0: the recipe's")
    weight_decay: float = option(0.0, "must be 0: the optimizers are the systems' own")
    max_grad_norm: float = option(0.0, "norm that gradients are clipped to; 0: no clipping, as published")

    def __post_init__(self) -> None:
        if self.system not in SYSTEMS | TRAINABLE:
            raise ValueError(
                f"`system` must be one of {', '.join(map(repr, SYSTEMS | TRAINABLE))}, got {self.system!r}. The "
                "encoder-decoder and the paper's own recipe have their own scripts, training/train_literal_*.py."
            )
        if self.weight_decay:
            raise ValueError(
                f"`weight_decay` must be 0, as the optimizers are the systems' own, got {self.weight_decay}."
            )
        if self.system in SYSTEMS and (self.network or self.vgg):
            raise ValueError(f"`network` and `vgg` must be left out: {self.system} is fitted and has no networks.")
        recipe = TRAINABLE[self.system].recipe if self.system in TRAINABLE else Recipe(crop=128)
        self.crop = self.crop or recipe.crop
        self.batch_size = self.batch_size or recipe.batch_size
        self.learning_rate = self.learning_rate or recipe.learning_rate
        super().__post_init__()
        if recipe.unpaired_share == 0.5 and self.batch_size < 2:
            raise ValueError(f"`batch_size` must be at least 2, as half of a batch is paired, got {self.batch_size}.")
        self.network_arguments  # noqa: B018  raises for a malformed argument

    @property
    def network_arguments(self) -> dict[str, Any]:
        """Arguments of the constructor of the system: name -> value."""
        try:
            pairs = [item.split("=", 1) for item in self.network]
            return {name: json.loads(value) for name, value in pairs}
        except ValueError as error:
            raise ValueError(f"`network` must hold items like base_channels=32, got {self.network}.") from error
