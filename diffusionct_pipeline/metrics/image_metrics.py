"""Measure how close two CT images are: error and bias in HU, PSNR and SSIM at a stated window, noise power, edge response.

None of these replaces radiomic agreement: a blurred image has the lower RMSE and the wrong texture.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from skimage.metrics import structural_similarity

SCORED_WINDOW_HU = (-1000.0, 400.0)  # lung and soft tissue; the span of the radiomic grey levels
PATCH = 64  # pixels: rings of about 0.2 lp/cm at 0.7 mm, and small enough to lie in one tissue
_SUPERSAMPLING = 4  # bins per pixel of the edge profile, as in ISO 12233


def rmse_hu(image: ArrayLike, reference: ArrayLike, mask: ArrayLike | None = None) -> float:
    """Return the root mean squared difference in HU of two arrays of one shape, over `mask` (bool) or everywhere."""
    return float(np.sqrt(np.mean(_difference(image, reference, mask) ** 2)))


def bias_hu(image: ArrayLike, reference: ArrayLike, mask: ArrayLike | None = None) -> float:
    """Return the mean of image - reference in HU, over `mask` (bool) or everywhere."""
    return float(np.mean(_difference(image, reference, mask)))


def psnr(image: ArrayLike, reference: ArrayLike, window_hu: tuple[float, float] = SCORED_WINDOW_HU) -> float:
    """Return the peak signal-to-noise ratio in dB inside a window: both are clipped to it and its width is the peak.

    Infinite for images that are equal inside the window.
    """
    image, reference = _windowed(image, reference, window_hu)
    error = np.mean((image - reference) ** 2)
    return float(10 * np.log10((window_hu[1] - window_hu[0]) ** 2 / error)) if error else np.inf


def ssim(image: ArrayLike, reference: ArrayLike, window_hu: tuple[float, float] = SCORED_WINDOW_HU) -> float:
    """Return the structural similarity (Wang et al. 2004, Gaussian weights) of one slice (rows, columns) inside a window."""
    image, reference = _windowed(image, reference, window_hu)
    if image.ndim != 2:
        raise ValueError(f"`image` must be one slice (rows, columns), got shape {image.shape}")
    width = window_hu[1] - window_hu[0]
    return float(
        structural_similarity(
            image, reference, data_range=width, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
    )


def noise_power_spectrum(
    hu: ArrayLike, spacing_mm: float, mask: ArrayLike | None = None, patch: int = PATCH
) -> tuple[np.ndarray, np.ndarray]:
    """Return the radial noise power spectrum of half-overlapping square patches, after removing a fitted plane from each.

    Args:
        hu: (rows, columns) or (slices, rows, columns), HU. In uniform tissue this is the noise; elsewhere it contains
            anatomy, too, which two reconstructions of one scan share.
        spacing_mm: Pixel side in mm.
        mask: bool, same shape: only patches entirely inside are used. None: everywhere.
        patch: Side of the patches in pixels.

    Returns:
        frequency: (patch // 2 - 1,) in lp/cm, ring centres up to the Nyquist frequency.
        power: The same, in HU^2 mm^2; its integral over the frequency plane (in 1/mm) is the variance of the noise.

    Raises:
        ValueError: if no patch fits.
    """
    hu = np.asarray(hu, float)
    hu = hu[None] if hu.ndim == 2 else hu  # [slices, rows, columns]
    mask = np.ones(hu.shape, bool) if mask is None else np.asarray(mask, bool).reshape(hu.shape)
    corners = range(0, hu.shape[1] - patch + 1, patch // 2), range(0, hu.shape[2] - patch + 1, patch // 2)
    boxes = [np.s_[z, y : y + patch, x : x + patch] for z in range(len(hu)) for y in corners[0] for x in corners[1]]
    patches = [hu[box] for box in boxes if mask[box].all()]
    if not patches:
        raise ValueError(f"no {patch} x {patch} patch lies inside the image {hu.shape} and its mask; lower `patch`")
    # 1. Remove a plane by least squares, the slow trend of the tissue.
    y, x = np.indices((patch, patch)).reshape(2, -1) - (patch - 1) / 2
    plane = np.column_stack([np.ones(patch * patch), y, x])
    flat = np.reshape(patches, (len(patches), -1)).T  # [patch^2, patches]
    flat = flat - plane @ np.linalg.lstsq(plane, flat, rcond=None)[0]
    # 2. Periodogram with a Hann window, scaled by the window's power.
    hann = np.outer(np.hanning(patch + 1)[:-1], np.hanning(patch + 1)[:-1])
    spectrum = np.abs(np.fft.fft2(flat.T.reshape(-1, patch, patch) * hann)) ** 2
    power = spectrum.mean(0) * spacing_mm**2 / (hann**2).sum()
    # 3. Rings one frequency step wide, without the lowest, which the plane removed.
    step = np.fft.fftfreq(patch, 1 / patch)
    ring = np.round(np.hypot(step[:, None], step[None, :])).astype(int)
    radial = np.bincount(ring.ravel(), power.ravel()) / np.bincount(ring.ravel())
    rings = np.arange(1, patch // 2)
    return rings * 10 / (patch * spacing_mm), radial[rings]


def nps_distance(
    image: ArrayLike, reference: ArrayLike, spacing_mm: float, mask: ArrayLike | None = None, patch: int = PATCH
) -> float:
    """Return the mean over frequency of |10 log10 of the ratio of noise power|, in dB; 0 for equal texture, 3 for a factor of 2.

    Arguments are those of `noise_power_spectrum`. All frequencies up to Nyquist have the same weight.
    """
    frequency, power = noise_power_spectrum(image, spacing_mm, mask, patch)
    _, expected = noise_power_spectrum(reference, spacing_mm, mask, patch)
    if not (power > 0).all() or not (expected > 0).all():
        raise ValueError("one of the images has no noise at some frequency, where the ratio of powers is not defined")
    return float(np.mean(np.abs(10 * np.log10(power / expected))))


def edge_mtf(
    hu: ArrayLike, distance_mm: ArrayLike, spacing_mm: float, reach_mm: float = 10.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the modulation transfer across an edge of known position, straight or round (the latter: ASTM E1695).

    Args:
        hu: Pixels, any shape, HU; two flat sides and an edge that crosses the pixel grid at varying phases.
        distance_mm: Same shape: signed distance of each pixel's centre to the edge, e.g. for a disc the distance to its
            centre minus its radius.
        spacing_mm: Pixel side in mm; the bins are a quarter of it wide.
        reach_mm: Half-length of the profile; only pixels nearer to the edge are used. It must not include other
            structures.

    Returns:
        frequency: In lp/cm, up to the Nyquist frequency of the pixels.
        mtf: Same shape, 1 at frequency 0.

    Raises:
        ValueError: for empty bins (too few pixels near the edge), or no step between the sides.
    """
    hu, distance_mm = np.asarray(hu, float), np.asarray(distance_mm, float)
    if hu.shape != distance_mm.shape:
        raise ValueError(f"`distance_mm` must have the shape of `hu`, {hu.shape}, got {distance_mm.shape}")
    # 1. Edge spread: mean HU in fine bins of distance.
    width = spacing_mm / _SUPERSAMPLING
    half = int(reach_mm / width)
    index = np.floor(distance_mm / width).astype(int) + half
    near = (index >= 0) & (index < 2 * half)
    pixels = np.bincount(index[near], minlength=2 * half)
    if (pixels == 0).any():
        raise ValueError(
            f"{np.count_nonzero(pixels == 0)} of {2 * half} bins within `reach_mm` = {reach_mm} of the edge hold no pixel; "
            "lower `reach_mm` or give a longer edge"
        )
    profile = np.bincount(index[near], hu[near], 2 * half) / pixels
    # 2. Line spread, windowed; its area is the step.
    line = np.diff(profile)
    line = line * np.hanning(len(line) + 2)[1:-1]
    if not line.any():
        raise ValueError("`hu` must have a step at the edge, got none")
    # 3. Transfer, corrected for the low pass of the bins and of the difference.
    mtf = np.abs(np.fft.rfft(line))
    mtf = mtf / mtf[0]
    frequency = np.fft.rfftfreq(len(line), width)  # 1/mm
    keep = frequency <= 0.5 / spacing_mm
    frequency, mtf = frequency[keep], mtf[keep]
    return frequency * 10, mtf / np.sinc(frequency * width) ** 2


def _difference(image: ArrayLike, reference: ArrayLike, mask: ArrayLike | None) -> np.ndarray:
    image, reference = np.asarray(image, float), np.asarray(reference, float)
    if image.shape != reference.shape:
        raise ValueError(f"`image` must have the shape of `reference`, {reference.shape}, got {image.shape}")
    difference = image - reference
    return difference if mask is None else difference[np.asarray(mask, bool)]


def _windowed(image: ArrayLike, reference: ArrayLike, window_hu: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    low, high = window_hu
    if not low < high:
        raise ValueError(f"`window_hu` must be (low, high) in HU, got {window_hu!r}")
    _difference(image, reference, None)  # checks the shapes
    return np.clip(np.asarray(image, float), low, high), np.clip(np.asarray(reference, float), low, high)
