"""Band-energy normalization, the classic for emphysema scores."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.ndimage import gaussian_filter

from .fitted import FittedSystem
from .protocol import FittingPair

SCALES_MM = (0.7, 1.4, 2.8, 5.6, 11.2)  # sigmas of 1 to 16 pixels of 0.7 mm; in mm so that spacing is honoured [G]
LUNG_HU = (-980.0, -600.0)  # of the slice at the coarsest scale but one: the paper measures energies in the lungs
FEWEST_PIXELS = 256  # of lung; in slices without, energies are those of the whole slice [G]
MOST_ROUNDS, TOLERANCE = 50, 1e-3  # scaling a band changes its neighbours a little: again until it has its energy


class BandEnergies(FittedSystem):
    """Gallardo-Estrella et al. 2016 (doi:10.1007/s00330-015-3824-y): bands, each scaled to the reference's energy.

    A slice is L_0 = F_1 + ... + F_n + L_n, F_i = L_(i-1) - L_i being what the next Gaussian takes away; each F_i is
    multiplied by lambda_i = e_i of the reference / e_i of the slice, e_i being the standard deviation in the lungs, and
    this is repeated until the energies agree. L_n stays. Written from the paper's description [A].
    """

    learnt = ("energies",)

    def __init__(self) -> None:
        self.energies: np.ndarray | None = None  # HU, [bands]

    def fit(self, pairs: Iterable[FittingPair]) -> BandEnergies:
        """Mean energies of the targets; the sources are not looked at; returns itself."""
        self.energies = np.mean([band_energies(target, spacing_mm) for _, target, spacing_mm in pairs], axis=0)
        return self

    def standardize(self, hu: np.ndarray, pixel_spacing: float) -> np.ndarray:
        """(H, W) HU with pixels of `pixel_spacing` mm -> (H, W) float32 HU.

        Raises:
            ValueError: if it was not fitted.
        """
        self.require_fit()
        image, mask = np.asarray(hu, np.float64), measured_mask(hu, pixel_spacing)
        for _ in range(MOST_ROUNDS):
            bands, rest = split(image, pixel_spacing)
            gains = self.energies / np.maximum(bands[:, mask].std(1), 1e-6)
            image = rest + np.tensordot(gains, bands, 1)
            if np.abs(gains - 1).max() < TOLERANCE:
                break
        return image.astype(np.float32)


def split(hu: np.ndarray, spacing_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) HU -> bands (n, H, W), finest first, and the rest (H, W); they sum to the slice."""
    levels = [np.asarray(hu, np.float64)]
    levels += [gaussian_filter(levels[0], sigma / spacing_mm, mode="reflect") for sigma in SCALES_MM]
    levels = np.stack(levels)
    return levels[:-1] - levels[1:], levels[-1]


def measured_mask(hu: np.ndarray, spacing_mm: float) -> np.ndarray:
    """(H, W) bool, the lungs, or everything where there are none."""
    smooth = gaussian_filter(np.asarray(hu, np.float64), SCALES_MM[-2] / spacing_mm, mode="reflect")
    lung = (smooth > LUNG_HU[0]) & (smooth < LUNG_HU[1])
    return lung if np.count_nonzero(lung) >= FEWEST_PIXELS else np.ones_like(lung)


def band_energies(hu: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Standard deviation of every band in the lungs, HU, finest first."""
    return split(hu, spacing_mm)[0][:, measured_mask(hu, spacing_mm)].std(1)
