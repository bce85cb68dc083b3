"""Smooth noise while preserving edges, as vendors and researchers do, by several families of methods.

Two represent reconstruction itself: statistical.py iterative (ADMIRE, ASiR, SAFIRE, iDose), denoising_network.py
deep-learning reconstruction (TrueFidelity, AiCE). The others work on the image. None is linear, so that no linear filter
turns the smoothed kernel into the other one. Three families are excluded from all training: they show whether a model
has learnt smoothing, or only the smoothers that it was trained on. One of them is statistical reconstruction with another
prior, as vendors' priors are not known.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle

from .denoising_network import network
from .noise_level import noise_level
from .statistical import statistical, statistical_ggmrf

REACH = 3  # pixels: 7 x 7 neighbourhoods
SPATIAL_SIGMA = 1.6  # pixels
EDGE_SIGMAS = 2.2  # larger differences, in standard deviations of the noise, count as edges at threshold 1
GUIDED_SIGMAS, DIFFUSION_SIGMAS = 1.5, 1.5  # the same for the other families
SIGMA_SIGMAS, COSINE_MEDIANS = 1.8, 4.0
SIGMA_REACH, SIGMA_STRIDE = 6, 2  # pixels: every second one of 13 x 13
COSINE_BLOCK, COSINE_STRIDE = 8, 2
DIFFUSION_STEPS, DIFFUSION_RATE = 10, 0.2
NON_LOCAL_SIGMAS, PATCH, PATCH_DISTANCE = 0.8, 5, 6
VARIATION_SIGMAS = 1.0
LOWEST_TISSUE_HU = -450.0


def smooth(hu: torch.Tensor, family: str, strength: float = 1.0, threshold: float = 1.0) -> torch.Tensor:
    """Smooth a slice.

    Args:
        hu: (H, W) HU.
        family: Name in `SMOOTHERS`.
        strength: Share of the smoothed image in the result, 0 to 1.
        threshold: Threshold of edges relative to the family's default, which follows the noise of the image.

    Returns:
        float32 (H, W) HU.

    Raises:
        ValueError: for an unknown family or a strength outside [0, 1].
    """
    if family not in SMOOTHERS:
        raise ValueError(f"`family` must be one of {', '.join(SMOOTHERS)}, got {family!r}")
    if not 0 <= strength <= 1:
        raise ValueError(f"`strength` must be between 0 and 1, got {strength}")
    if strength == 0:
        return hu
    return hu + strength * (SMOOTHERS[family](hu, threshold) - hu)


def smooth_like_iterative(hu: torch.Tensor, strength: float) -> torch.Tensor:
    """Smooth by the bilateral filter, the fastest that resembles iterative reconstruction (ADMIRE, SAFIRE, ASiR).

    The family "statistical" resembles it more closely: it makes noise coarser, too. Vendors' middle settings remove about
    half of the noise, like a strength of .6.
    """
    return smooth(hu, "bilateral", strength)


def bilateral(hu: torch.Tensor, threshold: float) -> torch.Tensor:
    """Filter as Tomasi and Manduchi 1998, with a range width that follows the noise."""
    return _mean_of_like(hu, EDGE_SIGMAS * threshold * noise_level(hu), REACH, 1, SPATIAL_SIGMA)


def sigma_filter(hu: torch.Tensor, threshold: float) -> torch.Tensor:
    """Filter as Lee 1983: the mean of similar pixels of a wide neighbourhood, whatever their distance."""
    return _mean_of_like(hu, SIGMA_SIGMAS * threshold * noise_level(hu), SIGMA_REACH, SIGMA_STRIDE, float("inf"))


def cosine(hu: torch.Tensor, threshold: float) -> torch.Tensor:
    """Threshold the cosine transform of overlapping blocks (Yu and Sapiro 2011), by each coefficient's median."""
    n = torch.arange(COSINE_BLOCK)
    basis = torch.cos(torch.pi / COSINE_BLOCK * (n + 0.5) * n[:, None]) * (2 / COSINE_BLOCK) ** 0.5
    basis[0] /= 2**0.5
    blocks = torch.einsum("ky,lx->klyx", basis, basis).reshape(-1, 1, COSINE_BLOCK, COSINE_BLOCK).to(hu.device)
    height, width = hu.shape
    extra = [COSINE_BLOCK + (-side) % COSINE_STRIDE for side in (width, height)]
    padded = F.pad(hu[None, None], (COSINE_BLOCK, extra[0], COSINE_BLOCK, extra[1]), mode="reflect")
    coefficients = F.conv2d(padded, blocks, stride=COSINE_STRIDE)
    tissue = coefficients[:, :1] > LOWEST_TISSUE_HU * COSINE_BLOCK
    medians = coefficients.abs().flatten(2)[..., tissue.flatten() if tissue.any() else slice(None)].median(2).values
    limits = COSINE_MEDIANS * threshold * medians[..., None, None]
    limits[:, 0] = 0  # means of blocks
    kept = coefficients * (coefficients.abs() > limits)
    summed = F.conv_transpose2d(kept, blocks, stride=COSINE_STRIDE) * (COSINE_STRIDE / COSINE_BLOCK) ** 2
    return summed[0, 0, COSINE_BLOCK : COSINE_BLOCK + height, COSINE_BLOCK : COSINE_BLOCK + width]


def guided(hu: torch.Tensor, threshold: float) -> torch.Tensor:
    """Apply the guided filter of He, Sun and Tang 2013 with the image as its own guide."""
    epsilon = (GUIDED_SIGMAS * threshold * noise_level(hu)) ** 2
    exact = hu.double()
    mean = _box(exact)
    variance = _box(exact**2) - mean**2
    slope = variance / (variance + epsilon)
    return (_box(slope) * exact + _box(mean - slope * mean)).float()


def anisotropic_diffusion(hu: torch.Tensor, threshold: float) -> torch.Tensor:
    """Diffuse as Perona and Malik 1990."""
    edge = DIFFUSION_SIGMAS * threshold * noise_level(hu)
    for _ in range(DIFFUSION_STEPS):
        padded = F.pad(hu[None, None], (1,) * 4, mode="replicate")[0, 0]
        neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
        flow = sum((other - hu) * torch.exp(-(((other - hu) / edge) ** 2)) for other in neighbours)
        hu = hu + DIFFUSION_RATE * flow
    return hu


def non_local_means(hu: torch.Tensor, threshold: float) -> torch.Tensor:
    """Average as Buades, Coll and Morel 2005."""
    width = NON_LOCAL_SIGMAS * threshold * float(noise_level(hu))
    done = denoise_nl_means(hu.numpy(), patch_size=PATCH, patch_distance=PATCH_DISTANCE, h=width, fast_mode=True)
    return torch.from_numpy(done).float()


def total_variation(hu: torch.Tensor, threshold: float) -> torch.Tensor:
    """Minimize the total variation of Rudin, Osher and Fatemi 1992 by Chambolle's algorithm."""
    weight = VARIATION_SIGMAS * threshold * float(noise_level(hu))
    return torch.from_numpy(denoise_tv_chambolle(hu.numpy(), weight=weight)).float()


TRAINING_SMOOTHERS: dict[str, Callable[[torch.Tensor, float], torch.Tensor]] = {
    "bilateral": bilateral,
    "guided": guided,
    "anisotropic diffusion": anisotropic_diffusion,
    "sigma": sigma_filter,
    "cosine": cosine,
    "statistical": statistical,
    "network": network,
}
HELD_OUT_SMOOTHERS: dict[str, Callable[[torch.Tensor, float], torch.Tensor]] = {
    "non-local means": non_local_means,
    "total variation": total_variation,
    "statistical, q-GGMRF": statistical_ggmrf,
}
SMOOTHERS = TRAINING_SMOOTHERS | HELD_OUT_SMOOTHERS


def _mean_of_like(hu: torch.Tensor, edge: torch.Tensor, reach: int, stride: int, sigma: float) -> torch.Tensor:
    """Average neighbours up to `reach` pixels away, weighted by their similarity in HU and their distance."""
    height, width = hu.shape
    padded = _reflected(hu, reach)
    total, weights = torch.zeros_like(hu), torch.zeros_like(hu)
    for dy in range(-reach, reach + 1, stride):
        for dx in range(-reach, reach + 1, stride):
            other = padded[reach + dy : reach + dy + height, reach + dx : reach + dx + width]
            near = (dy * dy + dx * dx) / (2 * sigma**2)
            weight = torch.exp(-near - (other - hu) ** 2 / (2 * edge**2))
            total += weight * other
            weights += weight
    return total / weights


def _box(image: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(_reflected(image, REACH)[None], 2 * REACH + 1, 1)[0]


def _reflected(image: torch.Tensor, margin: int) -> torch.Tensor:
    return F.pad(image[None, None], (margin,) * 4, mode="reflect")[0, 0]
