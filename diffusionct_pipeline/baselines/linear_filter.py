"""A radial linear filter fitted on pairs: a physicist's first choice, which the paper left out."""

import numpy as np
from scipy.fft import fftfreq, irfft2, rfft2, rfftfreq

BINS = 96
MAX_LP_MM = 1.4  # the corner of the Fourier plane at 0.5 mm; beyond, the last bin holds
PADDING = 32  # pixels by reflection, so that the borders do not wrap around
FITS = ("least_squares", "power")


class LinearFilter:
    """One gain for each ring of physical frequency.

    With source spectra S and target spectra T, HU + 1000 (air is 0): "least_squares" is sum Re(T S*) / sum |S|^2, the
    smallest error; "power" is sqrt(sum |T|^2 / sum |S|^2), the target's noise power.

    Args:
        fit: "least_squares" or "power".
    """

    def __init__(self, fit="least_squares"):
        if fit not in FITS:
            raise ValueError(f"`fit` is {fit!r}; legal are {', '.join(FITS)}.")
        self.fit_by, self.gain = fit, None

    def fit(self, pairs):
        """Fit on (source, target, pixel spacing in mm) triples of (H, W) HU arrays; returns itself."""
        numerator, denominator = np.zeros(BINS), np.zeros(BINS)
        for source, target, spacing_mm in pairs:
            s, t = (rfft2(_padded(hu)) for hu in (source, target))
            ring = np.clip(np.rint(_position(_padded(source).shape, spacing_mm)).astype(int), 0, BINS - 1).ravel()
            top = (t * s.conj()).real if self.fit_by == "least_squares" else np.abs(t) ** 2
            numerator += np.bincount(ring, top.ravel(), BINS)
            denominator += np.bincount(ring, (np.abs(s) ** 2).ravel(), BINS)
        seen = denominator > 0
        gain = np.interp(np.arange(BINS), np.flatnonzero(seen), numerator[seen] / denominator[seen])
        self.gain = np.sqrt(gain) if self.fit_by == "power" else gain
        return self

    def standardize(self, hu, pixel_spacing):
        """Filter a slice.

        Args:
            hu: (H, W) HU.
            pixel_spacing: mm.

        Returns:
            (H, W) float32 HU.

        Raises:
            ValueError: if the filter was not fitted.
        """
        if self.gain is None:
            raise ValueError("the linear filter has no gains yet; call `fit` with training pairs first.")
        padded = _padded(hu)
        gain = np.interp(_position(padded.shape, pixel_spacing), np.arange(BINS), self.gain)
        filtered = irfft2(rfft2(padded) * gain, s=padded.shape)
        return (filtered[PADDING:-PADDING, PADDING:-PADDING] - 1000).astype(np.float32)


def _padded(hu):
    return np.pad(np.asarray(hu, np.float64) + 1000, PADDING, mode="reflect")


def _position(shape, spacing_mm):
    """Fractional bin of every frequency of `rfft2`."""
    cycles_per_pixel = np.hypot(fftfreq(shape[0])[:, None], rfftfreq(shape[1])[None])
    return cycles_per_pixel / spacing_mm / MAX_LP_MM * (BINS - 1)
