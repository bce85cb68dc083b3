"""UDA-CT: paired and unpaired slices in one batch, and a latent that does not reveal the kernel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from torch import nn
from torch.optim import Optimizer

from ...image_processor import to_model
from ...models import AutoencoderResNet18
from .networks import PatchDiscriminator, least_squares, logistic, total
from .trained import Recipe, SystemTraining, TrainedSystem, adam
from .unet_l1 import UNetL1

PAIRED_WEIGHT = 100.0  # all weights [G]: those of pix2pix and CycleGAN, with the classifier well below
ADVERSARIAL_WEIGHT = 1.0
DOMAIN_WEIGHT = 0.1
IDENTITY_WEIGHT = 10.0
LOW_PASS_WEIGHT = 10.0
LOW_PASS_PIXELS = 8  # side of the squares that are averaged: slower than what a kernel changes
STEEPNESS = 10.0  # of the ramp of lambda, Ganin et al. 2016, section 5.2.2


class UDACT(UNetL1):
    """Selim et al. 2022 ("UDA-CT: a general framework for CT image standardization"), our reading [G].

    No text or code of its losses was at hand. One ResNet-18 U-Net processes both halves of a batch: L1 where there is a
    pair, an unconditional discriminator where there is none, low-pass consistency, identity for targets, and a
    classifier of source and target on the latent, through gradient reversal (Ganin et al. 2016, section 4.2).

    Args:
        latent_channels, block_out_channels, layers_per_block, decoder_channels: Of `AutoencoderResNet18`.
        base_channels: First width of the discriminator.
    """

    recipe = Recipe(crop=128, batch_size=2, learning_rate=2e-4, unpaired_share=0.5)

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 32,
        block_out_channels: tuple[int, ...] = (64, 64, 128, 256, 512),
        layers_per_block: int = 2,
        decoder_channels: tuple[int, ...] = (256, 128, 64, 32, 16),
        base_channels: int = 64,
    ):
        TrainedSystem.__init__(self)  # its networks differ from those of its parent class
        self.network = AutoencoderResNet18(latent_channels, block_out_channels, layers_per_block, decoder_channels)

    def make_training(self, crop: int) -> SystemTraining:
        """Return the training by all five losses."""
        return UDACTTraining(self)


class UDACTTraining(SystemTraining):
    """The first half of a batch are pairs; the sources of the rest have no target of their own."""

    system: UDACT

    def __init__(self, system: UDACT):
        super().__init__(system)
        self.discriminator = PatchDiscriminator(1, system.config["base_channels"])
        channels = system.config["latent_channels"]
        self.classifier = nn.Sequential(nn.Conv1d(channels, channels, 1), nn.ReLU(), nn.Conv1d(channels, 1, 1))
        self.reversal = 0.0

    def optimizers(self, learning_rate: float) -> dict[str, Optimizer]:
        """Return that of the network with the classifier of its latent and that of the discriminator."""
        return {
            "generator": adam(learning_rate, self.system, self.classifier),
            "discriminator": adam(learning_rate, self.discriminator),
        }

    def turns(self, done: float) -> Sequence[str]:
        """Return both turns; lambda rises from 0 to 1 with the share of the budget that is spent."""
        self.reversal = 2 / (1 + math.exp(-STEEPNESS * done)) - 1
        return ("discriminator", "generator")

    def forward(
        self, source: torch.Tensor, target: torch.Tensor, generator: torch.Generator, turn: str
    ) -> dict[str, torch.Tensor]:
        x, y = to_model(source), to_model(target)
        paired = len(x) - round(len(x) * self.system.recipe.unpaired_share)
        if turn == "discriminator":
            with torch.no_grad():
                fake = x[paired:] + self.system.residue(source[paired:])[0]
            real, false = self.discriminator(y[paired:]), self.discriminator(fake)
            loss = (least_squares(real, True) + least_squares(false, False)) / 2
            return {"discriminator": loss, "loss": loss}
        residue, latent = self.system.residue(source)
        of_target, latent_of_target = self.system.residue(target)
        drawn = x + residue.float()
        losses = {
            "paired": PAIRED_WEIGHT * (drawn - y)[:paired].abs().mean(),
            "adversarial": ADVERSARIAL_WEIGHT * least_squares(self.discriminator(drawn[paired:]), True),
            "identity": IDENTITY_WEIGHT * of_target.float().abs().mean(),
            "low_pass": LOW_PASS_WEIGHT * F.avg_pool2d(residue.float(), LOW_PASS_PIXELS).abs().mean(),
            "domain": DOMAIN_WEIGHT * self.domain_loss(latent, latent_of_target),
        }
        return losses | {"loss": total(losses.values())}

    def domain_loss(self, latent: torch.Tensor, latent_of_target: torch.Tensor) -> torch.Tensor:
        """Return the cross-entropy of the classifier; the gradient that reaches the encoder is reversed, times lambda."""
        reversed_latents = (Reversal.apply(z, self.reversal) for z in (latent, latent_of_target))
        of_source, of_target = map(self.classifier, reversed_latents)
        return (logistic(of_source, False) + logistic(of_target, True)) / 2


class Reversal(torch.autograd.Function):
    """The identity with a reversed gradient (Ganin et al. 2016, section 4.2)."""

    @staticmethod
    def forward(context: Any, values: torch.Tensor, strength: float) -> torch.Tensor:
        context.strength = strength  # torch's context takes any attribute
        return values.view_as(values)

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Return -lambda times the gradient."""
        return -context.strength * gradient, None
