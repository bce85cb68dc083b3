"""Evaluate the law of all kernels in NumPy, and the blur that affects edges but not noise.

    T(f) = (1 + boost g(f)) exp(-(f / f0)^p),  g(f) = s exp(1 - s),  s = (f / boost_peak)^2

as in `physics.kernels`, written so that every parameter may be an array: a fit evaluates it for many sets at once.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

Numbers: TypeAlias = np.ndarray | float

LEVEL_LP_CM = np.arange(2.0, 6.01, 0.25)  # band in which kernels of one scan are compared
BLUR_EXPONENT = 4.0  # sharpness of the bend of the inverse blur at its bound


def log_mtf(frequency: np.ndarray, mtf50: Numbers, mtf10: Numbers, boost: Numbers, peak: Numbers) -> np.ndarray:
    """Return the natural logarithm of the MTF.

    Args:
        frequency: lp/cm, above 0.
        mtf50, mtf10, boost, peak: As in `simulation.Kernel`; shapes that broadcast with `frequency`.
    """

    def log_enhancement(at: Numbers) -> np.ndarray:
        square = (at / peak) ** 2
        return np.log1p(boost * square * np.exp(1 - square))

    decay50, decay10 = np.log(2) + log_enhancement(mtf50), np.log(10) + log_enhancement(mtf10)
    power = np.log(decay10 / decay50) / np.log(mtf10 / mtf50)
    return log_enhancement(frequency) - decay50 * (frequency / mtf50) ** power


def log_blur_power_gain(frequency: np.ndarray, width_mm: Numbers, log_bound: Numbers) -> np.ndarray:
    """Return the gain in noise power from dividing out the blur, natural logarithm.

    Detector cell and focal spot, each `width_mm` wide, blur by B = sinc(width f)^2. Reconstruction divides this out down to
    the bound, so that noise is amplified by 1 / B while edges have a transfer of about 1.

    Args:
        frequency: lp/cm.
        width_mm: Width at the isocentre.
        log_bound: Natural logarithm of the smallest transfer that is divided out.
    """
    blurred, bound = np.sinc(width_mm * frequency / 10) ** (2 * BLUR_EXPONENT), np.exp(BLUR_EXPONENT * log_bound)
    return -2 / BLUR_EXPONENT * np.log((blurred + bound) / (1 + bound))


def log_edge_blur(frequency: np.ndarray, width_mm: Numbers, log_bound: Numbers) -> np.ndarray:
    """Return the blur of edges that remains after dividing it out, natural logarithm: 0 well above the bound."""
    blurred = 2 * np.log(np.maximum(np.abs(np.sinc(width_mm * frequency / 10)), 1e-6))
    return blurred + log_blur_power_gain(frequency, width_mm, log_bound) / 2


def whitening_of(width_mm: float, log_bound: float) -> float:
    """Return K in cm^2 of `log_blur_power_gain` = K f^2 for small f in lp/cm."""
    return 2 * np.pi**2 / 3 * width_mm**2 / 100 / (1 + np.exp(BLUR_EXPONENT * log_bound))
