"""A radial linear filter fitted on pairs: a physicist's first choice, which the paper omits."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from scipy.fft import rfft2

from ...utils.files import write_whole
from .protocol import FittingPair, System
from .rings import BINS, fill, filtered, padded, ring_sums

FITS = ("least_squares", "power")
FILE = "linear_filter.json"


class LinearFilter(System):
    """Applies one gain to each ring of physical frequency.

    With source spectra S and target spectra T, HU + 1000 (air is 0): "least_squares" is sum Re(T S*) / sum |S|^2, with
    the smallest error; "power" is sqrt(sum |T|^2 / sum |S|^2), with the target's noise power.

    Args:
        fit: "least_squares" or "power".
    """

    target_kernel = ""

    def __init__(self, fit: str = "least_squares"):
        if fit not in FITS:
            raise ValueError(f"`fit` must be one of {', '.join(map(repr, FITS))}, got {fit!r}.")
        self.fit_by = fit
        self.gain: np.ndarray | None = None  # [BINS], over 0 to MAX_LP_MM

    def fit(self, pairs: Iterable[FittingPair]) -> LinearFilter:
        """Fit the gains on pairs; return the system itself."""
        numerator, denominator = np.zeros(BINS), np.zeros(BINS)
        for source, target, spacing_mm in pairs:
            shape = padded(source).shape
            s, t = (rfft2(padded(hu)) for hu in (source, target))
            top = (t * s.conj()).real if self.fit_by == "least_squares" else np.abs(t) ** 2
            numerator += ring_sums(top, shape, spacing_mm)
            denominator += ring_sums(np.abs(s) ** 2, shape, spacing_mm)
        seen = denominator > 0
        gain = fill(numerator / np.where(seen, denominator, 1), seen)
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
            ValueError: if the filter is not fitted.
        """
        if self.gain is None:
            raise ValueError("LinearFilter is not fitted; call `fit` with training pairs first.")
        return filtered(hu, self.gain, pixel_spacing).astype(np.float32)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the gains to `folder`/linear_filter.json."""
        gain = None if self.gain is None else self.gain.tolist()
        write_whole(Path(folder) / FILE, json.dumps({"fit": self.fit_by, "gain": gain}) + "\n")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> LinearFilter:
        """Load the filter that `save_pretrained` wrote.

        Raises:
            ValueError, OSError: if there is none.
        """
        saved = json.loads((Path(folder) / FILE).read_text())
        system = cls(saved["fit"])
        system.gain = None if saved["gain"] is None else np.array(saved["gain"])
        return system
