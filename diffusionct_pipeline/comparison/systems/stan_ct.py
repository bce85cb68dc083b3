"""STAN-CT: the phases of GANai with losses in the latent space and in the discriminator's feature space."""

from __future__ import annotations

import torch
from diffusers.configuration_utils import register_to_config

from .ganai import GANai, GANaiTraining
from .networks import UNetGenerator
from .stitching import stitched
from .trained import CT_RANGE, Recipe, SystemTraining, TrainedSystem

LATENT_WEIGHT = 1.0  # Selim et al. 2020
FEATURE_WEIGHT = 1.0  # [G]
PATCH, STRIDE = 128, 64  # pixels: patches of the paper; they overlap by half [G]


class STANCT(GANai):
    """Selim et al. 2020 ("STAN-CT: Standardizing CT Image using GAN", arXiv:2004.01307) [C].

    Latent loss: mean |E(G(x)) - E(y)|, where E is the generator's own encoder. Feature loss: mean over blocks of D_c of
    |phi(y) - phi(G(x))|, which the discriminator maximizes and the generator minimizes [G].

    Args:
        downs: Halvings; 7 reduce a patch to one pixel, the latent.
        base_channels: First width of the networks; the latent has eight times as many.
    """

    recipe = Recipe(crop=128, batch_size=1, learning_rate=2e-4, candidates=3)  # patches of 128
    real_wins = 0.99  # Selim et al. 2020

    @register_to_config
    def __init__(self, downs: int = 7, base_channels: int = 64):
        TrainedSystem.__init__(self)  # its networks differ from those of its parent class
        self.generator = UNetGenerator(downs, base_channels)

    def translate(self, hu: torch.Tensor) -> torch.Tensor:
        """Give (B, 1, H, W) HU the target's texture, patch by patch, within -1024 to 3072; same shape."""
        return CT_RANGE.to_hu(stitched(self.generator, CT_RANGE.scaled(hu), PATCH, STRIDE))

    def make_training(self, crop: int) -> SystemTraining:
        """Return the training of GANai with two more losses."""
        return STANCTTraining(self)


class STANCTTraining(GANaiTraining):
    """Adds the latent loss to the generator and the feature loss to both."""

    system: STANCT

    def discriminators(self, x: torch.Tensor, y: torch.Tensor, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Return the loss of GANai minus the feature loss."""
        losses = super().discriminators(x, y, generator)
        with torch.no_grad():
            fake = self.system.generator(x)
        feature = self.feature_loss(x, y, fake)
        return losses | {"feature": feature, "loss": losses["loss"] - FEATURE_WEIGHT * feature}

    def further_losses(self, x: torch.Tensor, y: torch.Tensor, fake: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return latent and feature loss, weighted."""
        return {
            "latent": LATENT_WEIGHT * self.latent_loss(fake, y),
            "feature": FEATURE_WEIGHT * self.feature_loss(x, y, fake),
        }

    def latent_loss(self, fake: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return mean |E(fake) - E(y)|; 0 where the generator reproduces the target."""
        encode = self.system.generator.encode
        return (encode(fake)[-1] - encode(y)[-1]).abs().mean()

    def feature_loss(self, x: torch.Tensor, y: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        """Return mean |phi(y) - phi(fake)| over the normalized blocks of D_c; the first could grow without bound."""
        features = (self.conditional.features(torch.cat([x, image], 1))[1:] for image in (y, fake))
        return torch.stack([(real - false).abs().mean() for real, false in zip(*features)]).mean()
