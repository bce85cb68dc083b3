"""Frequency axes in lp/cm: reconstruction kernels are defined there, not in cycles per pixel."""

import torch

# Nyquist of 0.42 mm pixels; the sharpest kernels of the table (Bl64, GE BONE) have fallen to 10 % by then.
MAX_LP_CM = 12.0


def radial_frequency(height, width, pixel_spacing):
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


def knot_position(frequency_lp_cm, knots):
    """Position on a grid of `knots` points over 0 to `MAX_LP_CM`, clamped to its ends."""
    return (frequency_lp_cm / MAX_LP_CM * (knots - 1)).clamp(0, knots - 1)


def ramp(knots, low_lp_cm, high_lp_cm):
    """Weights (knots,) over 0 to `MAX_LP_CM` that grow from 0 at `low_lp_cm` to 1 at `high_lp_cm`."""
    lp_cm = torch.linspace(0, MAX_LP_CM, knots)
    return ((lp_cm - low_lp_cm) / (high_lp_cm - low_lp_cm)).clamp(0, 1)
