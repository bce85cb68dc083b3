"""Ten quick texture and histogram figures of a region: enough to watch training and to show at a glance.

The full set of 1,401 features is in `diffusionct_pipeline.radiomics`.
"""

import numpy as np
from scipy.ndimage import laplace
from skimage.feature import graycomatrix, graycoprops

GREY_LIMITS_HU = (-1000.0, 400.0)  # fixed for source and target, or their scales would differ
LEVELS = 64
GLCM_FIGURES = ("contrast", "dissimilarity", "homogeneity", "energy", "correlation", "entropy")
TEXTURE_FIGURES = ("std", "mad", "p90-p10", "laplacian_std", *(f"glcm_{name}" for name in GLCM_FIGURES))


def texture_figures(hu, mask):
    """Texture of one region.

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
    if np.count_nonzero(mask) < 16:
        raise ValueError(f"the region has {np.count_nonzero(mask)} pixels; texture needs at least 16.")
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
    grey[~mask] = LEVELS  # counted apart, then dropped
    angles = [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4]
    counts = graycomatrix(grey, [1], angles, LEVELS + 1, symmetric=True)[:LEVELS, :LEVELS].astype(float)
    glcm = counts / np.maximum(counts.sum((0, 1)), 1)
    figures += [graycoprops(glcm, name).mean() for name in GLCM_FIGURES]
    return dict(zip(TEXTURE_FIGURES, map(float, figures)))


def square_regions(hu, side, minimum_hu=-950.0, maximum_std_hu=np.inf):
    """Masks of the squares of a regular grid that lie in the patient.

    Args:
        hu: (H, W) array by which squares are chosen.
        side: Side of a square in pixels.
        minimum_hu: Squares of a lower mean are air around the patient.
        maximum_std_hu: Squares of a higher standard deviation are left out (set it to get homogeneous regions).
    """
    masks = []
    for top in range(0, hu.shape[0] - side + 1, side):
        for left in range(0, hu.shape[1] - side + 1, side):
            square = hu[top : top + side, left : left + side]
            if square.mean() > minimum_hu and square.std() <= maximum_std_hu:
                mask = np.zeros(hu.shape, bool)
                mask[top : top + side, left : left + side] = True
                masks.append(mask)
    return masks
