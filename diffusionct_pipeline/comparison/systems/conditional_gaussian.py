"""Conditional Gaussian sampling: what is predictable by least squares, and noise for what is not."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.fft import irfft2, rfft2
from scipy.ndimage import gaussian_filter, median_filter

from .fitted import FittedSystem
from .protocol import FittingPair
from .rings import BINS, fill, filtered, padded, position, ring_sums

MEDIAN_PIXELS, BLUR_PIXELS = 21, 3.0  # a local variance would leak from edges and bone, a median does not
SCALE_LIMITS = (0.5, 2.0)
TISSUE_HU = (-200.0, 200.0)  # whose local noise is the unit of s; everything where there is none


class ConditionalGaussian(FittedSystem):
    """y = h * x + s(r) n, the conditional distribution if x and y were jointly Gaussian.

    H(f) = S_xy / S_xx; n has the spectrum S_yy (1 - c), c = |S_xy|^2 / (S_xx S_yy); s(r) is the local median of
    |h * x - its Gaussian blur| over its median in tissue. The strongest method without a network on denoised sources.
    Scaled so that mean s^2 is 1 over the slice, since the spectra are those of whole slices [G].

    Args:
        seed: Of the noise.
    """

    learnt = ("gain", "noise_power")

    def __init__(self, seed: int = 0):
        self.seed = seed
        self.gain: np.ndarray | None = None  # H, [BINS]
        self.noise_power: np.ndarray | None = None  # HU^2 mm^2, [BINS]

    def fit(self, pairs: Iterable[FittingPair]) -> ConditionalGaussian:
        """Spectra and coherence over pairs; returns itself."""
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
        """(H, W) HU with pixels of `pixel_spacing` mm -> (H, W) float32 HU.

        Raises:
            ValueError: if it was not fitted.
        """
        self.require_fit()
        coherent = filtered(hu, self.gain, pixel_spacing)
        white = np.random.default_rng(self.seed).standard_normal(coherent.shape)
        rings = position(white.shape, pixel_spacing)
        amplitude = np.sqrt(np.interp(rings, np.arange(BINS), self.noise_power)) / pixel_spacing
        noise = irfft2(rfft2(white) * amplitude, s=white.shape)
        return (coherent + local_scale(coherent) * noise).astype(np.float32)


def local_scale(hu: np.ndarray) -> np.ndarray:
    """s(r), (H, W): how much noisier than the rest a place is, mean square 1."""
    local = median_filter(np.abs(hu - gaussian_filter(hu, BLUR_PIXELS)), MEDIAN_PIXELS)
    tissue = (hu > TISSUE_HU[0]) & (hu < TISSUE_HU[1])
    scale = (local / max(np.median(local[tissue] if tissue.any() else local), 1e-6)).clip(*SCALE_LIMITS)
    return scale / np.sqrt(np.mean(scale**2))
