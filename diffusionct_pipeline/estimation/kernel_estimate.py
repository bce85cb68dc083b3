"""Describe what is known of the kernel of a series, and how certain it is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from statistics import NormalDist
from typing import Any

import numpy as np

from .law import LEVEL_LP_CM, log_blur_power_gain, log_mtf

LOWEST_MTF = 0.08  # below it, a soft kernel's MTF is of no use
# Signs of edge-preserving smoothing: tails of high-frequency noise, less half of those of lower frequency, where anatomy shows
# first, plus the lack of whitening in cm^2. Plain scans have a sum of up to 0.1, GE LUNG up to 0.37; smoothed by seven families
# 0.2 to 3.
ANATOMY_SHARE, WHITENING_WEIGHT, USUAL_WHITENING = 0.5, 6.0, 0.035
SMOOTHED_FROM, SMOOTHED_WIDTH = 0.4, 0.04
# cm^2 of whitening, and standard deviations below it at which noise was certainly smoothed; plain series had 0.023 to 0.07.
SMOOTHED_WHITENING, SURELY, SURELY_WIDTH = 0.02, 1.3, 0.1
DIGEST_LENGTH, DIGEST_DIGITS = 12, 4


@dataclass(frozen=True)
class KernelEstimate:
    """Hold the kernel and noise of a series, estimated from its slices.

    For one scan, the log of the noise power is log f + noise_log_density + 2 log T(f) + log_gain(f). `noise_log_density`
    and `blur_width_mm` compensate each other: neither alone is the dose or a property of the scanner.

    Attributes:
        mtf50, mtf10, boost, boost_peak: The law's parameters, as in `simulation.Kernel`.
        covariance: (4, 4) covariance of these.
        blur_width_mm, blur_log_bound: Blur of detector and focal spot, which does not affect noise; `log_blur_power_gain`.
        whitening, whitening_deviation: K in cm^2 of log_gain(f) = K f^2 for small f, and its standard deviation.
        noise_hu: Tissue -> standard deviation in HU.
        tails: Excess kurtosis of noise in two bands, see `TissueNoise`: 0 for linear reconstruction. It is the smaller one
            of soft tissue and fat: anatomy may resemble it in one of them, smoothing shows in both. None without noise.
        noise_log_density: log C of soft tissue, or of fat if no soft tissue is in view; None without noise.
        witnesses: The evidence: "skin", "noise", "header" and others.
        slices: Number of slices that were used.
        skin_mm: Length of the bare skin that was used.
        spacing_mm, thickness_mm: Pixel spacing and slice thickness of the series.
        disagreement: Difference of the witnesses in the level, in standard deviations.
    """

    mtf50: float
    mtf10: float
    boost: float
    boost_peak: float
    covariance: tuple[tuple[float, ...], ...]
    blur_width_mm: float
    blur_log_bound: float
    whitening: float
    whitening_deviation: float
    noise_hu: Mapping[str, float] = field(hash=False)
    noise_log_density: float | None
    witnesses: tuple[str, ...]
    slices: int
    skin_mm: float
    spacing_mm: float
    thickness_mm: float
    disagreement: float = 0.0
    tails: tuple[float, float] | None = None

    @property
    def law(self) -> tuple[float, float, float, float]:
        """Return MTF50, MTF10, boost and its peak, the parameters of a `simulation.Kernel`."""
        return self.mtf50, self.mtf10, self.boost, self.boost_peak

    def mtf(self, frequency: np.ndarray) -> np.ndarray:
        """Return the MTF at frequencies in lp/cm."""
        frequency = np.maximum(np.asarray(frequency, float), 1e-6)
        return np.exp(log_mtf(frequency, self.mtf50, self.mtf10, self.boost, self.boost_peak))

    def log_gain(self, frequency: np.ndarray) -> np.ndarray:
        """Return by how much log noise power exceeds log f + noise_log_density + 2 log T(f); frequency in lp/cm."""
        return log_blur_power_gain(np.asarray(frequency, float), self.blur_width_mm, self.blur_log_bound)

    def log_power_covariance(self, frequency: np.ndarray) -> np.ndarray:
        """Return the (N, N) covariance of 2 log T at N frequencies in lp/cm."""
        frequency = np.maximum(np.asarray(frequency, float), 1e-6)
        values = np.array([self.mtf50, self.mtf10, self.boost, self.boost_peak])
        step = 1e-4 * np.maximum(values, 0.1)
        curves = [2 * log_mtf(frequency, *(values + moved)) for moved in np.diag(step)]
        slopes = (np.array(curves) - 2 * log_mtf(frequency, *values)) / step[:, None]  # [4,N]
        return slopes.T @ np.array(self.covariance) @ slopes

    @property
    def smoothed(self) -> float:
        """Return the probability that the noise was smoothed by something other than a kernel, 0 to 1."""
        fast, slow = self.tails or (0.0, 0.0)
        signs = fast - ANATOMY_SHARE * max(slow, 0.0) + WHITENING_WEIGHT * (USUAL_WHITENING - self.whitening)
        below = (SMOOTHED_WHITENING - self.whitening) / max(self.whitening_deviation, 1e-6)
        odds = np.array([(signs - SMOOTHED_FROM) / SMOOTHED_WIDTH, (below - SURELY) / SURELY_WIDTH])
        return float(1 - np.prod(1 / (1 + np.exp(odds.clip(-50, 50)))))

    @property
    def level_band(self) -> np.ndarray:
        """Return the frequencies in lp/cm over which `level` is a mean: 2 to 6, as far as the MTF is of use."""
        return LEVEL_LP_CM[self.mtf(LEVEL_LP_CM) > LOWEST_MTF]

    @property
    def level(self) -> float:
        """Return the mean of 2 log T over `level_band`."""
        return float(2 * np.log(self.mtf(self.level_band)).mean())

    @property
    def level_deviation(self) -> float:
        """Return the standard deviation of `level`."""
        return float(np.sqrt(self.log_power_covariance(self.level_band).mean()))

    def mtf50_interval(self, share: float = 0.9) -> tuple[float, float]:
        """Return the interval that holds MTF50 with a probability of `share`, in lp/cm."""
        if not 0 < share < 1:
            raise ValueError(f"`share` must be between 0 and 1, got {share}")
        deviation = np.sqrt(self.covariance[0][0]) / self.mtf50
        reach = float(np.exp(NormalDist().inv_cdf((1 + share) / 2) * deviation))
        return self.mtf50 / reach, self.mtf50 * reach

    @property
    def told_by(self) -> str:
        """Return the evidence for the kernel in words: "skin and noise of 4 slices"."""
        image = [name for name in self.witnesses if name != "header"]
        words = " and ".join(filter(None, [", ".join(image[:-1]), *image[-1:]]))
        if words:
            words += f" of {self.slices} slice" + "s" * (self.slices != 1)
        return " and ".join(filter(None, [words, "the header" * ("header" in self.witnesses)]))

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, from which `from_json` creates an equal estimate."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return values | {
            "covariance": [list(row) for row in self.covariance],
            "noise_hu": dict(self.noise_hu),
            "witnesses": list(self.witnesses),
            "tails": None if self.tails is None else list(self.tails),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> KernelEstimate:
        """Create an estimate from what `to_json` returned."""
        return cls(**{
            **values,
            "covariance": tuple(tuple(row) for row in values["covariance"]),
            "noise_hu": dict(values["noise_hu"]),
            "witnesses": tuple(values["witnesses"]),
            "tails": None if values["tails"] is None else tuple(values["tails"]),
        })  # fmt: skip

    def digest(self) -> str:
        """Return a short hash of all values, rounded so that it does not depend on the processor."""
        text = json.dumps(_rounded(self.to_json()), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]


def _rounded(values: Any) -> Any:
    """Return the same JSON values with `DIGEST_DIGITS` significant digits."""
    if isinstance(values, dict):
        return {key: _rounded(value) for key, value in values.items()}
    if isinstance(values, list):
        return [_rounded(value) for value in values]
    return f"{values:.{DIGEST_DIGITS}g}" if isinstance(values, float) else values
