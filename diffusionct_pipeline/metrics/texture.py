"""Compute ten fast texture and histogram figures of a region, to monitor training and for an overview.

The full set of 1,401 features is in `diffusionct_pipeline.radiomics`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import laplace
from skimage.feature import graycomatrix, graycoprops

from .agreement import ccc, reproducible_fraction

GREY_LIMITS_HU = (-1000.0, 400.0)  # fixed, as the scales of source and target would differ otherwise
LEVELS = 64
FEWEST_PIXELS = 16  # of a region: with fewer, the figures are due to chance
GLCM_FIGURES = ("contrast", "dissimilarity", "homogeneity", "energy", "correlation", "entropy")
TEXTURE_FIGURES = ("std", "mad", "p90-p10", "laplacian_std", *(f"glcm_{name}" for name in GLCM_FIGURES))


@dataclass(frozen=True, eq=False)
class TextureAgreement:
    """Hold the figures of the same R regions in two images, F = `TEXTURE_FIGURES`.

    Attributes:
        output, target: (R, F).
    """

    output: np.ndarray
    target: np.ndarray

    @property
    def mean_ccc(self) -> float:
        """Return the concordance of each figure over the regions, mean over the figures."""
        return float(np.mean(ccc(self.output, self.target)))

    @property
    def reproducible(self) -> float:
        """Return the share of figures, 0 to 1, whose relative error is below `agreement.REPRODUCIBLE`."""
        return reproducible_fraction(self.output, self.target)


def texture_agreement(images: Iterable[tuple[np.ndarray, np.ndarray, list[np.ndarray]]]) -> TextureAgreement:
    """Measure the agreement over all regions of (output, target, masks): two (H, W) in HU and (H, W) boolean masks.

    Raises:
        ValueError: for a mask that is too small, or if there is no mask.
    """
    images = list(images)
    output = texture_table((output, mask) for output, _, masks in images for mask in masks)
    target = texture_table((target, mask) for _, target, masks in images for mask in masks)
    return TextureAgreement(output, target)


def texture_table(regions: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Return the `TEXTURE_FIGURES` (R, F) of R regions, each (H, W) in HU with its (H, W) boolean mask.

    Raises:
        ValueError: for a mask that is too small, or if there is no region.
    """
    rows = [list(texture_figures(hu, mask).values()) for hu, mask in regions]
    if not rows:
        raise ValueError("`regions` must hold at least one region, got none.")
    return np.array(rows)


def texture_figures(hu: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """Measure the texture of one region.

    Args:
        hu: (H, W) array in HU.
        mask: (H, W) boolean array; at least 16 pixels.

    Returns:
        Dict of `TEXTURE_FIGURES` to float: standard deviation, mean absolute deviation, 90th minus 10th percentile and
        standard deviation of the Laplacian in HU; GLCM figures at distance 1, the mean over four directions, with 64
        levels over -1000 to 400 HU.

    Raises:
        ValueError: if the mask is too small.
    """
    if np.count_nonzero(mask) < FEWEST_PIXELS:
        raise ValueError(f"`mask` must have at least {FEWEST_PIXELS} pixels, got {np.count_nonzero(mask)}.")
    rows, columns = np.nonzero(mask)
    box = np.s_[max(rows.min() - 1, 0) : rows.max() + 2, max(columns.min() - 1, 0) : columns.max() + 2]
    hu, mask = np.asarray(hu, np.float64)[box], np.asarray(mask, bool)[box]
    values = hu[mask]
    figures = [
        values.std(),
        np.abs(values - values.mean()).mean(),
        np.subtract(*np.percentile(values, [90, 10])),
        laplace(hu)[mask].std(),
    ]
    low, high = GREY_LIMITS_HU
    grey = np.clip((hu - low) / (high - low) * LEVELS, 0, LEVELS - 1).astype(np.uint8)
    grey[~mask] = LEVELS  # counted separately, then dropped
    angles = [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4]
    counts = graycomatrix(grey, [1], angles, LEVELS + 1, symmetric=True)[:LEVELS, :LEVELS].astype(float)
    glcm = counts / np.maximum(counts.sum((0, 1)), 1)
    figures += [graycoprops(glcm, name).mean() for name in GLCM_FIGURES]
    return dict(zip(TEXTURE_FIGURES, map(float, figures)))
