"""The linear part of a change of kernel: a radial filter in lp/cm, driven by the latent's style.

Not in Selim et al. 2023. A kernel is defined per physical frequency, so a network that does not know the pixel spacing
mis-sharpens every other field of view.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .frequency import knot_position, radial_frequency, ramp
from .local_spectrum import LOG_POWER_UNIT

PADDING = 32  # pixels, by reflection: more than the support of any kernel, so that the borders do not wrap around
BAND_CENTRES = (3.0, 5.0, 7.0, 9.0)  # lp/cm; the last band is open-ended


class StyleFilter(nn.Module):
    """Filter a slice so that its power becomes that of the target's style (as `LinearFilter("power")` does).

    The log-gain is half the difference of the log powers, so equal styles give a gain of exactly 1, and what is slower
    than `kept_lp_cm` keeps its HU. A network on top learnt gains that held for its training pairs only.

    Args:
        power: The channels of styles (B, C) that hold log power at `knots` frequencies.
        knots: Number of frequencies from 0 to `max_lp_cm` with a gain of their own.
        max_lp_cm: The last one.
        kept_lp_cm: What is slower keeps its HU: all kernels have MTF 1 at 0.
        trusted_from_lp_cm, trusted_to_lp_cm: The weight of the power grows from 0 to 1 in between: slow power is anatomy,
            which says nothing of the kernel.
    """

    def __init__(
        self,
        power: slice,
        knots: int,
        max_lp_cm: float,
        kept_lp_cm: float,
        trusted_from_lp_cm: float,
        trusted_to_lp_cm: float,
    ):
        super().__init__()
        self.power, self.knots, self.max_lp_cm, self.kept_lp_cm = power, knots, max_lp_cm, kept_lp_cm
        trust = ramp(knots, trusted_from_lp_cm, trusted_to_lp_cm, max_lp_cm)
        # Amplitude is half the log power.
        self.register_buffer("power_to_gain", trust * LOG_POWER_UNIT / 2, persistent=False)

    def log_gain(self, source_style: torch.Tensor, target_style: torch.Tensor) -> torch.Tensor:
        """(B, C) styles -> (B, knots) log-gains over 0 to `max_lp_cm`."""
        return (target_style - source_style)[:, self.power] * self.power_to_gain

    def forward(
        self,
        sample: torch.Tensor,
        source_style: torch.Tensor,
        target_style: torch.Tensor,
        pixel_spacing: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Filter slices.

        Args:
            sample: (B, 1, H, W), model range.
            source_style, target_style: (B, C) pooled latents, not normalized.
            pixel_spacing: (B,) in mm.

        Returns:
            The filtered slices (B, 1, H, W) and their bands around `BAND_CENTRES` (B, 4, H, W), float32.
        """
        spectrum, frequency = _spectrum(sample, pixel_spacing)
        position = knot_position(frequency, self.knots, self.max_lp_cm).clamp(max=self.knots - 1.001)
        index = position.long()
        log_gain = self.log_gain(source_style.float(), target_style.float())
        low = torch.gather(log_gain, 1, index.flatten(1)).view_as(position)
        high = torch.gather(log_gain, 1, index.flatten(1) + 1).view_as(position)
        log_gain = (low + (high - low) * (position - index)) * self._changeable(frequency)
        spectrum = spectrum * torch.exp(log_gain)[:, None]
        weights = torch.cat([torch.ones_like(frequency)[:, None], band_weights(frequency)], 1)
        filtered = _image(spectrum * weights, sample.shape[-2:])
        return filtered[:, :1], filtered[:, 1:]

    def keep_slow_content(self, residual: torch.Tensor, pixel_spacing: torch.Tensor) -> torch.Tensor:
        """Remove from a correction (B, 1, H, W) what would change the mean HU of a region; `pixel_spacing` (B,) in mm."""
        spectrum, frequency = _spectrum(residual, pixel_spacing)
        return _image(spectrum * self._changeable(frequency)[:, None], residual.shape[-2:])

    def _changeable(self, frequency: torch.Tensor) -> torch.Tensor:
        """0 for slow content, which keeps its HU, to 1."""
        return 1 - torch.exp(-((frequency / self.kept_lp_cm) ** 2))


def band_weights(frequency: torch.Tensor) -> torch.Tensor:
    """Overlapping bands that sum to 1 above the first centre: (B, H, W) lp/cm -> (B, 4, H, W)."""
    width = BAND_CENTRES[1] - BAND_CENTRES[0]
    hats = [(1 - (frequency - centre).abs() / width).clamp(min=0) for centre in BAND_CENTRES[:-1]]
    hats.append(((frequency - BAND_CENTRES[-1]) / width + 1).clamp(0, 1))
    return torch.stack(hats, 1)


def _spectrum(image: torch.Tensor, pixel_spacing: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Spectrum of the image padded by reflection, and its frequencies in lp/cm."""
    # Reflection needs more pixels than it adds: small images are padded by what they have.
    pad_y, pad_x = (min(PADDING, size - 1) for size in image.shape[-2:])
    padded = F.pad(image.float(), (pad_x, pad_x, pad_y, pad_y), mode="reflect")
    return torch.fft.rfft2(padded), radial_frequency(*padded.shape[-2:], pixel_spacing)


def _image(spectrum: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Inverse of `_spectrum` for an image of (height, width)."""
    height, width = size
    pad_y, pad_x = (min(PADDING, length - 1) for length in size)
    padded = torch.fft.irfft2(spectrum, s=(height + 2 * pad_y, width + 2 * pad_x))
    return padded[..., pad_y : pad_y + height, pad_x : pad_x + width]
