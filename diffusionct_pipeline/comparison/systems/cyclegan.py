"""CycleGAN: translation between two kernels without pairs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers.configuration_utils import register_to_config
from torch import nn
from torch.optim import Optimizer

from .networks import ImagePool, PatchDiscriminator, ResNetGenerator, least_squares, total
from .trained import CT_RANGE, Recipe, SystemTraining, TrainedSystem, adam

CYCLE_WEIGHT = 10.0  # Zhu et al. 2017, section 4: lambda of eq. 3
IDENTITY_WEIGHT = 5.0  # half of lambda, sections 5.2 and 7.1
POOL_IMAGES = 50  # section 4


class CycleGAN(TrainedSystem):
    """Zhu et al. 2017 (arXiv:1703.10593), eq. 1 to 3 with a least-squares GAN; written from the paper.

    Crops are never resized, since the texture of a kernel is local.

    Args:
        base_channels: First width of the networks.
        blocks: Residual blocks.
    """

    recipe = Recipe(crop=256, batch_size=1, learning_rate=2e-4, unpaired_share=1.0)  # section 4
    attention = False

    @register_to_config
    def __init__(self, base_channels: int = 64, blocks: int = 9):
        super().__init__()
        self.generator = self.make_generator()

    def make_generator(self) -> ResNetGenerator:
        """Return a new generator of this system's sizes."""
        return ResNetGenerator(self.config["base_channels"], self.config["blocks"], self.attention)

    def translate(self, hu: torch.Tensor) -> torch.Tensor:
        """Give (B, 1, H, W) HU the target's texture, within -1024 to 3072; same shape."""
        return CT_RANGE.to_hu(self.generator(CT_RANGE.scaled(hu)))

    def make_training(self, crop: int) -> SystemTraining:
        """Return the training of both generators and both discriminators."""
        return CycleGANTraining(self, crop)


class CycleGANTraining(SystemTraining):
    """G maps source to target, F maps back; D_Y and D_X judge what looks like a target and a source."""

    system: CycleGAN

    def __init__(self, system: CycleGAN, crop: int):
        super().__init__(system)
        width = system.config["base_channels"]
        self.back = system.make_generator()
        self.of_target, self.of_source = PatchDiscriminator(1, width), PatchDiscriminator(1, width)
        self.targets, self.sources = ImagePool(POOL_IMAGES, crop), ImagePool(POOL_IMAGES, crop)

    def optimizers(self, learning_rate: float) -> dict[str, Optimizer]:
        """Return that of both generators and that of both discriminators."""
        return {
            "generator": adam(learning_rate, self.system, self.back),
            "discriminator": adam(learning_rate, self.of_target, self.of_source),
        }

    def turns(self, done: float) -> Sequence[str]:
        """Return both turns, the generators first."""
        return ("generator", "discriminator")

    def forward(
        self, source: torch.Tensor, target: torch.Tensor, generator: torch.Generator, turn: str
    ) -> dict[str, torch.Tensor]:
        x, y = CT_RANGE.scaled(source), CT_RANGE.scaled(target)
        if turn == "discriminator":
            return self.discriminators(x, y, generator)
        return self.generators(x, y)

    def generators(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the losses of both generators for (B, 1, n, n) in -1 to 1 of different anatomy."""
        to_target, to_source = self.system.generator, self.back
        like_y, like_x = to_target(x), to_source(y)
        losses = {
            "adversarial": least_squares(self.of_target(like_y), True) + least_squares(self.of_source(like_x), True),
            "cycle": distance(to_source(like_y), x) + distance(to_target(like_x), y),
            "identity": distance(to_target(y), y) + distance(to_source(x), x),
        }
        more = self.domain_losses(like_y, like_x, y, x)
        loss = losses["adversarial"] + CYCLE_WEIGHT * losses["cycle"] + IDENTITY_WEIGHT * losses["identity"]
        return losses | more | {"loss": loss + sum(more.values())}

    def domain_losses(
        self, like_y: torch.Tensor, like_x: torch.Tensor, y: torch.Tensor, x: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Return weighted losses that a variant adds, from generated images and the images that they should look like."""
        return {}

    def discriminators(self, x: torch.Tensor, y: torch.Tensor, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Return the loss of both discriminators on real images and on fakes from the pools."""
        with torch.no_grad():
            like_y = self.targets(self.system.generator(x), generator)
            like_x = self.sources(self.back(y), generator)
        loss = total(
            (least_squares(critic(real), True) + least_squares(critic(fake), False)) / 2  # halved: section 7.1
            for critic, real, fake in ((self.of_target, y, like_y), (self.of_source, x, like_x))
        )
        return {"discriminator": loss, "loss": loss}


def distance(image: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return the mean absolute difference."""
    return nn.functional.l1_loss(image.float(), other.float())
