"""Mean and deviation of a latent's channels: diffusion works on channels of zero mean and unit variance."""

from __future__ import annotations

import torch

SMALLEST_DEVIATION = 1e-3


class LatentStatistics:
    """Mixin of the autoencoders: statistics of the latent over training slices, stored with the weights."""

    latent_mean: torch.Tensor
    latent_std: torch.Tensor

    def register_latent_statistics(self, latent_channels: int) -> None:
        """Make the buffers `latent_mean` and `latent_std` (C,), which training measures; 0 and 1 before."""
        self.register_buffer("latent_mean", torch.zeros(latent_channels))
        self.register_buffer("latent_std", torch.ones(latent_channels))

    def measure_latents(self, latents: torch.Tensor) -> None:
        """Take mean and deviation of every channel from latents (N, C, L)."""
        self.latent_mean.copy_(latents.mean((0, 2)))
        self.latent_std.copy_(latents.std((0, 2)).clamp(min=SMALLEST_DEVIATION))

    def normalize(self, latent: torch.Tensor) -> torch.Tensor:
        """Latents (B, C, L) or one of each (B, C) -> zero mean, unit variance per channel."""
        mean, std = self._statistics(latent)
        return (latent - mean) / std

    def denormalize(self, latent: torch.Tensor) -> torch.Tensor:
        """Inverse of `normalize`."""
        mean, std = self._statistics(latent)
        return latent * std + mean

    def _statistics(self, latent: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        # The model may be offloaded to the CPU while its latents are not.
        shape = (1, -1, *[1] * (latent.ndim - 2))
        return self.latent_mean.view(shape).to(latent.device), self.latent_std.view(shape).to(latent.device)
