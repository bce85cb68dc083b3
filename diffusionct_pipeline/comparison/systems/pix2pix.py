"""cGAN: pix2pix, which predicts the difference between two kernels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers.configuration_utils import register_to_config
from torch.optim import Optimizer

from .networks import PatchDiscriminator, UNetGenerator, least_squares
from .trained import CT_RANGE, Recipe, SystemTraining, TrainedSystem, adam

L1_WEIGHT = 100.0  # Isola et al. 2017, section 4.2: lambda of eq. 4


class Pix2Pix(TrainedSystem):
    """Isola et al. 2017 (arXiv:1611.07004), eq. 4, as a public recipe for paired kernels uses it [C].

    The recipe departs from the paper: a least-squares GAN, and the generator predicts B - A. Dropout noise is left out.

    Args:
        downs: Halvings.
        base_channels: First width of the networks.
    """

    recipe = Recipe(crop=512, batch_size=1, learning_rate=2e-4)  # full slices; Isola et al. 2017, section 3.3

    @register_to_config
    def __init__(self, downs: int = 8, base_channels: int = 64):
        super().__init__()
        self.generator = UNetGenerator(downs, base_channels, bounded=False)

    def residual(self, scaled: torch.Tensor) -> torch.Tensor:
        """Give (B, 1, H, W) in -1 to 1 the target's texture, in the same range, not clipped."""
        return scaled + self.generator(scaled)

    def translate(self, hu: torch.Tensor) -> torch.Tensor:
        """Give (B, 1, H, W) HU the target's texture; same shape."""
        return hu + CT_RANGE.half * self.generator(CT_RANGE.scaled(hu))

    def make_training(self, crop: int) -> SystemTraining:
        """Return the training by LSGAN and L1."""
        return Pix2PixTraining(self)


class Pix2PixTraining(SystemTraining):
    """The discriminator sees the source with the target, or with what was generated from it."""

    system: Pix2Pix

    def __init__(self, system: Pix2Pix):
        super().__init__(system)
        self.discriminator = PatchDiscriminator(2, system.config["base_channels"])

    def optimizers(self, learning_rate: float) -> dict[str, Optimizer]:
        """Return those of generator and discriminator."""
        return {
            "generator": adam(learning_rate, self.system),
            "discriminator": adam(learning_rate, self.discriminator),
        }

    def turns(self, done: float) -> Sequence[str]:
        """Return both turns, the discriminator first (Isola et al. 2017, section 3.3)."""
        return ("discriminator", "generator")

    def forward(
        self, source: torch.Tensor, target: torch.Tensor, generator: torch.Generator, turn: str
    ) -> dict[str, torch.Tensor]:
        x, y = CT_RANGE.scaled(source), CT_RANGE.scaled(target)
        if turn == "discriminator":
            with torch.no_grad():
                fake = self.system.residual(x)
            real, false = (self.discriminator(torch.cat([x, image], 1)) for image in (y, fake))
            loss = (least_squares(real, True) + least_squares(false, False)) / 2  # halved: section 3.3
            return {"discriminator": loss, "loss": loss}
        fake = self.system.residual(x)
        adversarial = least_squares(self.discriminator(torch.cat([x, fake], 1)), True)
        l1 = (fake.float() - y).abs().mean()
        return {"adversarial": adversarial, "l1": l1, "loss": adversarial + L1_WEIGHT * l1}
