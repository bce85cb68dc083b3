"""Rings of physical frequency: what the filters of the comparison are measured on and act on."""

from __future__ import annotations

import numpy as np
from scipy.fft import fftfreq, irfft2, rfft2, rfftfreq

BINS = 96
MAX_LP_MM = 1.4  # the corner of the Fourier plane at 0.5 mm; the last bin includes everything beyond
RING_LP_MM = np.linspace(0, MAX_LP_MM, BINS)
PADDING = 32  # pixels of reflection, so that the borders do not wrap around
CT_NUMBER_OFFSET = 1000.0  # added to HU, so that air is 0


def padded(hu: np.ndarray) -> np.ndarray:
    """Convert (H, W) HU to float64 CT numbers with a reflected border."""
    return np.pad(np.asarray(hu, np.float64) + CT_NUMBER_OFFSET, PADDING, mode="reflect")


def position(shape: tuple[int, ...], spacing_mm: float) -> np.ndarray:
    """Return the fractional ring of every frequency of `rfft2` of an image (H, W)."""
    cycles_per_pixel = np.hypot(fftfreq(shape[0])[:, None], rfftfreq(shape[1])[None])
    return cycles_per_pixel / spacing_mm / MAX_LP_MM * (BINS - 1)


def ring_sums(values: np.ndarray, shape: tuple[int, ...], spacing_mm: float) -> np.ndarray:
    """Sum real `values`, one for each frequency of `rfft2`, over each ring: (BINS,)."""
    ring = np.clip(np.rint(position(shape, spacing_mm)).astype(int), 0, BINS - 1).ravel()
    return np.bincount(ring, values.ravel(), BINS)


def fill(values: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Interpolate the rings of (BINS,) that hold no frequency."""
    return np.interp(np.arange(BINS), np.flatnonzero(seen), values[seen])


def filtered(hu: np.ndarray, gain: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Filter (H, W) HU by a gain (BINS,) over frequency; return (H, W) float64 HU."""
    image = padded(hu)
    spectrum = rfft2(image) * np.interp(position(image.shape, spacing_mm), np.arange(BINS), gain)
    return irfft2(spectrum, s=image.shape)[PADDING:-PADDING, PADDING:-PADDING] - CT_NUMBER_OFFSET
