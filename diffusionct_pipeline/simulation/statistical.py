"""Imitate model-based iterative reconstruction in the image: penalized weighted least squares about a slice.

In the projection domain the estimate minimizes |A x - p|^2 / variance + beta sum phi(differences of neighbours of x).
About the slice y of filtered back-projection the data term is (x - y)' A' W A (x - y), and A' W A is close to
D F^-1 (1 / |f|) F D with the Fourier transform F and D the inverse of the local noise level (Fessler and Rogers 1996).
Noise of low frequency is therefore trusted and stays, noise of high frequency is penalized: noise becomes coarser, as with
ADMIRE, SAFIRE and ASiR, and it is smoothed most where it was strongest. Edges beyond the prior's threshold stay.

phi is quadratic near 0, so that one operator bounds the total curvature, and the Fourier transform inverts it exactly.
Each step goes to the minimum of that bound (Geman and Yang 1995), with Nesterov's momentum.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from .noise_level import HIGHEST_RATIO, noise_level, noise_ratio

STEPS = 10
# beta, with |f| in cycles per pixel and differences in units of the noise level; removes half of a soft kernel's noise.
PENALTY = 5.0
HUBER_SIGMAS = 0.3  # larger gradients, in units of the noise level, are edges at threshold 1
GAUSSIAN_SIGMAS = 0.4  # the same for the generalized Gaussian prior, which bends there
GAUSSIAN_POWER = 1.2  # q of the q-GGMRF, whose p is 2


def statistical(hu: torch.Tensor, threshold: float) -> torch.Tensor:
    """Smooth by penalized weighted least squares with Huber's prior, quadratic for noise and linear for edges."""

    def pull(gradient: torch.Tensor) -> torch.Tensor:  # [H,W] share of the gradient
        return (HUBER_SIGMAS * threshold / gradient.clamp(min=1e-6)).clamp(max=1)

    return _reconstructed(hu, pull)


def statistical_ggmrf(hu: torch.Tensor, threshold: float) -> torch.Tensor:
    """Smooth with the q-generalized Gaussian Markov random field of Thibault et al. 2007 as prior (Veo's)."""

    def pull(gradient: torch.Tensor) -> torch.Tensor:
        bent = (gradient / (GAUSSIAN_SIGMAS * threshold)) ** (2 - GAUSSIAN_POWER)
        return (1 + GAUSSIAN_POWER / 2 * bent) / (1 + bent) ** 2

    return _reconstructed(hu, pull)


def _reconstructed(hu: torch.Tensor, pull: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Take `STEPS` steps towards the minimum for a slice (H, W); `pull` is phi'(t) / t of gradients in units of the noise."""
    level, ratio = noise_level(hu), noise_ratio(hu)
    gradient = _differences(hu) / level  # [2,H,W]
    bound = PENALTY * HIGHEST_RATIO**2
    # 1. The bound on the curvature, inverted: |f| / (1 + bound |f| (2 pi f)^2), differences in place of 2 pi f.
    height, width = hu.shape
    fy, fx = torch.fft.fftfreq(height, device=hu.device)[:, None], torch.fft.rfftfreq(width, device=hu.device)
    frequency = (fy**2 + fx**2).sqrt()
    inverse = frequency / (1 + bound * frequency * (4 - 2 * (2 * torch.pi * fy).cos() - 2 * (2 * torch.pi * fx).cos()))
    # 2. The noise that is removed, in units of its local level.
    noise, ahead, momentum = torch.zeros_like(hu), torch.zeros_like(hu), 1.0
    for _ in range(STEPS):
        steps = _differences(ahead)
        rest = gradient - _differences(ratio * ahead)  # of the estimate
        force = bound * steps + PENALTY * ratio * pull(rest.square().sum(0).sqrt()) * rest
        before, noise = noise, torch.fft.irfft2(inverse * torch.fft.rfft2(_divergence(force)), s=(height, width))
        faster = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead, momentum = noise + (momentum - 1) / faster * (noise - before), faster
    return hu - level * ratio * noise


def _differences(image: torch.Tensor) -> torch.Tensor:
    """Return the differences to the pixel below and to the right, (2, H, W); 0 at the borders."""
    out = torch.zeros(2, *image.shape, device=image.device)
    torch.sub(image[1:], image[:-1], out=out[0, :-1])
    torch.sub(image[:, 1:], image[:, :-1], out=out[1, :, :-1])
    return out


def _divergence(field: torch.Tensor) -> torch.Tensor:
    """Apply the adjoint of `_differences`, (H, W)."""
    down, right = field[0, :-1], field[1, :, :-1]
    out = torch.zeros_like(field[0])
    out[1:] += down
    out[:-1] -= down
    out[:, 1:] += right
    out[:, :-1] -= right
    return out
