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

from ...utils.padding import pad_odd_reflect
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
        log_gain, log_added = _bordered(log_gain), _bordered(log_added)  # [B,h+2,w+2,rings]
        windows, noise_windows = _windows(sample), _windows(noise)  # [B,h+2,w+2,64,64]
        # 3. Filter a row of windows, and add it to the image: what a row needs stays in the cache of a core.
        rows, columns = log_gain.shape[1:3]
        image = sample.new_zeros(len(sample), (rows + 2) * STRIDE, (columns + 2) * STRIDE, dtype=torch.float32)
        for row in range(rows):
            gain = torch.exp((log_gain[:, row] @ weights) * changeable)  # [B,w+2,96*49]
            added = torch.exp(log_added[:, row] @ weights) * changeable
            kept = self._spectra(windows[:, row]) * gain[..., None]
            spectrum = torch.addcmul(kept, self._spectra(noise_windows[:, row]), added[..., None])
            spectrum = torch.view_as_complex(spectrum).unflatten(2, (PADDED, PADDED // 2 + 1))
            strip = image[:, row * STRIDE : row * STRIDE + PADDED]
            strip += _added_up(torch.fft.irfft2(spectrum))
        start, (height, width) = REACH + TAIL, sample.shape[-2:]
        return image[:, None, start : start + height, start : start + width]

    def _spectra(self, windows: torch.Tensor) -> torch.Tensor:
        """Return the spectra (B, n, 96 * 49, 2), real and imaginary parts, of windows (B, n, 64, 64) padded for tails."""
        spectra = torch.fft.rfft2(F.pad(windows * self.window, (TAIL, TAIL, TAIL, TAIL)))
        return torch.view_as_real(spectra.flatten(2))


def _windows(image: torch.Tensor) -> torch.Tensor:
    """Return the windows (B, h + 2, w + 2, 64, 64) of (B, 1, H, W), from that before the first to that after the last; no copy."""
    reached = pad_odd_reflect(image.float(), REACH, REACH, REACH, REACH)[:, 0]
    return reached.unfold(1, WINDOW, STRIDE).unfold(2, WINDOW, STRIDE)


def _bordered(maps: torch.Tensor) -> torch.Tensor:
    """Extend maps (B, rings, h, w) to (B, h + 2, w + 2, rings); the outermost windows repeat their neighbours."""
    return F.pad(maps, (1, 1, 1, 1), mode="replicate").movedim(1, -1)


def _added_up(windows: torch.Tensor) -> torch.Tensor:
    """Add up filtered windows of a row with their tails, (B, n, 96, 96), to a strip (B, 96, (n + 2) * 32)."""
    count, parts = windows.shape[1], PADDED // STRIDE
    strip = windows.new_zeros(len(windows), PADDED, count + parts - 1, STRIDE)
    for part in range(parts):
        strip[:, :, part : part + count] += windows[..., part * STRIDE : (part + 1) * STRIDE].transpose(1, 2)
    return strip.flatten(2)
