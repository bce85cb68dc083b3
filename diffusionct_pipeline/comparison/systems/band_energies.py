"""Band-energy normalization, the classic method for emphysema scores."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.ndimage import gaussian_filter

from .fitted import FittedSystem
from .protocol import FittingPair

SCALES_MM = (0.7, 1.4, 2.8, 5.6, 11.2)  # sigmas of 1 to 16 pixels of 0.7 mm; in mm to respect pixel spacing [G]
LUNG_HU = (-980.0, -600.0)  # of the slice at the second coarsest scale: the paper measures energies in the lungs
FEWEST_PIXELS = 256  # of lung; in slices with fewer, energies are those of the whole slice [G]
MOST_ROUNDS, TOLERANCE = 50, 1e-3  # scaling a band changes its neighbours a little: repeat until all are right


class BandEnergies(FittedSystem):
    """Gallardo-Estrella et al. 2016 (doi:10.1007/s00330-015-3824-y): scale each band to the energy of the reference.

    A slice is L_0 = F_1 + ... + F_n + L_n, where F_i = L_(i-1) - L_i is what the next Gaussian removes. Each F_i is
    multiplied by lambda_i = e_i of the reference / e_i of the slice, where e_i is the standard deviation in the lungs;
    this is repeated until the energies agree. L_n is kept. Written from the paper's description [A].
    """

    learnt = ("energies",)

    def __init__(self) -> None:
        self.energies: np.ndarray | None = None  # HU, [bands]

    def fit(self, pairs: Iterable[FittingPair]) -> BandEnergies:
        """Average the energies of the targets, ignoring the sources; return the system itself."""
        self.energies = np.mean([band_energies(target, spacing_mm) for _, target, spacing_mm in pairs], axis=0)
        return self

    def standardize(self, hu: np.ndarray, pixel_spacing: float) -> np.ndarray:
        """Standardize (H, W) HU with pixels of `pixel_spacing` mm; return (H, W) float32 HU.

        Raises:
            ValueError: if the system is not fitted.
        """
        energies = self.require_fit(self.energies)
        image, mask = np.asarray(hu, np.float64), measured_mask(hu, pixel_spacing)
        for _ in range(MOST_ROUNDS):
            bands, rest = split(image, pixel_spacing)
            gains = energies / np.maximum(bands[:, mask].std(1), 1e-6)
            image = rest + np.tensordot(gains, bands, 1)
            if np.abs(gains - 1).max() < TOLERANCE:
                break
        return image.astype(np.float32)


def split(hu: np.ndarray, spacing_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Split (H, W) HU into bands (n, H, W), finest first, and the rest (H, W); they sum to the slice."""
    image = np.asarray(hu, np.float64)
    smoothed = [gaussian_filter(image, sigma / spacing_mm, mode="reflect") for sigma in SCALES_MM]
    levels = np.stack([image, *smoothed])
    return levels[:-1] - levels[1:], levels[-1]


def measured_mask(hu: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Return the mask (H, W) of the lungs, or of everything where there are none."""
    smooth = gaussian_filter(np.asarray(hu, np.float64), SCALES_MM[-2] / spacing_mm, mode="reflect")
    lung = (smooth > LUNG_HU[0]) & (smooth < LUNG_HU[1])
    return lung if np.count_nonzero(lung) >= FEWEST_PIXELS else np.ones_like(lung)


def band_energies(hu: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Measure the standard deviation of every band in the lungs, HU, finest first."""
    return split(hu, spacing_mm)[0][:, measured_mask(hu, spacing_mm)].std(1)
