"""Conditional Gaussian sampling: least squares for what is predictable, and noise for the rest."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.fft import irfft2, rfft2
from scipy.ndimage import gaussian_filter, median_filter

from .fitted import FittedSystem
from .protocol import FittingPair, slice_seed
from .rings import BINS, fill, filtered, padded, position, ring_sums

MEDIAN_PIXELS, BLUR_PIXELS = 21, 3.0  # a local variance would leak from edges and bone; a median does not
SCALE_LIMITS = (0.5, 2.0)
TISSUE_HU = (-200.0, 200.0)  # its local noise is the unit of s; the whole slice where there is no tissue


class ConditionalGaussian(FittedSystem):
    """y = h * x + s(r) n, the conditional distribution if x and y were jointly Gaussian.

    H(f) = S_xy / S_xx; n has the spectrum S_yy (1 - c), c = |S_xy|^2 / (S_xx S_yy); s(r) is the local median of
    |h * x - its Gaussian blur| over its median in tissue. The strongest method without a network on denoised sources.
    s is scaled to a mean square of 1 over the slice, since the spectra are those of whole slices [G].

    Args:
        seed: Seed of the noise of `standardize`.
    """

    learnt = ("gain", "noise_power")

    def __init__(self, seed: int = 0):
        self.seed = seed
        self.gain: np.ndarray | None = None  # H, [BINS]
        self.noise_power: np.ndarray | None = None  # HU^2 mm^2, [BINS]

    def fit(self, pairs: Iterable[FittingPair]) -> ConditionalGaussian:
        """Measure spectra and coherence over pairs; return the system itself."""
        xx, yy, xy, rings = (np.zeros(BINS) for _ in range(4))
        for source, target, spacing_mm in pairs:
            shape = padded(source).shape
            x, y = (rfft2(padded(hu)) for hu in (source, target))
            density = spacing_mm**2 / np.prod(shape)  # |FFT|^2 -> HU^2 mm^2
            for total, value in ((xx, np.abs(x) ** 2), (yy, np.abs(y) ** 2), (xy, (y * x.conj()).real)):
                total += ring_sums(value, shape, spacing_mm) * density
            rings += ring_sums(np.ones(x.shape), shape, spacing_mm)
        seen = rings > 0
        xx, yy, xy, rings = (np.where(seen, values, 1) for values in (xx, yy, xy, rings))
        self.gain = fill(xy / xx, seen)
        self.noise_power = fill(np.maximum(yy - xy**2 / xx, 0) / rings, seen)  # S_yy (1 - c)
        return self

    def standardize(self, hu: np.ndarray, pixel_spacing: float) -> np.ndarray:
        """Standardize (H, W) HU with pixels of `pixel_spacing` mm; return (H, W) float32 HU.

        Raises:
            ValueError: if the system is not fitted.
        """
        return self._sampled(hu, pixel_spacing, self.seed)

    def standardize_slice(
        self, hu: np.ndarray, pixel_spacing: float, position_mm: float, thickness_mm: float | None, seed: int
    ) -> np.ndarray:
        """Standardize one slice of a scan; see `System.standardize_slice`. Each position gets noise of its own."""
        return self._sampled(hu, pixel_spacing, slice_seed(seed, position_mm))

    def _sampled(self, hu: np.ndarray, pixel_spacing: float, seed: int) -> np.ndarray:
        gain, noise_power = self.require_fit(self.gain), self.require_fit(self.noise_power)
        coherent = filtered(hu, gain, pixel_spacing)
        white = np.random.default_rng(seed).standard_normal(coherent.shape)
        rings = position(white.shape, pixel_spacing)
        amplitude = np.sqrt(np.interp(rings, np.arange(BINS), noise_power)) / pixel_spacing
        noise = irfft2(rfft2(white) * amplitude, s=white.shape)
        return (coherent + local_scale(coherent) * noise).astype(np.float32)


def local_scale(hu: np.ndarray) -> np.ndarray:
    """Measure s(r), (H, W): how much noisier each place is than the rest, with a mean square of 1."""
    local = median_filter(np.abs(hu - gaussian_filter(hu, BLUR_PIXELS)), MEDIAN_PIXELS)
    tissue = (hu > TISSUE_HU[0]) & (hu < TISSUE_HU[1])
    scale = (local / max(np.median(local[tissue] if tissue.any() else local), 1e-6)).clip(*SCALE_LIMITS)
    return scale / np.sqrt(np.mean(scale**2))
