"""Fit one MTF to the skin's profile, the noise of tissue and further witnesses: a joint MAP estimate.

    skin    steps of air, cloth, skin and fat, blurred by T(f), the blur left of detector and focal spot, tilt and roughness
    noise   log power = log(C f T(f)^2 gain(f) + anatomy + quantization), windowed and aliased; C is the dose, of each tissue
    others  log T(f) at some frequencies, with a covariance

Edges do not depend on dose and noise does not depend on the skin's roughness, so that together they determine what neither
does alone. Residuals have the tails of Student's t, and errors of neighbouring bins are correlated. All sets of parameters
are evaluated at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.special import i0e

from .law import LEVEL_LP_CM, log_blur_power_gain, log_edge_blur, log_mtf
from .multistart import Fit, Parameter, Values, minimize
from .noise import TissueNoise
from .noise_window import FREQUENCY as NOISE_LP_CM
from .noise_window import ring_response
from .skin import BIN_MM, SkinProfile
from .witnesses import LogMTFWitness

# Name: lowest, start, highest, expected, deviation from it (None: no prior).
SHAPE: dict[str, Parameter] = {
    "mtf50": (1.5, 4.5, 14.0, None, None),  # lp/cm
    "ratio": (1.15, 1.6, 2.6, None, None),  # MTF10 / MTF50; expected as in `_usual_shape`
    "boost": (0.0, 0.1, 1.2, None, None),
    "peak": (0.3, 0.55, 0.9, 0.55, 0.1),  # of MTF50
    "width": (0.05, 0.75, 1.6, None, None),  # mm, of detector cell and focal spot; expected as in WIDTH_MM
    "bound": (
        -3.0,
        -1.6,
        -0.5,
        -1.6,
        0.8,
    ),  # log of the transfer down to which blur is divided out; scanners' are unknown
}
SKIN: dict[str, Parameter] = {
    "air": (-1060.0, -1000.0, -900.0, None, None),  # HU
    "skin": (-150.0, 20.0, 250.0, 20.0, 30.0),  # HU
    "below": (-200.0, -100.0, 120.0, None, None),  # HU under the skin
    "place": (-1.0, 0.0, 1.0, None, None),  # mm
    "thickness": (0.8, 1.8, 4.0, 1.8, 0.4),  # mm of the skin
    "uneven": (0.0, 0.3, 2.0, None, None),  # mm, variation of the thickness
    "slope": (-20.0, 0.0, 20.0, None, None),  # HU/mm under the skin
    "cloth": (0.0, 2.0, 150.0, 0.0, 15.0),  # HU above air
    "cloth_mm": (0.4, 1.2, 4.0, 1.2, 0.5),
    "rough": (0.0, 0.002, 0.5, None, None),  # mm^2, variance of the surface about its outline: blurs edges, not noise
}
TISSUE: dict[str, Parameter] = {
    "density": (-5.0, 0.0, 16.0, None, None),  # log C
    "anatomy": (-9.0, -2.0, 3.0, -2.0, 1.5),  # log of its share at 1 lp/cm, relative to C
}
TISSUES = ("soft tissue", "fat")
USUAL_MTF50, MTF50_ERROR = 4.8, 0.4  # lp/cm, and log: 90 % of kernels for the body have 2.5 to 9.3
# Centre and scale for real scanners (ideal ones have .45), degrees of freedom: heavy tails.
WIDTH_MM = (0.82, 0.12, 2.0)
RATIO_ERROR, BOOST_ERROR = 0.2, 0.15  # of kernels about `_usual_shape`
HIGHEST_LP_CM = 14.3  # a detector samples nothing beyond
LOWEST_LP_CM = 2.0  # squares are chosen by their power below, which biases it
ANATOMY_LP_CM = 0.3  # above it the power of anatomy falls with the square of the frequency
NOISE_ERROR, NOISE_REACH = 0.08, 1.2  # of log power in addition to chance, and lp/cm over which it is correlated
SKIN_ERROR, SKIN_REACH = 4.0, 0.6  # HU of the skin's model in addition to noise, and mm over which it is correlated
SHORT_SKIN_ERROR = 10.0  # further HU for 10 cm of skin, less for more skin, as skin differs from place to place
TAIL = 5.0  # degrees of freedom of all measurements
CLOTH_UNEVEN_MM = 0.5
OUTLINE_SLOPE = 370.0  # HU/mm of the smoothed skin
ROUGH, ROUGH_FREEDOM = 0.01, 1.5  # mm^2 and degrees of freedom: a heavy tail, as the skin may be precise and wrong
# Tangent of the skin's unobserved tilt: without a neighbouring slice, and in addition to what a neighbour shows.
TILT, TILT_BESIDE = 0.35, 0.25
JITTER = 4.0  # factor on `_outline_jitter` that simulated noisy scans need
STARTS = (
    {"mtf50": 2.8, "width": 0.8}, {"mtf50": 4.5, "width": 0.8}, {"mtf50": 7.0, "width": 0.5}, {"mtf50": 9.0, "width": 0.8}
)  # fmt: skip
SKIN_1_MM = np.arange(0.01, 2.5, 0.02)  # frequency, 1/mm
DEPTH_STEP_MM = 0.05
# The value of a blurred unit step at a depth is 0.5 + the depth's sign times STEP @ MTF (sine transform of an even line spread).
DEPTH_MM = np.arange(0.0, 14.0, DEPTH_STEP_MM)
STEP = 2 * 0.02 * np.sin(2 * np.pi * np.outer(SKIN_1_MM, DEPTH_MM)) / (2 * np.pi * SKIN_1_MM[:, None])


def fit_kernel(
    skin: SkinProfile | None,
    noise: Mapping[str, TissueNoise],
    witnesses: Sequence[LogMTFWitness],
    spacing_mm: float,
    floor_hu: float,
    thickness_mm: float,
) -> Fit:
    """Fit the kernel to skin, noise and witnesses, of which at least one must be given.

    Args:
        skin: Profile of the skin, None if too little of it is in view.
        noise: Noise by tissue; those of `TISSUES` are used.
        witnesses: Further witnesses.
        spacing_mm: Side of a pixel.
        floor_hu: Lowest HU that the files can hold.
        thickness_mm: Slice thickness; the thicker, the more the skin's unobserved tilt may blur it.
    """
    noise = {name: noise[name] for name in TISSUES if name in noise}
    parameters = dict(SHAPE)
    terms: list[Callable[[Values], np.ndarray]] = [_shape_prior]
    terms += [_witness_term(witness) for witness in witnesses]
    for name, measured in noise.items():
        parameters |= {f"{name} {key}": row for key, row in TISSUE.items()}
        start = float(np.log(measured.power / measured.frequency)[1:3].mean())
        low, _, high, expected, deviation = TISSUE["density"]
        parameters[f"{name} density"] = (low, start, high, expected, deviation)
        terms.append(_noise_term(name, measured, spacing_mm))
    if skin is not None:
        moved = max((_outline_jitter(measured) for measured in noise.values()), default=0.0)
        low, start, high, _, _ = SKIN["rough"]
        scale = float(np.sqrt(ROUGH**2 + moved**2 + _unseen_tilt(skin, thickness_mm) ** 2))
        parameters |= SKIN | {"rough": (low, start + moved, high + 4 * moved, None, None)}
        terms.append(lambda values: _student((values["rough"] - moved) / scale, ROUGH_FREEDOM))
        terms.append(_skin_term(skin, floor_hu))
    return minimize(parameters, terms, STARTS, _level)


def _level(values: Values) -> np.ndarray:
    return _log_mtf(values, LEVEL_LP_CM).mean(1)


def _log_mtf(values: Values, frequency: np.ndarray) -> np.ndarray:
    mtf50 = values["mtf50"]
    return log_mtf(frequency, mtf50, mtf50 * values["ratio"], values["boost"], mtf50 * values["peak"])


def _shape_prior(values: Values) -> np.ndarray:
    ratio, boost = _usual_shape(values["mtf50"])
    centre, scale, freedom = WIDTH_MM
    return np.concatenate([
        np.log(values["mtf50"] / USUAL_MTF50) / MTF50_ERROR,
        (values["ratio"] - ratio) / RATIO_ERROR,
        (values["boost"] - boost) / BOOST_ERROR,
        _student((values["width"] - centre) / scale, freedom),
    ], axis=1)  # fmt: skip


def _usual_shape(mtf50: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the expected ratio and boost.

    Kernels measured on scanners have 1.65 and no boost below 5 lp/cm, 1.27 and a peak of 1.2 to 1.35 from 8 on.
    """
    sharp = 1 / (1 + np.exp(-(mtf50 - 7.0)))
    return 1.65 - 0.35 * sharp, 0.05 + 0.25 * sharp


def _witness_term(witness: LogMTFWitness) -> Callable[[Values], np.ndarray]:
    frequency, expected = np.array(witness.frequency), np.array(witness.log_mtf)
    whiten = np.linalg.inv(np.linalg.cholesky(np.array(witness.covariance))).T
    return lambda values: _student((_log_mtf(values, frequency) - expected) @ whiten, witness.freedom)


def _noise_term(name: str, measured: TissueNoise, spacing_mm: float) -> Callable[[Values], np.ndarray]:
    side, squares = measured.squares.side, len(measured.squares.corners)
    ring = np.round(measured.frequency * side * spacing_mm / 10).astype(int)
    kept = (measured.frequency >= LOWEST_LP_CM) & (measured.frequency < 5 / spacing_mm * 0.97)
    chance = 1.2 / np.sqrt(squares * 2 * np.maximum(ring, 1))
    whiten = _whitening(chance[kept], NOISE_ERROR, measured.frequency[kept], NOISE_REACH)
    response, expected = ring_response(side, round(spacing_mm, 5))[ring[kept]].T, np.log(measured.power[kept])
    sampled = NOISE_LP_CM * (NOISE_LP_CM < HIGHEST_LP_CM)
    anatomy = NOISE_LP_CM**-2.0 * (NOISE_LP_CM > ANATOMY_LP_CM)
    quantization = spacing_mm**2 / 12  # of whole HU

    def residuals(values: Values) -> np.ndarray:
        gain = np.exp(log_blur_power_gain(NOISE_LP_CM, values["width"], values["bound"]))
        seen = np.exp(values[f"{name} density"] + 2 * _log_mtf(values, NOISE_LP_CM))
        power = seen * (sampled * gain + np.exp(values[f"{name} anatomy"]) * anatomy) + quantization
        return _student((np.log(power @ response) - expected) @ whiten, TAIL)

    return residuals


def _skin_term(skin: SkinProfile, floor_hu: float) -> Callable[[Values], np.ndarray]:
    shared = float(np.hypot(SKIN_ERROR, SHORT_SKIN_ERROR * np.sqrt(100 / skin.length_mm)))
    whiten = _whitening(skin.error_hu, shared, skin.offset_mm, SKIN_REACH)
    known = np.log(np.sinc(SKIN_1_MM * BIN_MM)) + np.log(skin.tilt_transfer(SKIN_1_MM).clip(1e-6))
    square = 2 * (np.pi * SKIN_1_MM) ** 2

    def residuals(values: Values) -> np.ndarray:
        blurred = log_edge_blur(SKIN_1_MM * 10, values["width"], values["bound"]) + known
        transfer = np.exp(_log_mtf(values, SKIN_1_MM * 10) + blurred - values["rough"] * square)
        depth = values["place"] - skin.offset_mm  # [sets,bins]
        air, surface, below = values["air"], values["skin"], values["below"]
        hu = air + values["cloth"] * _step(
            depth + values["cloth_mm"], transfer * np.exp(-(CLOTH_UNEVEN_MM**2) * square)
        )
        hu = hu + (surface - air - values["cloth"]) * _step(depth, transfer)
        depth = depth - values["thickness"]
        hu = hu + (below - surface) * _step(depth, transfer * np.exp(-(values["uneven"] ** 2) * square))
        hu = hu + values["slope"] * depth.clip(0)
        return _student((hu.clip(floor_hu) - skin.hu) @ whiten, TAIL)

    return residuals


def _step(depth: np.ndarray, transfer: np.ndarray) -> np.ndarray:
    """Return a unit step at depth 0, (sets, bins), blurred by transfers (sets, frequencies)."""
    blurred = transfer @ STEP
    place = np.minimum(np.abs(depth) / DEPTH_STEP_MM, len(DEPTH_MM) - 1.001)
    lower = place.astype(int)
    first, second = (np.take_along_axis(blurred, lower + more, 1) for more in (0, 1))
    return 0.5 + np.sign(depth) * (first + (place - lower) * (second - first))


def _unseen_tilt(skin: SkinProfile, thickness_mm: float) -> float:
    """Return the variance in mm^2 across a slice of a surface due to its unobserved tilt."""
    tangent = skin.tilt_seen * TILT_BESIDE**2 + (1 - skin.tilt_seen) * TILT**2
    return tangent * thickness_mm**2 / 12


def _outline_jitter(measured: TissueNoise) -> float:
    """Return the variance in mm^2 by which noise moves the outline: the smoothed noise over the slope of the skin."""
    x = (2 * np.pi * measured.frequency / 10) ** 2
    left = measured.power * np.exp(-x) * i0e(1.125 * x)  # mean over angles; 1 mm all around, 1.5 mm more along itself
    step = measured.frequency[1] - measured.frequency[0]
    return JITTER * float(np.sum(left * 2 * np.pi * measured.frequency) * step / 100) / OUTLINE_SLOPE**2


def _whitening(own: np.ndarray, shared: float, at: np.ndarray, reach: float) -> np.ndarray:
    """Return the matrix that decorrelates errors with an independent part `own` and a part `shared` with nearby ones."""
    covariance = np.diag(own**2) + shared**2 * np.exp(-np.abs(at[:, None] - at) / reach)
    return np.linalg.inv(np.linalg.cholesky(covariance)).T


def _student(z: np.ndarray, freedom: float) -> np.ndarray:
    """Return Student's t as a residual whose square is minus twice the log density."""
    return np.sign(z) * np.sqrt((freedom + 1) * np.log1p(z * z / freedom))
