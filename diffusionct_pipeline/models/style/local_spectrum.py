"""The local noise-power spectrum on a frequency axis in lp/cm: what a kernel leaves in an image."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from .frequency import knot_position, radial_frequency

WINDOW = 64  # pixels; at 0.7 mm 45 mm, a frequency resolution of 0.22 lp/cm
STRIDE = 32  # one window for each position of the latent
LOG_POWER_OFFSET, LOG_POWER_UNIT = 10.0, 4.0  # log power is -18 .. -2: unit-ish range after (log + offset) / unit
FEWEST_BINS = 1  # a ring with a total weight of bins up to this is not reached


class LocalTexture(NamedTuple):
    """Texture around every latent position, each (B, n, H / 32, W / 32).

    Attributes:
        log_power: (n = rings) log power density in units of `LOG_POWER_UNIT`; in rings that the pixel spacing does not
            reach that of the last one it reaches.
        reached: (n = rings) whether the pixel spacing reaches a ring, 0 or 1.
        mean: (n = 1) local mean, model range.
    """

    log_power: torch.Tensor
    reached: torch.Tensor
    mean: torch.Tensor


class LocalSpectrum(nn.Module):
    """Log power in rings of physical frequency, of a Hann window around every latent position.

    Not in Selim et al. 2023: a ResNet sees cycles per pixel and must learn the spectrum from scratch.

    Args:
        rings: Number of frequencies from 0 to `max_lp_cm`.
        max_lp_cm: The last one.
        power_floor: Added to the power, model range^2 mm^2.
    """

    def __init__(self, rings: int, max_lp_cm: float, power_floor: float):
        super().__init__()
        self.rings, self.max_lp_cm, self.power_floor = rings, max_lp_cm, power_floor
        hann = torch.hann_window(WINDOW, periodic=False)
        self.register_buffer("window", hann[:, None] * hann[None], persistent=False)

    def forward(self, sample: torch.Tensor, pixel_spacing: torch.Tensor) -> LocalTexture:
        """Describe the texture of slices.

        Args:
            sample: (B, 1, H, W), model range, H and W multiples of 32.
            pixel_spacing: (B,) in mm.
        """
        margin = (WINDOW - STRIDE) // 2
        padded = F.pad(sample.float(), (margin,) * 4, mode="reflect")
        windows = padded[:, 0].unfold(1, WINDOW, STRIDE).unfold(2, WINDOW, STRIDE)  # [B,h,w,64,64]
        mean = windows.mean((-2, -1), keepdim=True)
        spectrum = torch.fft.rfft2((windows - mean) * self.window)
        power = (spectrum.real**2 + spectrum.imag**2) / self.window.square().sum()
        power = power * pixel_spacing.float().view(-1, 1, 1, 1, 1) ** 2  # density per lp/cm, not per pixel
        weights = self._ring_weights(pixel_spacing)  # [B,64*33,rings]
        coverage = weights.sum(1)
        ring_power = power.flatten(3).flatten(1, 2) @ (weights / coverage.clamp(min=1e-6)[:, None])  # [B,h*w,rings]
        reached = (coverage > FEWEST_BINS)[:, None].float().expand_as(ring_power)
        log_power = (torch.log(ring_power + self.power_floor) + LOG_POWER_OFFSET) / LOG_POWER_UNIT
        last = (reached.sum(-1, keepdim=True).long() - 1).clamp(min=0)
        log_power = torch.where(reached > 0, log_power, log_power.gather(-1, last))
        grid = windows.shape[1:3]
        each = (log_power, reached, mean.flatten(1)[..., None])  # [B,h*w,n]
        return LocalTexture(*(values.transpose(1, 2).unflatten(2, grid) for values in each))

    def _ring_weights(self, pixel_spacing: torch.Tensor) -> torch.Tensor:
        frequency = radial_frequency(WINDOW, WINDOW, pixel_spacing).flatten(1)  # [B,64*33]
        knots = torch.arange(self.rings, device=frequency.device)
        position = knot_position(frequency, self.rings, self.max_lp_cm)[..., None]
        hats = (1 - (position - knots).abs()).clamp(min=0)
        return hats * (frequency <= self.max_lp_cm)[..., None]
