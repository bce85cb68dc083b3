"""Denoise with a small network that represents deep-learning reconstruction (TrueFidelity, AiCE) without being a copy.

Trained on phantoms by training/train_denoising_stand_in.py; nothing here comes from a patient's image.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

import torch
import torch.nn.functional as F
from safetensors.torch import load
from torch import nn

from .noise_level import noise_level, noise_ratio

LAYERS, CHANNELS = 6, 24
CLIPPED_SIGMAS = 8.0  # larger differences of neighbours are edges, whatever their size
WEIGHTS = "data/denoising_stand_in.safetensors"


class DenoisingStandIn(nn.Module):
    """Estimate the noise from the differences of neighbours.

    No layer has a bias and tanh is odd: brighter and darker are equivalent, and a flat slice has no noise. Differences do
    not depend on the HU: air is denoised like soft tissue. tanh saturates: what exceeds the noise stays.
    """

    def __init__(self) -> None:
        super().__init__()
        widths = [2, *[CHANNELS] * (LAYERS - 1), 1]
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 3, bias=False) for a, b in zip(widths, widths[1:], strict=False))

    def forward(self, hu: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """Estimate the noise in HU of slices.

        Args:
            hu: (B, 1, H, W) HU, H and W above `LAYERS`.
            sigma: (B, 1, H, W) noise level in HU.

        Returns:
            (B, 1, H, W) HU.
        """
        sides = (LAYERS, LAYERS + 1, LAYERS, LAYERS + 1)
        padded = F.pad(hu, sides, mode="reflect")
        down, right = padded[..., 1:, :-1] - padded[..., :-1, :-1], padded[..., :-1, 1:] - padded[..., :-1, :-1]
        local = F.pad(sigma, (LAYERS,) * 4, mode="reflect")
        x = (torch.cat([down, right], dim=1) / local).clamp(-CLIPPED_SIGMAS, CLIPPED_SIGMAS)
        for layer in self.layers[:-1]:
            x = torch.tanh(layer(x))
        return self.layers[-1](x) * sigma


@torch.no_grad()
def network(hu: torch.Tensor, threshold: float) -> torch.Tensor:
    """Remove the noise that the network finds from a slice (H, W); a higher threshold takes more as noise."""
    sigma = threshold * noise_level(hu) * noise_ratio(hu)
    return hu - _trained().to(hu.device)(hu[None, None], sigma[None, None])[0, 0]


@cache
def _trained() -> DenoisingStandIn:
    """Return the packaged network; its weights are read on the first call."""
    model = DenoisingStandIn().requires_grad_(False).eval()
    model.load_state_dict(load(resources.files(__package__).joinpath(WEIGHTS).read_bytes()))  # half to single precision
    return model
