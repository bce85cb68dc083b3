"""A radial linear filter fitted on pairs: a physicist's first choice, which the paper left out."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from scipy.fft import fftfreq, irfft2, rfft2, rfftfreq

from ..files import write_whole
from .protocol import FittingPair

BINS = 96
MAX_LP_MM = 1.4  # the corner of the Fourier plane at 0.5 mm; beyond, the last bin holds
PADDING = 32  # pixels by reflection, so that the borders do not wrap around
FITS = ("least_squares", "power")
FILE = "linear_filter.json"
CT_NUMBER_OFFSET = 1000.0  # added to HU, so that air is 0


class LinearFilter:
    """One gain for each ring of physical frequency.

    With source spectra S and target spectra T, HU + 1000 (air is 0): "least_squares" is sum Re(T S*) / sum |S|^2, the
    smallest error; "power" is sqrt(sum |T|^2 / sum |S|^2), the target's noise power.

    Args:
        fit: "least_squares" or "power".
    """

    target_kernel = ""

    def __init__(self, fit: str = "least_squares"):
        if fit not in FITS:
            raise ValueError(f"`fit` is {fit!r}; legal are {', '.join(FITS)}.")
        self.fit_by = fit
        self.gain: np.ndarray | None = None  # [BINS], over 0 to MAX_LP_MM

    def fit(self, pairs: Iterable[FittingPair]) -> LinearFilter:
        """Fit the gains on pairs; returns itself."""
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

    def standardize(self, hu: np.ndarray, pixel_spacing: float) -> np.ndarray:
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
        return (filtered[PADDING:-PADDING, PADDING:-PADDING] - CT_NUMBER_OFFSET).astype(np.float32)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the gains to `folder`/linear_filter.json."""
        gain = None if self.gain is None else self.gain.tolist()
        write_whole(Path(folder) / FILE, json.dumps({"fit": self.fit_by, "gain": gain}) + "\n")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> LinearFilter:
        """The filter that `save_pretrained` wrote.

        Raises:
            ValueError, OSError: if there is none.
        """
        saved = json.loads((Path(folder) / FILE).read_text())
        system = cls(saved["fit"])
        system.gain = None if saved["gain"] is None else np.array(saved["gain"])
        return system


def _padded(hu: np.ndarray) -> np.ndarray:
    return np.pad(np.asarray(hu, np.float64) + CT_NUMBER_OFFSET, PADDING, mode="reflect")


def _position(shape: tuple[int, int], spacing_mm: float) -> np.ndarray:
    """Fractional bin of every frequency of `rfft2`."""
    cycles_per_pixel = np.hypot(fftfreq(shape[0])[:, None], rfftfreq(shape[1])[None])
    return cycles_per_pixel / spacing_mm / MAX_LP_MM * (BINS - 1)
