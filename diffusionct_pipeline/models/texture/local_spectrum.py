"""Measure the local noise power spectrum on a frequency axis in lp/cm: the signature of a kernel in an image."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from .frequency import radial_frequency, ring_weights

WINDOW = 64  # pixels; at 0.7 mm 45 mm, a frequency resolution of 0.22 lp/cm
STRIDE = 32  # one window for each position of the latent
EULER_GAMMA = 0.5772157  # by which the mean log of exponential variables, as bins of noise are, is below the log mean
FEWEST_BINS = 1.0  # the pixel spacing does not reach a ring whose bins have a total weight up to this
SMALLEST_PRODUCT = 1e-20  # two bins of a smaller product have no phase to compare


class LocalTexture(NamedTuple):
    """Describe the texture around every latent position.

    Attributes:
        log_power: (B, rings, h, w) log power density, model range^2 mm^2; rings that the pixel spacing does not reach
            repeat the last one that it reaches.
        mean: (B, 1, h, w) local mean, model range.
    """

    log_power: torch.Tensor
    mean: torch.Tensor


class LocalSpectrum(nn.Module):
    """Measure the log power in rings of physical frequency, in a Hann window around every latent position.

    The mean over a ring is that of the logarithms: an edge fills few directions of a ring and hardly changes the mean,
    which therefore shows the noise; and where the power falls steeply, the value is that of the middle of the ring. (With
    means of the power, vessels and walls raised the power of quiet tissue beside them, and gains of steep kernels came out
    5 % low.)

    Not in Selim et al. 2023: a ResNet works in cycles per pixel and must learn the spectrum from scratch.

    Args:
        rings: Number of frequencies from 0 to `max_lp_cm`.
        max_lp_cm: The last one.
        power_floor: Added to the power, model range^2 mm^2.
    """

    def __init__(self, rings: int, max_lp_cm: float, power_floor: float):
        super().__init__()
        self.rings, self.max_lp_cm, self.power_floor = rings, max_lp_cm, power_floor
        hann = torch.hann_window(WINDOW, periodic=False)
        self.window: torch.Tensor
        self.register_buffer("window", hann[:, None] * hann[None], persistent=False)

    def forward(self, sample: torch.Tensor, pixel_spacing: torch.Tensor) -> LocalTexture:
        """Measure the texture of slices.

        Args:
            sample: (B, 1, H, W), model range, H and W multiples of 32.
            pixel_spacing: (B,) in mm.
        """
        spectrum, mean = self._windows(sample)
        power = spectrum.real.square() + spectrum.imag.square()
        power = power * pixel_spacing.float().view(-1, 1, 1, 1, 1) ** 2  # density per lp/cm, not per pixel
        log_power = self._ring_means(torch.log(power + self.power_floor), pixel_spacing) + EULER_GAMMA
        return LocalTexture(log_power, mean)

    def phase_agreement(self, a: torch.Tensor, b: torch.Tensor, pixel_spacing: torch.Tensor) -> torch.Tensor:
        """Return the mean cosine of the phase differences of two images of one object, by position and ring.

        Args:
            a, b: (B, 1, H, W), model range.
            pixel_spacing: (B,) in mm.

        Returns:
            (B, rings, h, w), -1 to 1; `coherence_of` converts it to a coherence. All bins have the same weight, so that
            edges, which every kernel keeps, do not hide the change of the noise.
        """
        product = self._windows(a)[0] * self._windows(b)[0].conj()
        return self._ring_means(product.real / product.abs().clamp(min=SMALLEST_PRODUCT), pixel_spacing)

    def _windows(self, sample: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return spectra (B, h, w, 64, 33) of windows of unit noise power, and the windows' means (B, 1, h, w)."""
        margin = (WINDOW - STRIDE) // 2
        padded = F.pad(sample.float(), (margin,) * 4, mode="reflect")
        windows = padded[:, 0].unfold(1, WINDOW, STRIDE).unfold(2, WINDOW, STRIDE)  # [B,h,w,64,64]
        mean = windows.mean((-2, -1), keepdim=True)
        spectrum = torch.fft.rfft2((windows - mean) * self.window) / self.window.square().sum().sqrt()
        return spectrum, mean[..., 0, 0][:, None]

    def _ring_means(self, values: torch.Tensor, pixel_spacing: torch.Tensor) -> torch.Tensor:
        """Average values (B, h, w, 64, 33) at the bins over rings: (B, rings, h, w)."""
        frequency = radial_frequency(WINDOW, WINDOW, pixel_spacing).flatten(1)  # [B,64*33]
        weights = ring_weights(frequency, self.rings, self.max_lp_cm) * (frequency <= self.max_lp_cm)[..., None]
        coverage = weights.sum(1)  # [B,rings]
        means = values.flatten(3).flatten(1, 2) @ (weights / coverage.clamp(min=1e-6)[:, None])  # [B,h*w,rings]
        last = ((coverage > FEWEST_BINS).sum(1) - 1).clamp(min=0)  # [B]
        ring = torch.minimum(torch.arange(self.rings, device=last.device), last[:, None])  # [B,rings]
        means = means.gather(2, ring[:, None].expand_as(means))
        return means.transpose(1, 2).unflatten(2, values.shape[1:3])
