"""How the mean power of a slice changes on the way to the standard: one curve over frequency for the whole slice."""

from __future__ import annotations

import torch
from torch import nn

from .channels import LatentChannels, patient_mean, patient_weight

SMALLEST_WEIGHT = 1e-6  # of a position in air


class TargetCurve(nn.Module):
    """From all positions of a slice and of a reference to the change of the mean log power.

    A kernel raises the noise of a slice by a curve; what the reference shows is that curve, its own dose and its own
    anatomy. The network weighs the positions that tell them apart best (attention pooling), and says for every ring how
    far to go towards the reference's mean, and what to add. The denoiser uses it to its standard, whose own tokens are the
    reference then.

    Args:
        rings: Of the latent's power, see `LatentChannels`.
        hidden: Width.
        heads: Number of ways to weigh the positions.
    """

    def __init__(self, rings: int, hidden: int = 192, heads: int = 8):
        super().__init__()
        self.channels = LatentChannels(rings)
        total = self.channels.total
        self.of_slice = PooledPositions(3 * total, hidden, heads)
        self.of_reference = PooledPositions(3 * total, hidden, heads)
        self.change = nn.Sequential(
            nn.Linear(2 * hidden + 2 * total, hidden), nn.SiLU(),
            nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 2 * rings),
        )  # fmt: skip
        nn.init.zeros_(self.change[-1].weight)
        nn.init.zeros_(self.change[-1].bias)

    def forward(self, latent_a: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """The change, (B, rings), normalized like the latents.

        Args:
            latent_a: Z_A, (B, C, L), normalized.
            reference: Tokens, (B, T, C), normalized.
        """
        mean_a = patient_mean(latent_a)  # [B,C]
        step = reference.mean(1) - mean_a
        known = torch.cat([mean_a, step], 1)  # [B,2C]
        summaries = [
            pool(torch.cat([positions - mean_a[:, None], known[:, None].expand(-1, positions.shape[1], -1)], 2), weight)
            for pool, positions, weight in (
                (self.of_slice, latent_a.transpose(1, 2), patient_weight(latent_a)[:, 0]),
                (self.of_reference, reference, torch.ones_like(reference[..., 0])),
            )
        ]
        share, change = self.change(torch.cat([*summaries, known], 1)).chunk(2, 1)
        return torch.sigmoid(share) * step[:, self.channels.power] + change


class PooledPositions(nn.Module):
    """Features of positions, and their weighted means, a weighting for each head."""

    def __init__(self, channels: int, hidden: int, heads: int):
        super().__init__()
        self.features = nn.Sequential(nn.Linear(channels, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU())
        self.to_weights = nn.Linear(hidden, heads)
        self.to_values = nn.Linear(hidden, hidden)

    def forward(self, positions: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """(B, S, channels), each with a weight (B, S) of 0 to 1 -> (B, hidden)."""
        features = self.features(positions)
        logits = self.to_weights(features) + weight.clamp(min=SMALLEST_WEIGHT).log()[..., None]
        weights = logits.softmax(1)  # [B,S,heads]
        values = self.to_values(features).unflatten(2, (weights.shape[2], -1))  # [B,S,heads,hidden/heads]
        return (weights[..., None] * values).sum(1).flatten(1)
