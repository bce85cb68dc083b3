"""Measure the noise of a slice in the body, from which every smoother takes its thresholds."""

from __future__ import annotations

import torch
import torch.nn.functional as F

LOWEST_BODY_HU = -300.0
LAPLACIAN_SHARE = 2.2  # noise over its Laplacian, which lacks some of it as CT noise is correlated
MEDIAN_TO_SIGMA = 1.4826  # of a normal distribution
LOWEST_MEDIAN_HU = 0.5
CLIPPED_MEDIANS = 6.0  # a Laplacian beyond this many medians is an edge, not noise
MAP_SIGMA = 24.0  # pixels: noise of CT varies slowly, like the attenuation of its rays
LOWEST_RATIO, HIGHEST_RATIO = 0.6, 1.6  # of the map to its level; beyond, anatomy is mistaken for noise
LEAST_BODY = 0.02  # share of body below which a position takes the level of the whole slice


def noise_level(hu: torch.Tensor) -> torch.Tensor:
    """Return a robust estimate of the noise in HU from the Laplacian inside the body of a slice (H, W)."""
    laplacian = _laplacian(hu)
    body = laplacian[hu[1:-1, 1:-1] > LOWEST_BODY_HU]
    return LAPLACIAN_SHARE * MEDIAN_TO_SIGMA * _median(body if len(body) else laplacian)


def noise_ratio(hu: torch.Tensor) -> torch.Tensor:
    """Return the local noise level relative to `noise_level`, a smooth map (H, W) of a slice (H, W).

    Shoulders have more noise than the apex of a lung. Measured in soft tissue and bone, extended smoothly to the rest.
    """
    laplacian = F.pad(_laplacian(hu), (1, 1, 1, 1))
    body = F.pad((hu[1:-1, 1:-1] > LOWEST_BODY_HU).float(), (1, 1, 1, 1))
    if not body.any():
        return torch.ones_like(hu)
    median = _median(laplacian[body > 0])
    clipped = laplacian.clamp(max=CLIPPED_MEDIANS * median) * body
    typical = clipped.sum() / body.sum()
    noise, weight = _blurred(torch.stack([clipped, body]))
    local = (noise + LEAST_BODY * typical) / (weight + LEAST_BODY)
    return (local / typical.clamp(min=1e-6)).clamp(LOWEST_RATIO, HIGHEST_RATIO)


def _laplacian(hu: torch.Tensor) -> torch.Tensor:
    neighbours = hu[:-2, 1:-1] + hu[2:, 1:-1] + hu[1:-1, :-2] + hu[1:-1, 2:]
    return (hu[1:-1, 1:-1] - neighbours / 4).abs()


def _median(values: torch.Tensor) -> torch.Tensor:
    return values.median().clamp(min=LOWEST_MEDIAN_HU)


def _blurred(maps: torch.Tensor) -> torch.Tensor:
    """Blur maps (N, H, W) by a Gaussian in the Fourier domain; opposite borders meet in air."""
    height, width = maps.shape[-2:]
    fy, fx = torch.fft.fftfreq(height, device=maps.device), torch.fft.rfftfreq(width, device=maps.device)
    transfer = torch.exp(-2 * (torch.pi * MAP_SIGMA) ** 2 * (fy[:, None] ** 2 + fx**2))
    return torch.fft.irfft2(torch.fft.rfft2(maps) * transfer, s=(height, width)).clamp(min=0)
