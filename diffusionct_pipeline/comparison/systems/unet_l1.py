"""U-Net, L1: the paper's autoencoder network as a plain regression. Not in the paper; the baseline for GANs and DDPMs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers.configuration_utils import register_to_config
from torch.optim import Adam, Optimizer

from ...image_processor import HU_SCALE, to_model
from ...models import AutoencoderResNet18
from ...models.autoencoder_resnet18 import DOWNSAMPLING
from .networks import reflected_to
from .trained import Recipe, SystemTraining, TrainedSystem


class UNetL1(TrainedSystem):
    """B = A + network(A), trained by mean |error| [G].

    Args:
        latent_channels, block_out_channels, layers_per_block, decoder_channels: Of `AutoencoderResNet18`.
    """

    recipe = Recipe(crop=128, batch_size=16, learning_rate=5e-4)  # those of the paper's phase one in this package

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 32,
        block_out_channels: tuple[int, ...] = (64, 64, 128, 256, 512),
        layers_per_block: int = 2,
        decoder_channels: tuple[int, ...] = (256, 128, 64, 32, 16),
    ):
        super().__init__()
        self.network = AutoencoderResNet18(latent_channels, block_out_channels, layers_per_block, decoder_channels)

    def residue(self, hu: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what is added to (B, 1, H, W) HU, (B, 1, H, W) in model range, and the latent (B, C, L)."""
        latent, skips = self.network.encode(reflected_to(to_model(hu), DOWNSAMPLING))
        return self.network.decode(latent, skips)[..., : hu.shape[-2], : hu.shape[-1]], latent

    def translate(self, hu: torch.Tensor) -> torch.Tensor:
        """Give (B, 1, H, W) HU the target's texture; same shape."""
        return hu + HU_SCALE * self.residue(hu)[0].float()

    def make_training(self, crop: int) -> SystemTraining:
        """Return the training by L1."""
        return UNetL1Training(self)


class UNetL1Training(SystemTraining):
    """Mean |B - prediction|."""

    system: UNetL1

    def optimizers(self, learning_rate: float) -> dict[str, Optimizer]:
        """Return the only one."""
        return {"network": Adam(self.system.parameters(), learning_rate)}

    def turns(self, done: float) -> Sequence[str]:
        """Return the only turn."""
        return ("network",)

    def forward(
        self, source: torch.Tensor, target: torch.Tensor, generator: torch.Generator, turn: str
    ) -> dict[str, torch.Tensor]:
        residue, _ = self.system.residue(source)
        return {"loss": (to_model(target) - to_model(source) - residue.float()).abs().mean()}
