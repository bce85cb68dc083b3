"""Frequency axes in lp/cm: reconstruction kernels are defined there, not in cycles per pixel."""

from __future__ import annotations

import torch


def radial_frequency(height: int, width: int, pixel_spacing: torch.Tensor) -> torch.Tensor:
    """Radius of every bin of `torch.fft.rfft2`, in lp/cm.

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


def knot_position(frequency_lp_cm: torch.Tensor, knots: int, max_lp_cm: float) -> torch.Tensor:
    """Position on a grid of `knots` points over 0 to `max_lp_cm`, clamped to its ends."""
    return (frequency_lp_cm / max_lp_cm * (knots - 1)).clamp(0, knots - 1)


def ramp(knots: int, from_lp_cm: float, to_lp_cm: float, max_lp_cm: float) -> torch.Tensor:
    """Weights (knots,) over 0 to `max_lp_cm` that grow from 0 at `from_lp_cm` to 1 at `to_lp_cm`."""
    lp_cm = torch.linspace(0, max_lp_cm, knots)
    return ((lp_cm - from_lp_cm) / (to_lp_cm - from_lp_cm)).clamp(0, 1)
