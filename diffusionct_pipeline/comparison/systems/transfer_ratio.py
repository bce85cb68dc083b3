"""Transfer-function ratio, estimated zero-shot from the power spectrum of the slice alone."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.fft import rfft2
from scipy.interpolate import make_smoothing_spline

from .fitted import FittedSystem
from .protocol import FittingPair
from .rings import RING_LP_MM, fill, filtered, padded, ring_sums

SMOOTHNESS = 1e-4  # of the spline of the log spectrum over lp/mm [G]: single rings scatter by 10 %, kernels are smooth
ANATOMY_LP_MM = (0.03, 0.12)  # kernels agree there: the power is that of the anatomy [G]
BOUND = 4.0  # of a gain and its inverse [G]: frequencies that a kernel removed cannot be restored by division


class TransferRatio(FittedSystem):
    """Multiplies the spectrum of a slice by target over source transfer, each the root of a smooth power spectrum [G].

    Follows the description of an open zero-shot method: no pairs, no randomness.
    """

    learnt = ("target",)

    def __init__(self) -> None:
        self.target: np.ndarray | None = None  # log transfer, [BINS]

    def fit(self, pairs: Iterable[FittingPair]) -> TransferRatio:
        """Average the log transfer of the targets, ignoring the sources; return the system itself."""
        self.target = np.mean([log_transfer(target, spacing_mm) for _, target, spacing_mm in pairs], axis=0)
        return self

    def standardize(self, hu: np.ndarray, pixel_spacing: float) -> np.ndarray:
        """Standardize (H, W) HU with pixels of `pixel_spacing` mm; return (H, W) float32 HU.

        Raises:
            ValueError: if the system is not fitted.
        """
        gain = np.exp(self.require_fit(self.target) - log_transfer(hu, pixel_spacing)).clip(1 / BOUND, BOUND)
        gain[ANATOMY_LP_MM[0] > RING_LP_MM] = 1  # the mean and slow content are HU, not texture
        return filtered(hu, gain, pixel_spacing).astype(np.float32)


def log_transfer(hu: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Measure the smooth log amplitude (BINS,) over `RING_LP_MM`; it averages 0 where only anatomy is visible."""
    image = padded(hu)
    spectrum = np.abs(rfft2(image)) ** 2
    power = ring_sums(spectrum, image.shape, spacing_mm)
    count = ring_sums(np.ones_like(spectrum), image.shape, spacing_mm)
    seen = count > 0
    log_amplitude = 0.5 * np.log(fill(power / np.where(seen, count, 1), seen) + 1e-9)
    smooth = make_smoothing_spline(RING_LP_MM[1:], log_amplitude[1:], lam=SMOOTHNESS)(RING_LP_MM)
    low, high = ANATOMY_LP_MM
    return smooth - smooth[(low <= RING_LP_MM) & (high >= RING_LP_MM)].mean()
