"""Transfer-function ratio: from the power spectrum of a slice alone, zero-shot."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.fft import rfft2
from scipy.interpolate import make_smoothing_spline

from .fitted import FittedSystem
from .protocol import FittingPair
from .rings import RING_LP_MM, fill, filtered, padded, ring_sums

SMOOTHNESS = 1e-4  # of the spline of the log spectrum over lp/mm [G]: single rings scatter by 10 %, kernels are smooth
ANATOMY_LP_MM = (0.03, 0.12)  # kernels agree there; how much anatomy there is does not concern them [G]
BOUND = 4.0  # of a gain and its inverse [G]: a kernel that is gone cannot be divided out


class TransferRatio(FittedSystem):
    """Multiplies a slice's spectrum by target over source transfer, each the root of a smooth power spectrum [G].

    What an open zero-shot rival does, read from its description: no pairs, no randomness.
    """

    learnt = ("target",)

    def __init__(self) -> None:
        self.target: np.ndarray | None = None  # log transfer, [BINS]

    def fit(self, pairs: Iterable[FittingPair]) -> TransferRatio:
        """Mean log transfer of the targets; the sources are not looked at; returns itself."""
        self.target = np.mean([log_transfer(target, spacing_mm) for _, target, spacing_mm in pairs], axis=0)
        return self

    def standardize(self, hu: np.ndarray, pixel_spacing: float) -> np.ndarray:
        """(H, W) HU with pixels of `pixel_spacing` mm -> (H, W) float32 HU.

        Raises:
            ValueError: if it was not fitted.
        """
        self.require_fit()
        gain = np.exp(self.target - log_transfer(hu, pixel_spacing)).clip(1 / BOUND, BOUND)
        gain[ANATOMY_LP_MM[0] > RING_LP_MM] = 1  # the mean and slow content are HU, not texture
        return filtered(hu, gain, pixel_spacing).astype(np.float32)


def log_transfer(hu: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Log amplitude (BINS,) over `RING_LP_MM`, smooth, 0 on average where only anatomy is seen."""
    image = padded(hu)
    spectrum = np.abs(rfft2(image)) ** 2
    power = ring_sums(spectrum, image.shape, spacing_mm)
    count = ring_sums(np.ones_like(spectrum), image.shape, spacing_mm)
    seen = count > 0
    log_amplitude = 0.5 * np.log(fill(power / np.where(seen, count, 1), seen) + 1e-9)
    smooth = make_smoothing_spline(RING_LP_MM[1:], log_amplitude[1:], lam=SMOOTHNESS)(RING_LP_MM)
    low, high = ANATOMY_LP_MM
    return smooth - smooth[(low <= RING_LP_MM) & (high >= RING_LP_MM)].mean()
