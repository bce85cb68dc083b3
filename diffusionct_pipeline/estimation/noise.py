"""Measure the noise of a series by tissue: its level in HU and its power spectrum in lp/cm, in homogeneous squares."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_fill_holes, distance_transform_edt, gaussian_filter, label, maximum
from scipy.spatial import cKDTree

from ..metrics.regions import Tissue, every_nth

SIDE_MM = 12.0  # of a square, as subcutaneous fat is hardly wider; gives steps of 0.83 lp/cm
FEWEST_SIDE = 8  # pixels
SMOOTHED_MM = 2.5  # squares are chosen by smoothed HU, so that noise does not bias the choice
MARGIN_HU = 60.0  # by which smoothed HU within a square may exceed the tissue's range
TISSUES = {
    "lung": Tissue(-1010.0, -700.0),
    "fat": Tissue(-150.0, -50.0),
    "soft tissue": Tissue(0.0, 130.0),  # muscle to enhanced liver
}
BODY_HU = -500.0  # higher smoothed HU are tissue
LUNG_MM = 20.0  # radius of a circle that fits into a lung, and not into the core of a table
MOST_SQUARES = 80  # of a tissue in a slice, evenly chosen
SLOW_LP_CM = 1.8  # up to here anatomy dominates
FAST_LP_CM = (3.0, 5.5)  # here noise dominates
NEIGHBOURS = 9  # squares whose mean high-frequency power represents the noise of a position
# With a quarter, and 1.8 lp/cm, pure noise of Br36 is measured 14 % too low; with half of the squares it would be 40 % too high
# where the dose is high and muscle marbled (benchmarks/characterise.py).
LEVELS = 8  # of noise, from each of which the same share of squares is kept, so that they represent the tissue
KEPT = 0.25  # share of squares with the least low-frequency power
FEWEST_SQUARES = 12
FLOOR = 1e-6  # HU^2 mm^2, for squares without any noise
TAIL_BANDS_MM = ((0.0, 1.5), (0.7, 2.0))  # sigmas of the bands of noise whose tails are measured: fine, and medium
TAIL_MARGIN_MM = 4.0  # around a square, within reach of the filters


@dataclass(frozen=True, eq=False)
class Squares:
    """Hold squares of one tissue.

    Attributes:
        side: Side in pixels.
        corners: [(index of the slice, first row, first column)].
    """

    side: int
    corners: list[tuple[int, int, int]]


@dataclass(frozen=True, eq=False)
class TissueNoise:
    """Hold the noise of one tissue.

    Attributes:
        noise_hu: Standard deviation in HU of a typical (median) square.
        mean_hu: Median HU of the squares.
        frequency, power: Radial noise power spectrum: lp/cm, and HU^2 mm^2, up to the Nyquist frequency.
        tails: Excess kurtosis of detail finer than 1.5 mm, and of detail between 0.7 and 2 mm, in a typical square. It is 0
            for linear reconstruction with any kernel; edge-preserving smoothing leaves heavier tails.
        squares: The squares in which it was measured.
    """

    noise_hu: float
    mean_hu: float
    frequency: np.ndarray
    power: np.ndarray
    tails: tuple[float, float]
    squares: Squares

    @property
    def mean_frequency(self) -> float:
        """Return the centre of the spectrum in lp/cm, weighted by frequency as in the plane: the fineness of the grain."""
        weight = self.power * self.frequency
        return float((weight * self.frequency).sum() / weight.sum())


def measure_noise(
    slices: Sequence[np.ndarray], spacing_mm: float, paddings: Sequence[np.ndarray] | None = None
) -> dict[str, TissueNoise]:
    """Measure the noise by tissue; tissues that fill fewer than `FEWEST_SQUARES` squares are left out.

    The power of anatomy falls with frequency, that of noise of filtered backprojection rises. So of squares with similar
    high-frequency power around them, those with the least low-frequency power are used; in each ring their spectra are
    combined by the median. Very soft kernels leave noise at low frequencies only, part of which is mistaken for anatomy.
    Fine vessels and septa of the lung are as fine as noise, so that its figure is of noise and texture together.

    Args:
        slices: HU (H, W) of slices of one series.
        spacing_mm: Side of a pixel.
        paddings: (H, W) bool each, True where nothing was measured.
    """
    padded: Sequence[np.ndarray | None] = [None] * len(slices) if paddings is None else paddings
    return noise_of_squares(
        slices, [find_squares(hu, spacing_mm, padding) for hu, padding in zip(slices, padded)], spacing_mm
    )


def noise_of_squares(
    slices: Sequence[np.ndarray], found: Sequence[Mapping[str, Sequence[tuple[int, int]]]], spacing_mm: float
) -> dict[str, TissueNoise]:
    """Measure the noise in squares that `find_squares` found on each slice."""
    side, result = side_of_squares(spacing_mm), {}
    for name in TISSUES:
        corners = [(index, *corner) for index, squares in enumerate(found) for corner in squares.get(name, [])]
        if len(corners) >= FEWEST_SQUARES:
            result[name] = _noise(slices, Squares(side, corners), spacing_mm)
    return result


def side_of_squares(spacing_mm: float) -> int:
    """Return the side of a square in pixels."""
    return max(FEWEST_SIDE, round(SIDE_MM / spacing_mm))


def find_squares(
    hu: np.ndarray, spacing_mm: float, padding: np.ndarray | None = None, tissues: Collection[str] = tuple(TISSUES)
) -> dict[str, list[tuple[int, int]]]:
    """Return the corners of half-overlapping squares whose mean and smoothed HU are those of one tissue.

    Args:
        hu: (H, W) HU.
        spacing_mm: Side of a pixel.
        padding: (H, W) bool, True where nothing was measured.
        tissues: Tissues to look for; lung takes longer than the others.
    """
    side = side_of_squares(spacing_mm)
    smooth = gaussian_filter(np.maximum(hu, -1024).astype(np.float32), SMOOTHED_MM / spacing_mm)
    outside = smooth <= BODY_HU
    if "lung" in tissues:
        outside &= ~_lungs(~outside, spacing_mm)
    smooth[outside] = -np.inf
    if padding is not None:
        smooth[padding] = -np.inf
    step = side // 2
    windows = np.lib.stride_tricks.sliding_window_view(smooth, (side, side))[::step, ::step]
    low, high, mean = windows.min((2, 3)), windows.max((2, 3)), windows.mean((2, 3))
    result = {}
    for name in tissues:
        tissue = TISSUES[name]
        chosen = (mean > tissue.lowest_hu) & (mean < tissue.highest_hu)
        chosen &= (low > tissue.lowest_hu - MARGIN_HU) & (high < tissue.highest_hu + MARGIN_HU)
        corners = [(int(row) * step, int(column) * step) for row, column in zip(*np.nonzero(chosen))]
        result[name] = every_nth(corners, MOST_SQUARES)
    return result


def _lungs(tissue: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Return regions (H, W) bool that tissue (H, W) encloses and that are as wide as a lung."""
    holes, _ = label(binary_fill_holes(tissue) & ~tissue)
    radius_mm = maximum(distance_transform_edt(~tissue) * spacing_mm, holes, range(holes.max() + 1))
    wide = np.array(radius_mm) >= LUNG_MM
    wide[0] = False  # tissue, and air around the patient
    return wide[holes]


def _noise(slices: Sequence[np.ndarray], squares: Squares, spacing_mm: float) -> TissueNoise:
    side = squares.side
    pixels = np.stack([slices[i][y : y + side, x : x + side] for i, y, x in squares.corners]).astype(float)
    log_power, bins = ring_log_power(pixels, spacing_mm)  # [squares,rings]
    frequency = np.arange(len(bins)) * 10 / (side * spacing_mm)
    # 1. The most homogeneous squares.
    slow = log_power[:, (frequency > 0) & (frequency < SLOW_LP_CM)].mean(1)
    is_fast = (frequency > FAST_LP_CM[0]) & (frequency < FAST_LP_CM[1])
    fast = log_power[:, is_fast].mean(1) if is_fast.any() else np.zeros(len(slow))
    places = np.array(squares.corners) * [10 * side, 1, 1]  # squares of other slices are far away
    around = cKDTree(places).query(places, k=min(NEIGHBOURS, len(places)))[1]
    kept = []
    for level in np.array_split(np.argsort(fast[around].mean(1)), min(LEVELS, len(slow) // FEWEST_SQUARES)):
        kept += level[np.argsort(slow[level])][: max(round(KEPT * len(level)), FEWEST_SQUARES // LEVELS)].tolist()
    # 2. Their spectrum, and its noise.
    # A ring's power is chi-squared with bins / 2 degrees of freedom (a Hann window leaves a quarter of the bins
    # independent): the median is below the mean (Wilson and Hilferty 1931).
    power = np.exp(np.median(log_power[kept], axis=0)) / (1 - 4 / (9 * bins)) ** 3
    variance = (power * bins)[1:].sum() / (side * spacing_mm) ** 2
    within = (frequency > 0) & (frequency <= 5 / spacing_mm)
    found = Squares(side, [squares.corners[i] for i in kept])
    return TissueNoise(
        noise_hu=float(np.sqrt(variance)),
        mean_hu=float(np.median(pixels[kept].mean((1, 2)))),
        frequency=frequency[within],
        power=power[within],
        tails=tails(slices, found, spacing_mm),
        squares=found,
    )


def tails(slices: Sequence[np.ndarray], squares: Squares, spacing_mm: float) -> tuple[float, float]:
    """Measure the excess kurtosis of two bands of noise, the median over squares."""
    margin, side = round(TAIL_MARGIN_MM / spacing_mm), squares.side
    padded = {i: np.pad(np.asarray(slices[i], np.float32), margin, "reflect") for i, _, _ in squares.corners}
    wide = side + 2 * margin
    pixels = np.stack([padded[i][y : y + wide, x : x + wide] for i, y, x in squares.corners])
    inside, found = slice(margin, margin + side), []
    for finest, coarsest in TAIL_BANDS_MM:
        band = -gaussian_filter(pixels, (0, coarsest / spacing_mm, coarsest / spacing_mm), truncate=3)
        band += gaussian_filter(pixels, (0, finest / spacing_mm, finest / spacing_mm)) if finest else pixels
        band = band[:, inside, inside]
        band = band - band.mean((1, 2), keepdims=True)
        variance = (band**2).mean((1, 2))
        found.append(float(np.median((band**4).mean((1, 2)) / np.maximum(variance, FLOOR) ** 2)) - 3)
    return found[0], found[1]


def ring_log_power(pixels: np.ndarray, spacing_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Return log power spectra of squares in rings of one frequency step, up to the corners of the frequency plane.

    Args:
        pixels: (squares, side, side) HU; a fitted plane is removed from each.
        spacing_mm: Side of a pixel.

    Returns:
        log_power: (squares, rings), logarithm of HU^2 mm^2.
        bins: (rings,) number of bins of each ring.
    """
    count, side = len(pixels), pixels.shape[1]
    y, x = np.indices((side, side)).reshape(2, -1) - (side - 1) / 2
    plane = np.linalg.qr(np.column_stack([np.ones(side * side), y, x]))[0]
    flat = pixels.reshape(count, -1)
    flat = (flat - flat @ plane @ plane.T).reshape(pixels.shape)
    hann = np.outer(np.hanning(side + 1)[:-1], np.hanning(side + 1)[:-1])
    power = np.abs(np.fft.fft2(flat * hann)) ** 2 * spacing_mm**2 / (hann**2).sum()
    step = np.fft.fftfreq(side, 1 / side)
    ring = np.round(np.hypot(step[:, None], step[None, :])).astype(int).ravel()
    bins = np.bincount(ring)
    to_rings = np.zeros((side * side, len(bins)))
    to_rings[np.arange(side * side), ring] = 1 / bins[ring]
    return np.log(power.reshape(count, -1) @ to_rings + FLOOR), bins
