"""Normalize the channels of latents: diffusion works on channels of zero mean and unit variance."""

from __future__ import annotations

import torch

from .network import Network

SMALLEST_DEVIATION = 1e-3


class LatentStatistics(Network):
    """Store the statistics of an autoencoder's latents over training slices with its weights."""

    _keep_in_fp32_modules: list[str] | None = ["latent_mean", "latent_std"]
    latent_mean: torch.Tensor
    latent_std: torch.Tensor

    def register_latent_statistics(self, latent_channels: int) -> None:
        """Create the buffers `latent_mean` and `latent_std` (C,); they are 0 and 1 until training measures them."""
        self.register_buffer("latent_mean", torch.zeros(latent_channels))
        self.register_buffer("latent_std", torch.ones(latent_channels))

    def measure_latents(self, latents: torch.Tensor) -> None:
        """Measure the mean and the standard deviation of every channel over latents (N, C, L)."""
        self.latent_mean.copy_(latents.mean((0, 2)))
        self.latent_std.copy_(latents.std((0, 2)).clamp(min=SMALLEST_DEVIATION))

    def normalize(self, latent: torch.Tensor) -> torch.Tensor:
        """Normalize latents (B, C, L), or single positions (B, C), to zero mean and unit variance per channel."""
        mean, std = self._statistics(latent)
        return (latent - mean) / std

    def denormalize(self, latent: torch.Tensor) -> torch.Tensor:
        """Invert `normalize`."""
        mean, std = self._statistics(latent)
        return latent * std + mean

    def _statistics(self, latent: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        # The model may be offloaded to the CPU while its latents are not.
        shape = (1, -1, *[1] * (latent.ndim - 2))
        return self.latent_mean.view(shape).to(latent.device), self.latent_std.view(shape).to(latent.device)
