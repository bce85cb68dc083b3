"""Give a slice a requested local power: its valid part is kept, the missing part is synthesized.

In the short-time Fourier domain, for every window p and frequency f,

    Y(p, f) = g(p, f) A(p, f) + a(p, f) N(p, f),    a^2 = u P_B,    g^2 = (1 - u) P_B / P_A,

with A the slice, N white noise, P local powers and u the share of P_B that A does not contain: conditional sampling of a
Gaussian. Not in Selim et al. 2023.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ...utils.padding import continued
from .frequency import radial_frequency, ramp, ring_weights
from .local_spectrum import STRIDE, WINDOW

TAIL = 16  # pixels by which a filter may extend beyond its window on either side, for which zeros are padded
PADDED = WINDOW + 2 * TAIL
REACH = STRIDE + (WINDOW - STRIDE) // 2  # pixels that the outer windows need beyond the border of the slice
SMALLEST_SHARE, LARGEST_SHARE = 1e-12, 1 - 1e-6  # of new power; at 0 or 1 a logarithm is infinite


class TextureSynthesis(nn.Module):
    """Filter overlapping windows, padded for the filters' tails, and add them up; their Hann windows sum to 1.

    So equal filters everywhere amount to one convolution of the whole slice, without seams or a pattern of the stride, and
    gain 1 without noise returns the slice.

    Args:
        rings: Number of frequencies from 0 to `max_lp_cm` at which power is given.
        max_lp_cm: The last one.
        kept_lp_cm: Content of lower frequency keeps its HU: all kernels have MTF 1 at 0.
        trusted_from_lp_cm, trusted_to_lp_cm: The weight of a change of power grows from 0 to 1 in between: power of low
            frequency is anatomy, which does not depend on the kernel.
    """

    def __init__(
        self, rings: int, max_lp_cm: float, kept_lp_cm: float, trusted_from_lp_cm: float, trusted_to_lp_cm: float
    ):
        super().__init__()
        self.rings, self.max_lp_cm, self.kept_lp_cm = rings, max_lp_cm, kept_lp_cm
        trust = ramp(rings, trusted_from_lp_cm, trusted_to_lp_cm, max_lp_cm)
        self.trust: torch.Tensor
        self.window: torch.Tensor
        self.register_buffer("trust", trust.view(-1, 1, 1), persistent=False)
        hann = torch.hann_window(WINDOW, periodic=True)
        self.register_buffer("window", hann[:, None] * hann[None], persistent=False)

    def forward(
        self,
        sample: torch.Tensor,
        change: torch.Tensor,
        log_power: torch.Tensor,
        incoherent: torch.Tensor,
        noise: torch.Tensor,
        pixel_spacing: torch.Tensor,
    ) -> torch.Tensor:
        """Synthesize slices of the requested local power.

        Args:
            sample: Slices A, (B, 1, H, W), H and W multiples of 32.
            change: log P_B - log P_A, (B, rings, H / 32, W / 32).
            log_power: log P_B, density in sample units^2 mm^2, same shape.
            incoherent: u, the share of P_B that is new, 0 to 1, same shape.
            noise: White, of unit variance, (B, 1, H, W).
            pixel_spacing: (B,) in mm.

        Returns:
            (B, 1, H, W), float32.
        """
        # 1. Amplitudes by ring, for every window and for those that reach in from beyond the border. No power of low frequency
        #    is new: its gain would give every window a different mean.
        incoherent = (incoherent * self.trust).clamp(SMALLEST_SHARE, LARGEST_SHARE)
        log_gain = change * self.trust / 2 + torch.log1p(-incoherent) / 2
        spacing = torch.log(pixel_spacing.float()).view(-1, 1, 1, 1)
        log_added = (log_power + torch.log(incoherent)) / 2 - spacing
        # 2. Interpolate to every bin of the padded windows; content of low frequency stays.
        frequency = radial_frequency(PADDED, PADDED, pixel_spacing).flatten(1)  # [B,96*49]
        weights = ring_weights(frequency, self.rings, self.max_lp_cm).transpose(1, 2)  # [B,rings,96*49]
        changeable = (1 - torch.exp(-((frequency / self.kept_lp_cm) ** 2)))[:, None]
        gain = torch.exp((_bordered(log_gain) @ weights) * changeable)  # [B,windows,96*49]
        added = torch.exp(_bordered(log_added) @ weights) * changeable
        # 3. Filter, and add up.
        spectrum = gain * self._spectra(sample) + added * self._spectra(noise)
        windows = torch.fft.irfft2(spectrum.unflatten(2, (PADDED, PADDED // 2 + 1)))
        height, width = sample.shape[-2:]
        return _overlap_add(windows, (height, width))

    def _spectra(self, image: torch.Tensor) -> torch.Tensor:
        """Return the spectra (B, windows, 96 * 49) of (B, 1, H, W) by row, from the window before the first to that after the last."""
        windows = (
            continued(image.float(), REACH, REACH, REACH, REACH)[:, 0]
            .unfold(1, WINDOW, STRIDE)
            .unfold(2, WINDOW, STRIDE)
        )
        return torch.fft.rfft2(windows * self.window, s=(PADDED, PADDED)).flatten(3).flatten(1, 2)


def _bordered(maps: torch.Tensor) -> torch.Tensor:
    """Extend maps (B, rings, h, w) to (B, (h + 2) * (w + 2), rings); the outermost windows repeat their neighbours."""
    return F.pad(maps, (1, 1, 1, 1), mode="replicate").flatten(2).transpose(1, 2)


def _overlap_add(windows: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Add up filtered windows (B, windows, 96, 96), whose tails are wrapped around, to images (B, 1, H, W)."""
    windows = windows.roll((TAIL, TAIL), (-2, -1)).flatten(2).transpose(1, 2)  # [B,96*96,windows]
    full = (size[0] + STRIDE + PADDED, size[1] + STRIDE + PADDED)
    image = F.fold(windows, full, PADDED, stride=STRIDE)
    start = REACH + TAIL
    return image[..., start : start + size[0], start : start + size[1]]
