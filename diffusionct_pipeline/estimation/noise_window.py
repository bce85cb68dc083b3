"""Compute the response of ring powers of small squares to a noise power spectrum: the window leaks, the pixels alias."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

FREQUENCY = np.arange(0.05, 16.0, 0.1)  # lp/cm
BIN_STEPS = np.arange(-2, 2.01, 0.5)  # bins over which the leakage of a Hann window is computed, in half bins


@lru_cache(maxsize=16)
def ring_response(side: int, spacing_mm: float) -> np.ndarray:
    """Return the matrix (rings, frequencies) from the radial spectrum at `FREQUENCY` to expected ring powers.

    Args:
        side: Side of the squares in pixels.
        spacing_mm: Side of a pixel; power beyond its Nyquist frequency is aliased.
    """
    bins, sampling = np.fft.fftfreq(side) * 10 / spacing_mm, 10 / spacing_mm
    step = sampling / side
    ring = np.round(np.hypot(bins[:, None], bins[None]) / step).astype(int).ravel()
    window = np.hanning(side + 1)[:-1]
    waves = np.exp(-2j * np.pi * np.outer(BIN_STEPS, np.arange(side)) / side)
    leakage = np.abs(waves @ window) ** 2
    leakage /= leakage.sum()
    # Offsets along one axis that contribute to a bin: every alias with every step of the window.
    shifts = np.array([alias * sampling + moved * step for alias in (-1, 0, 1) for moved in BIN_STEPS])
    weights = np.tile(leakage, 3)
    squares = (bins[:, None] + shifts) ** 2  # [bins,shifts]
    response = np.zeros((ring.max() + 1) * len(FREQUENCY))
    for row_shift, row_weight in enumerate(weights):
        radius = np.sqrt(squares[:, row_shift, None, None] + squares[None]).reshape(side * side, -1)
        place = (radius - FREQUENCY[0]) / (FREQUENCY[1] - FREQUENCY[0])
        lower = np.clip(place.astype(int), 0, len(FREQUENCY) - 2)
        share = np.clip(place - lower, 0, 1)
        weight = np.where(radius < FREQUENCY[-1], row_weight * weights, 0.0)
        cell = ring[:, None] * len(FREQUENCY) + lower
        response += np.bincount(cell.ravel(), (weight * (1 - share)).ravel(), len(response))
        response += np.bincount(cell.ravel() + 1, (weight * share).ravel(), len(response))
    return response.reshape(-1, len(FREQUENCY)) / np.bincount(ring)[:, None]
