"""Compute frequency axes in lp/cm, in which reconstruction kernels are defined, not in cycles per pixel."""

from __future__ import annotations

import torch


def radial_frequency(height: int, width: int, pixel_spacing: torch.Tensor) -> torch.Tensor:
    """Return the radius of every bin of `torch.fft.rfft2` in lp/cm.

    Args:
        height, width: Size of the image in pixels.
        pixel_spacing: (B,) tensor in mm.

    Returns:
        (B, height, width // 2 + 1) float32 tensor in lp/cm.
    """
    device = pixel_spacing.device
    fy = torch.fft.fftfreq(height, device=device)
    fx = torch.fft.rfftfreq(width, device=device)
    cycles_per_pixel = (fy[:, None] ** 2 + fx[None] ** 2).sqrt()
    return cycles_per_pixel[None] / pixel_spacing.float().view(-1, 1, 1) * 10.0


def ring_weights(frequency: torch.Tensor, rings: int, max_lp_cm: float) -> torch.Tensor:
    """Return the weights of linear interpolation between `rings` frequencies from 0 to `max_lp_cm`.

    Frequencies (...) in lp/cm give weights (..., rings) of sum 1. Beyond the last ring its weight stays 1.
    """
    position = (frequency / max_lp_cm * (rings - 1)).clamp(0, rings - 1)[..., None]
    return (1 - (position - torch.arange(rings, device=frequency.device)).abs()).clamp(min=0)


def ramp(rings: int, from_lp_cm: float, to_lp_cm: float, max_lp_cm: float) -> torch.Tensor:
    """Return weights (rings,) over 0 to `max_lp_cm` that grow from 0 at `from_lp_cm` to 1 at `to_lp_cm`."""
    lp_cm = torch.linspace(0, max_lp_cm, rings)
    return ((lp_cm - from_lp_cm) / (to_lp_cm - from_lp_cm)).clamp(0, 1)
