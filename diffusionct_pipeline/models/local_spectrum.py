"""The local noise-power spectrum on a frequency axis in lp/cm: what a kernel leaves in an image."""

import torch
import torch.nn.functional as F
from torch import nn

from .frequency import MAX_LP_CM, knot_position, radial_frequency, ramp

WINDOW = 64  # pixels; at 0.7 mm 45 mm, a frequency resolution of 0.22 lp/cm
STRIDE = 32  # one window for each position of the latent
LOG_POWER_UNIT = 4.0
NOISE_DOMINATED_LP_CM = (1.5, 3.0)
POWER_FLOOR = 1e-8  # model range^2 mm^2; the quantization to 1 HU leaves 1.6e-7 at 0.7 mm


class LocalSpectrum(nn.Module):
    """Log power in rings of physical frequency, of a Hann window around every latent position.

    Not in Selim et al. 2023: a ResNet sees cycles per pixel and must learn the spectrum from scratch.
    """

    def __init__(self, rings=24):
        super().__init__()
        self.rings = rings
        self.out_channels = 2 * rings + 1
        hann = torch.hann_window(WINDOW, periodic=False)
        self.register_buffer("window", hann[:, None] * hann[None], persistent=False)

    def forward(self, sample, pixel_spacing):
        """Describe the texture of a slice.

        Args:
            sample: (B, 1, H, W), model range, H and W multiples of 32.
            pixel_spacing: (B,) in mm.

        Returns:
            (B, 2 * rings + 1, H / 32, W / 32): log power in units of `LOG_POWER_UNIT`, in rings that the pixel spacing
            does not reach that of the last one it reaches; whether it reaches a ring, 0 or 1; local mean.
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
        reached = (coverage > 1)[:, None].float().expand_as(ring_power)
        log_power = (torch.log(ring_power + POWER_FLOOR) + 10) / LOG_POWER_UNIT  # unit-ish range: -18 .. -2 before
        last = (reached.sum(-1, keepdim=True).long() - 1).clamp(min=0)
        log_power = torch.where(reached > 0, log_power, log_power.gather(-1, last))
        described = torch.cat([log_power, reached, mean.flatten(1)[..., None]], -1)
        return described.transpose(1, 2).unflatten(2, windows.shape[1:3])

    def noise_dominated(self):
        """(rings,) weights that grow from 0 to 1: slow power is anatomy, which differs from slice to slice."""
        return ramp(self.rings, *NOISE_DOMINATED_LP_CM).to(self.window.device)

    def _ring_weights(self, pixel_spacing):
        frequency = radial_frequency(WINDOW, WINDOW, pixel_spacing).flatten(1)  # [B,64*33]
        knots = torch.arange(self.rings, device=frequency.device)
        hats = (1 - (knot_position(frequency, self.rings)[..., None] - knots).abs()).clamp(min=0)
        return hats * (frequency <= MAX_LP_CM)[..., None]
