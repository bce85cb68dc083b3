"""Compute the step from a scan to a target: its shape from noise at positions of similar anatomy, its level from the kernels.

For two kernels of one scan, log NPS differs by 2 log(T_target / T_source). The difference of power between a scan and a target's
texture at positions of similar anatomy has the right shape, and leads to the target's power whatever the kernel of the scan; but
it also contains the ratio of the doses, one number that is constant over frequency. That number follows from the MTFs and is
removed where the scan is to keep its dose. A slight tilt goes with it: scanners differ in how white their noise is, and at high
dose anatomy outweighs noise at low frequency. Not in Selim et al. 2023.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch

from ..estimation import KernelEstimate
from ..estimation.scan_estimate import ScanEstimate
from ..image_processor import HU_SCALE, to_hu
from ..models.texture.channels import LatentChannels
from ..models.texture.power_shift import (
    anatomy_matched_power_shift,
    fit_level_and_tilt,
    level_weights,
    noise_share,
    tail_features,
)
from ..utils.seeds import derive_seed

STANDARD_SPACING_MM = 0.7  # targets are evaluated with pixels of this size, or those of the scan if smaller
# For aliasing, the scanner's gain is assumed constant beyond: what reconstructions do there is not known.
ALIASED_LP_CM = 6.0
ANGLES = 12
# A level with a larger standard deviation counts as unknown: then the target's noise is the safer choice.
LARGEST_LEVEL_DEVIATION = 0.4
NEGLIGIBLY_SMOOTHED = 0.01  # below this probability, sampling changes no power by a thousandth
SURELY_SMOOTHED = 0.5  # above this probability the noise does not show the dose
# Log power, rms, by which the noise of seven real series differed from the standard's level.
USUAL_DOSE_DEVIATION = 0.45
USUAL_LOG_DENSITY = 5.0  # of noise, beside which quantization is small
SMALLEST_SEEN_MTF = 1e-3
SOFT_TISSUE_HU = (0.0, 130.0)  # of local means, as in `estimation.noise`

MTF = Callable[[np.ndarray], np.ndarray]


class Target(NamedTuple):
    """Describe what a scan is to look like.

    Attributes:
        tokens: Tokens of a texture, (1, T, C), normalized.
        texture_mtf: MTF of that texture's kernel, as a function of frequencies in lp/cm; None where it is not known.
        mtf: MTF of the target if it is another kernel than the texture's, for which `texture_mtf` is known; None if not.
        name: Name of the kernel, for derived images.
        id: "standard", the name of another kernel, or a hash of the pixels of a reference.
    """

    tokens: torch.Tensor
    texture_mtf: MTF | None
    mtf: MTF | None
    name: str
    id: str


@dataclass(frozen=True, eq=False)
class Step:
    """Describe how the slices of one scan are to change.

    Attributes:
        tokens: Tokens of the target's texture, (1, T, C), normalized.
        shift: Shift of power, (1, rings), normalized.
        tails: Tails of the scan's noise, which show whether it was smoothed; (1, 3), see `power_shift.tail_features`.
        smoothed: The probability of that, 0 to 1.
        coherent: Change of log power that the kernels imply, (1, rings), or None where they are not known: the scan itself is
            amplified by this, and power that grows by more is new noise.
        log_mtf_power: 2 log T of the scan, (1, rings), or None where its kernel is not known.
        noise: "keep" or "target", whichever was applied.
        level: Log ratio of the scan's dose to that of the target's texture; None where it is not known.
        level_deviation: Its standard deviation.
        noise_hu: Noise in soft tissue before, and expected after; None where no soft tissue is in view.
        remarks: Sentences for the user.
        doubt: One standard deviation of the level, as power (1, rings), normalized; None where the user fixed the noise.
    """

    tokens: torch.Tensor
    shift: torch.Tensor
    tails: torch.Tensor
    smoothed: float
    coherent: torch.Tensor | None = None
    log_mtf_power: torch.Tensor | None = None
    noise: str = "keep"
    level: float | None = None
    level_deviation: float | None = None
    noise_hu: tuple[float, float] | None = None
    remarks: list[str] = field(default_factory=list)
    doubt: torch.Tensor | None = None

    def of_sample(self, number: int, seed: int) -> Step:
        """Return the step of a sample of the scan: the first is the most likely, every other one draws its level of noise."""
        if number == 0 or self.doubt is None:
            return self
        drawn = torch.randn((), generator=torch.Generator().manual_seed(derive_seed(seed, f"level of sample {number}")))
        return replace(self, shift=self.shift + drawn.item() * self.doubt)


def require_noise(noise: str | float) -> None:
    """Refuse anything that is not a noise level.

    Raises:
        ValueError: naming the argument, its value and what is allowed.
    """
    is_level = isinstance(noise, (int, float)) and not isinstance(noise, bool) and 0 < noise < math.inf
    if not is_level and noise not in ("keep", "target"):
        raise ValueError(f'`noise` must be "keep", "target" or a number of HU above 0, got {noise!r}.')


def make_step(
    source: ScanEstimate, target: Target, noise: str | float, mean: torch.Tensor, std: torch.Tensor, max_lp_cm: float
) -> Step:
    """Compute the step from a scan to a target.

    Args:
        source: The estimate of the scan.
        target: The target.
        noise: "keep" (the dose of the scan), "target" (the noise level of the target), or HU in soft tissue.
        mean, std: Statistics (C,) by which the latent is normalized.
        max_lp_cm: Frequency of the last ring.
    """
    power = LatentChannels(len(mean) - LatentChannels.mean.stop).power
    tokens = (source.tokens.to(mean) - mean) / std
    share, std_power = noise_share(power.stop - power.start, max_lp_cm).numpy(), std[power].cpu().numpy()
    lp_cm, kernel = np.linspace(0, max_lp_cm, len(share)), source.kernel
    remarks: list[str] = []
    shift = anatomy_matched_power_shift(tokens, target.tokens[0], max_lp_cm).cpu().numpy() * std_power  # log power
    # 1. The level: the part of the shift that the change of kernels does not explain.
    excess, asked = None, None
    if kernel is not None and target.texture_mtf is not None:
        asked = _expected(kernel, target.texture_mtf, lp_cm) - _expected(kernel, kernel.mtf, lp_cm)
        excess = _excess(shift - asked, kernel, lp_cm)
    known = excess is not None and excess.deviation <= LARGEST_LEVEL_DEVIATION
    if noise != "target" and not known:
        remarks.append(
            "its kernel could not be estimated well enough to keep its dose, so the target's noise level was used instead"
        )
    smoothed = source.smoothed > SURELY_SMOOTHED
    if noise == "keep" and known and smoothed:
        remarks.append(
            "its noise was smoothed, which hides the dose, so the target's noise level was used instead; use the same for the "
            'scans that are compared with it, by noise="target" (--noise target)'
        )
    kept = excess if noise != "target" and known and not smoothed else None
    if kept is not None:
        shift = shift - kept.curve * share
    # 2. To another kernel than the texture's.
    if target.mtf is not None:
        assert target.texture_mtf is not None, "a target with an MTF of its own has that of its texture, too"
        if kernel is not None and asked is not None:
            change = _expected(kernel, target.mtf, lp_cm) - _expected(kernel, target.texture_mtf, lp_cm)
            asked = asked + change
        else:
            change = 2 * np.log(target.mtf(lp_cm) / target.texture_mtf(lp_cm))
        shift = shift + change * share
    # 3. To a noise level in HU.
    before = _noise_hu(source, shift * 0, power, max_lp_cm)
    if not isinstance(noise, str) and (so_far := _noise_hu(source, shift, power, max_lp_cm)) is not None:
        wanted = 2 * np.log(noise / so_far)
        if kept is not None and wanted < 0:
            remarks.append(
                f"{noise:g} HU of noise is less than its dose gives with the target's kernel, and no kernel can remove it, so its "
                "dose was kept"
            )
            wanted = 0.0
        shift = shift + wanted * share
    after = _noise_hu(source, shift, power, max_lp_cm)
    log_mtf = log_mtf_power(source, len(share), max_lp_cm)
    spread = USUAL_DOSE_DEVIATION if kept is None else kept.deviation
    return Step(
        tokens=target.tokens,
        shift=torch.from_numpy(shift / std_power).to(mean)[None],
        tails=tails_of(source).to(mean),
        smoothed=source.smoothed,
        coherent=None if asked is None else torch.from_numpy(asked).to(mean)[None],
        log_mtf_power=None if log_mtf is None else log_mtf.to(mean),
        noise="target" if kept is None else "keep",
        level=None if excess is None else excess.level,
        level_deviation=None if excess is None else excess.deviation,
        noise_hu=None if before is None or after is None else (before, after),
        remarks=remarks,
        doubt=torch.from_numpy(spread * share / std_power).to(mean)[None] if noise == "keep" else None,
    )


def log_mtf_power(source: ScanEstimate, rings: int, max_lp_cm: float) -> torch.Tensor | None:
    """Return 2 log T of a scan, (1, rings) float32; None where its kernel is not known."""
    if source.kernel is None:
        return None
    lp_cm = np.linspace(0, max_lp_cm, rings)
    return torch.from_numpy(2 * np.log(source.kernel.mtf(lp_cm).clip(SMALLEST_SEEN_MTF))).float()[None]


def tails_of(source: ScanEstimate) -> torch.Tensor:
    """Return the tails of the noise of a scan, (1, 3), see `power_shift.tail_features`."""
    known = None if source.kernel is None else source.kernel.tails
    return tail_features(torch.tensor([known or (math.nan, math.nan)]))


def _expected(kernel: KernelEstimate, mtf: MTF, lp_cm: np.ndarray) -> np.ndarray:
    """Return the log noise power (rings,) of the scan under another MTF, up to a constant, sampled and rounded by its pixels."""
    spacing = min(kernel.spacing_mm, STANDARD_SPACING_MM)
    density = USUAL_LOG_DENSITY if kernel.noise_log_density is None else kernel.noise_log_density
    sampling = 10 / spacing
    angle = (np.arange(ANGLES) + 0.5) / ANGLES * np.pi / 2
    f = lp_cm.clip(0.3)[:, None]
    total = np.zeros_like(f)
    for mx in (-1, 0, 1):
        for my in (-1, 0, 1):
            radius = np.hypot(f * np.cos(angle) + mx * sampling, f * np.sin(angle) + my * sampling)
            gain = kernel.log_gain(np.minimum(radius, ALIASED_LP_CM))
            total = total + np.exp(density + gain) * radius * mtf(radius) ** 2 + spacing**2 / 12 / 9
    curve = np.log(total).mean(1)
    last = int(np.flatnonzero(lp_cm <= 5 / spacing * 0.97)[-1])
    curve[last + 1 :] = curve[last]
    return curve


class _Excess(NamedTuple):
    """Hold the level of a shift, its standard deviation, and level and tilt as a curve (rings,)."""

    level: float
    deviation: float
    curve: np.ndarray


def _excess(curve: np.ndarray, kernel: KernelEstimate, lp_cm: np.ndarray) -> _Excess:
    """Fit a level and a tilt to the part (rings,) of a shift that the change of kernels does not explain."""
    log_mtf_power = torch.from_numpy(2 * np.log(kernel.mtf(lp_cm).clip(SMALLEST_SEEN_MTF)))
    weights = level_weights(log_mtf_power, lp_cm[-1], 5 / kernel.spacing_mm * 0.97)
    covariance = torch.from_numpy(kernel.log_power_covariance(lp_cm))
    level, deviation, fitted = fit_level_and_tilt(torch.from_numpy(curve), weights, lp_cm[-1], covariance)
    return _Excess(level.item(), deviation.item(), fitted.numpy())


def _noise_hu(source: ScanEstimate, shift: np.ndarray, power: slice, max_lp_cm: float) -> float | None:
    """Return the noise in soft tissue after a shift of log power (rings,); None where no soft tissue is in view."""
    f, kernel = np.linspace(0, max_lp_cm, len(shift)), source.kernel
    spacing = STANDARD_SPACING_MM if kernel is None else kernel.spacing_mm
    plane = 2 * np.pi * f * (f <= 5 / spacing)
    # Measured noise is preferred: tokens hold anatomy, too.
    if kernel is not None and (measured := kernel.noise_hu.get("soft tissue")) is not None:
        density = np.exp(_expected(kernel, kernel.mtf, f)) * plane
        return float(measured * np.sqrt((density * np.exp(shift)).sum() / density.sum()))
    tokens = source.tokens.float()
    local_hu = to_hu(tokens[:, LatentChannels.mean][:, 0])
    soft = (local_hu > SOFT_TISSUE_HU[0]) & (local_hu < SOFT_TISSUE_HU[1])
    if not soft.any():
        return None
    density = np.exp(tokens[soft][:, power].numpy() + shift) * HU_SCALE**2 * plane / 100  # [n,rings]
    return float(np.sqrt(np.median(np.trapezoid(density, f, axis=1))))
