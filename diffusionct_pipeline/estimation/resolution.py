"""The modulation transfer function of a series, from the edge between the patient's skin and the air."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import least_squares

from ..simulation.kernels import Kernel, mtf
from .skin import BIN_MM, EdgeSlice, pool_skin, skin_pixels

MODEL_ERROR_HU = 3.0  # what the model below does not describe of a profile, beside its noise
PEAK = 0.55  # where kernels enhance, relative to their MTF50, as those of kernels.json that do
FREQUENCY = np.arange(0.005, 2.5, 0.01)  # 1/mm
OFFSET_MM = np.arange(-10.0, 10.001, 0.05)
# Name: lowest, start, highest, expected value, how far from it (None: anywhere).
# Expected shapes are those of kernels.json: MTF10 / MTF50 from 1.38 to 1.69, boosts from 0 to .3.
PARAMETERS = {
    "mtf50": (1.5, 3.0, 14.0, None, None),  # lp/cm
    "ratio": (1.25, 1.6, 2.3, 1.6, 0.1),  # MTF10 / MTF50
    "boost": (0.0, 0.1, 1.0, 0.1, 0.1),
    "air": (-1060.0, -1000.0, -900.0, None, None),  # HU
    "skin": (-150.0, 20.0, 250.0, 20.0, 30.0),  # HU
    "below": (-200.0, -100.0, 120.0, None, None),  # HU under the skin
    "place": (-1.0, 0.0, 1.0, None, None),  # mm
    "thickness": (0.8, 1.8, 4.0, 1.8, 0.4),  # mm of the skin
    "uneven": (0.0, 0.3, 2.0, None, None),  # mm, how far that varies
    "slope": (-20.0, 0.0, 20.0, None, None),  # HU/mm under the skin
    "cloth": (0.0, 10.0, 150.0, 0.0, 30.0),  # HU above air, of clothes and blankets on the skin
    "cloth_mm": (0.4, 1.2, 4.0, 1.2, 0.5),
}
CLOTH_UNEVEN_MM = 0.5
STARTS_LP_CM = (3.0, 6.0)  # a soft and a sharp kernel


@dataclass(frozen=True, eq=False)
class Resolution:
    """Resolution within the slice.

    Attributes:
        mtf50, mtf10: Frequencies in lp/cm at which the MTF falls to .5 and .1, beyond which it stays below.
        frequency, mtf: The fitted MTF; lp/cm, and same shape.
        offset_mm, profile_hu, fitted_hu: Median HU by distance from the skin (outside is positive), and the fit.
    """

    mtf50: float
    mtf10: float
    frequency: np.ndarray
    mtf: np.ndarray
    offset_mm: np.ndarray
    profile_hu: np.ndarray
    fitted_hu: np.ndarray


def measure_resolution(slices: Sequence[EdgeSlice], thickness_mm: float, floor_hu: float) -> Resolution | None:
    """Fit the MTF to the profile of the skin, pooled over slices.

    Where the body is bare and its surface stands upright in the slice, the median HU in bins of distance is a profile that
    neither noise nor pixels blur. It is fitted as air, cloth, skin and what lies below it, all blurred by one symmetric
    MTF of the law of `Kernel`; medians survive that a file cuts off air at its lowest HU, and so does the fit.
    The skin is not flat and the patient breathes: sharp kernels come out too soft rather than too sharp.
    benchmarks/characterise.py compares with simulated truth.

    Args:
        slices: Of one series, of any number.
        thickness_mm: Slice thickness.
        floor_hu: Lowest HU that the files can hold.

    Returns:
        None where too little bare skin is in view.
    """
    parts = [part for item in slices if (part := skin_pixels(item, thickness_mm)) is not None]
    profile = pool_skin(parts)
    if profile is None:
        return None
    offset, tilted = profile.offset_mm, profile.tilt_transfer(FREQUENCY)
    values = _fit(offset, profile.hu, profile.error_hu, tilted, floor_hu)
    kernel = _kernel(values)
    frequency = FREQUENCY * 10
    curve = mtf(torch.from_numpy(frequency), kernel).numpy()
    return Resolution(
        mtf50=_last_above(frequency, curve, 0.5),
        mtf10=_last_above(frequency, curve, 0.1),
        frequency=frequency,
        mtf=curve,
        offset_mm=offset,
        profile_hu=profile.hu,
        fitted_hu=_model(values, offset, tilted, floor_hu),
    )


def _fit(
    offset: np.ndarray, profile: np.ndarray, error: np.ndarray, tilted: np.ndarray, floor_hu: float
) -> dict[str, float]:
    """Least squares, with the expected values as further observations."""
    low, start, high = (np.array([row[i] for row in PARAMETERS.values()]) for i in range(3))
    expected = np.array([0.0 if row[3] is None else row[3] for row in PARAMETERS.values()])
    weight = np.array([0.0 if row[4] is None else 1 / row[4] for row in PARAMETERS.values()])
    noise = np.hypot(error, MODEL_ERROR_HU)

    def residuals(values: np.ndarray) -> np.ndarray:
        apart = (_model(dict(zip(PARAMETERS, values)), offset, tilted, floor_hu) - profile) / noise
        return np.concatenate([apart, (values - expected) * weight])

    fits = []
    for mtf50 in STARTS_LP_CM:
        start[0] = mtf50
        fits.append(least_squares(residuals, start, bounds=(low, high), x_scale=(high - low) / 10))
    return dict(zip(PARAMETERS, min(fits, key=lambda fit: fit.cost).x))


def _kernel(values: dict[str, float]) -> Kernel:
    mtf50 = values["mtf50"]
    return Kernel("fitted", mtf50, mtf50 * values["ratio"], values["boost"], PEAK * mtf50)


# HU of a blurred step at OFFSET_MM is 0.5 + STEP @ MTF (the sine transform of an even line spread).
STEP = 2 * 0.01 * np.sin(2 * np.pi * np.outer(OFFSET_MM, FREQUENCY)) / (2 * np.pi * FREQUENCY)


def _model(values: dict[str, float], offset: np.ndarray, tilted: np.ndarray, floor_hu: float) -> np.ndarray:
    """HU at distances from the surface: three blurred steps, cut at `floor_hu`; `tilted` is the transfer of the tilt."""
    transfer = mtf(torch.from_numpy(FREQUENCY * 10), _kernel(values)).numpy() * np.sinc(FREQUENCY * BIN_MM) * tilted
    depth = values["place"] - offset

    def step(at_mm: float, uneven_mm: float = 0.0) -> np.ndarray:
        blurred = STEP @ (transfer * np.exp(-2 * (np.pi * uneven_mm * FREQUENCY) ** 2))
        return 0.5 + np.interp(depth - at_mm, OFFSET_MM, blurred)

    thickness = values["thickness"]
    hu = (
        values["air"]
        + values["cloth"] * step(-values["cloth_mm"], CLOTH_UNEVEN_MM)
        + (values["skin"] - values["air"] - values["cloth"]) * step(0.0)
        + (values["below"] - values["skin"]) * step(thickness, values["uneven"])
        + values["slope"] * (depth - thickness).clip(0)
    )
    return hu.clip(floor_hu)


def _last_above(frequency: np.ndarray, curve: np.ndarray, level: float) -> float:
    """Frequency at which a falling curve crosses a level for the last time, linearly interpolated."""
    last = int(np.flatnonzero(curve >= level)[-1])
    if last + 1 == len(curve):
        return float(frequency[-1])
    share = (curve[last] - level) / (curve[last] - curve[last + 1])
    return float(frequency[last] + share * (frequency[last + 1] - frequency[last]))
