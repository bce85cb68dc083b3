"""Estimate how much of a slice's local noise is still valid under another kernel."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from .channels import LatentChannels

CHANGE_UNIT = 0.02  # mean square of a change of log power above which it counts as a change of texture
FIRST_LOGIT = -1.5  # with it an untrained network takes a fifth of the power as new
SERIES_TERMS = 60  # of the hypergeometric series below; its error is below 1e-3 up to a coherence of 0.99
LOG_POWER_UNIT = 4.0  # log power spans about 16


class IncoherentPowerFraction(nn.Module):
    """Predict the share of the target's local power that is not in the source: smoothed away, or below its quantization.

    For spectra A and B of one window, jointly Gaussian with coherence c, B given A has mean c sqrt(P_B / P_A) A and
    power (1 - c^2) P_B: this network predicts 1 - c^2 for every position and ring from the two latents.

    Args:
        rings: Number of rings of the latent's power.
        hidden: Width.
        blocks: Residual blocks of two 3 x 3 convolutions over the grid of positions.
    """

    def __init__(self, rings: int, hidden: int = 64, blocks: int = 3):
        super().__init__()
        self.channels = LatentChannels(rings)
        self.first = nn.Conv2d(self.channels.total + rings, hidden, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.GroupNorm(8, hidden), nn.SiLU(), nn.Conv2d(hidden, hidden, 3, padding=1),
                nn.GroupNorm(8, hidden), nn.SiLU(), nn.Conv2d(hidden, hidden, 3, padding=1),
            )
            for _ in range(blocks)
        )  # fmt: skip
        self.last = nn.Conv2d(hidden, rings, 1)
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.constant_(self.last.bias, FIRST_LOGIT)

    def forward(self, latent_a: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
        """Predict the share, between 0 and 1, and 0 where nothing changes.

        Args:
            latent_a: Z_A on its grid, (B, C, h, w), not normalized.
            change: Log power of the target minus that of the source, (B, rings, h, w).

        Returns:
            (B, rings, h, w).
        """
        spacing_and_mean, power = latent_a.split([2, self.channels.rings], 1)
        hidden = self.first(torch.cat([spacing_and_mean, power / LOG_POWER_UNIT + 2.5, change / LOG_POWER_UNIT], 1))
        for block in self.blocks:
            hidden = hidden + block(hidden)
        changed = 1 - torch.exp(-change.square().mean(1, keepdim=True) / CHANGE_UNIT)
        return changed * torch.sigmoid(self.last(hidden))


def incoherent_fraction_floor(
    change: torch.Tensor, inside: torch.Tensor, quantile: float, margin: float
) -> torch.Tensor:
    """Return the share of the target's power that must be new because no filter could have kept it.

    Two kernels differ by one gain for the whole slice. Structures that smoothing spared (edges, vessels) show that gain: they
    change least. Where power must grow by more, the rest is not in the source, whatever the network predicts for a smoother
    that it was not trained on; amplifying what is left there would produce clouds.

    Args:
        change: Log power of the target minus that of the source, (B, rings, h, w).
        inside: (B, 1, h, w) bool, positions in the patient.
        quantile: The share of these positions with the least change that determines the gain.
        margin: Log power by which a position may differ from the gain.

    Returns:
        (B, rings, h, w), 0 to below 1; 0 for slices without a patient.
    """
    known = torch.where(inside, change, torch.nan).flatten(2)  # [B,rings,h*w]
    bound = torch.nanquantile(known, quantile, dim=2).nan_to_num(torch.inf)[..., None, None] + margin
    return 1 - torch.exp((bound - change).clamp(max=0))


def share_beyond(change: torch.Tensor, coherent: torch.Tensor, margin: float) -> torch.Tensor:
    """Return the share of the target's power that kernels do not explain: edges change by their MTFs, noise is added for the rest.

    Args:
        change: Log power of the target minus that of the source, (B, rings, h, w).
        coherent: The change that the kernels imply, (B, rings) or (1, rings), log power.
        margin: Log power by which it may be wrong.

    Returns:
        (B, rings, h, w), 0 to below 1.
    """
    return 1 - torch.exp((coherent[..., None, None] + margin - change).clamp(max=0))


def coherence_of(phase_agreement: torch.Tensor) -> torch.Tensor:
    """Return the coherence (any shape, -1 to 1) for the mean cosine of the phase difference of two complex Gaussians.

    The mean is pi/4 c 2F1(1/2, 1/2; 2; c^2) (Goodman, "Statistical Optics", section 2.9); inverted by a table.
    """
    c = torch.linspace(0, 1, 513, dtype=torch.float64)
    term, total = torch.ones_like(c), torch.ones_like(c)
    for n in range(SERIES_TERMS):
        term = term * (n + 0.5) ** 2 / ((n + 2) * (n + 1)) * c**2
        total = total + term
    mean = (math.pi / 4 * c * total).float().to(phase_agreement.device)
    c = c.float().to(mean.device)
    size = phase_agreement.abs().float().contiguous()
    upper = torch.searchsorted(mean, size).clamp(1, len(mean) - 1)
    low, high = mean[upper - 1], mean[upper]
    found = c[upper - 1] + (c[upper] - c[upper - 1]) * ((size - low) / (high - low)).clamp(0, 1)
    return found * phase_agreement.sign()


def incoherence_loss(share: torch.Tensor, coherence: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return the negative log likelihood of B given A, both Gaussian with the power of their latents.

    With u the share and c the measured coherence it is log u + (1 + s^2 - 2 s c) / u with s^2 = 1 - u; its minimum lies
    at u = 1 - c^2.

    Args:
        share: (B, rings, h, w), predicted by the network.
        coherence: Measured, same shape; single windows may have any value from -1 to 1.
        weight: (B, 1, h, w).
    """
    share = share.clamp(1e-4, 1 - 1e-4)
    kept = (1 - share).sqrt()
    loss = torch.log(share) + (1 + kept**2 - 2 * kept * coherence) / share
    return F.relu(weight).mul(loss).sum() / (weight.sum() * share.shape[1])
