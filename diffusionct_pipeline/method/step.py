"""The one rule for the step from a scan to a target: shape from the noise at places that look alike, level from the kernels.

For two kernels of one scan, log NPS differs by 2 log(T_target / T_source). The difference of power between a scan and a target's
texture at places that look alike is right in shape, and arrives at the target's power whatever the kernel of the scan; it holds
one number besides, the ratio of the doses, constant over frequency. The MTFs tell that number, and it is taken out where the scan
shall keep its dose. A slight tilt goes with it: scanners differ in how white their noise is, and at high dose anatomy outweighs
noise where power is slow. Not in Selim et al. 2023.
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

STANDARD_SPACING_MM = 0.7  # a target is what pixels of this size show, or smaller ones of the scan
# For aliasing, the scanner's gain is taken to grow no further beyond: what reconstructions do there is not known.
ALIASED_LP_CM = 6.0
ANGLES = 12
# Deviation of the level from which on it counts as unknown: then the target's noise is the sounder choice.
LARGEST_LEVEL_DEVIATION = 0.4
SURELY_SMOOTHED = 0.5  # what is left of smoothed noise does not tell its dose
USUAL_DOSE_DEVIATION = (
    0.45  # log power, rms, by which the noise of seven real series differed from the standard's level
)
USUAL_LOG_DENSITY = 5.0  # of noise, beside which quantization counts little
SMALLEST_SEEN_MTF = 1e-3
SOFT_TISSUE_HU = (0.0, 130.0)  # local means, as of `estimation.noise`

MTF = Callable[[np.ndarray], np.ndarray]


class Target(NamedTuple):
    """What a scan shall look like.

    Attributes:
        tokens: Of a texture, (1, T, C), normalized.
        texture_mtf: MTF of the kernel of that texture, at frequencies in lp/cm; None where it is not known.
        mtf: That of the target, if it is another kernel than the texture's; None if not.
        name: Kernel, for derived images.
        id: "standard", the name of another kernel, or a hash of the pixels of a reference.
    """

    tokens: torch.Tensor
    texture_mtf: MTF | None
    mtf: MTF | None
    name: str
    id: str


@dataclass(frozen=True, eq=False)
class Step:
    """How the slices of one scan are to change.

    Attributes:
        tokens: Of the target's texture, (1, T, C), normalized.
        shift: Of power, (1, rings), normalized.
        tails: Of the scan's noise, which tell whether it was smoothed; (1, 3), see `power_shift.tail_features`.
        smoothed: How likely that is, 0 to 1.
        coherent: Change of log power that the kernels ask for, (1, rings), or None where they are not known: so much of the
            scan itself goes into the result, and what its power grows beyond that is new noise.
        log_mtf_power: 2 log T of the scan, (1, rings), or None where its kernel is not known.
        noise: "keep" or "target", whichever was done.
        level: Log ratio of the dose of the scan to that of the target's texture; None where it is not known.
        level_deviation: Its standard deviation.
        noise_hu: Noise in soft tissue before, and after as expected; None where no soft tissue is in view.
        remarks: Sentences for the user.
        doubt: Of power, (1, rings), normalized: one standard deviation of the level, as far as the user's wish leaves it open.
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
        """The step of a sample of the scan: the first is the likeliest, every other one draws its level of noise."""
        if number == 0 or self.doubt is None:
            return self
        drawn = torch.randn((), generator=torch.Generator().manual_seed(derive_seed(seed, f"level of sample {number}")))
        return replace(self, shift=self.shift + drawn.item() * self.doubt)


def require_noise(noise: str | float) -> None:
    """Refuse what is no noise level.

    Raises:
        ValueError: naming the argument.
    """
    is_level = isinstance(noise, (int, float)) and not isinstance(noise, bool) and 0 < noise < math.inf
    if not is_level and noise not in ("keep", "target"):
        raise ValueError(f'`noise` must be "keep", "target" or a number of HU above 0, got {noise!r}.')


def make_step(
    source: ScanEstimate, target: Target, noise: str | float, mean: torch.Tensor, std: torch.Tensor, max_lp_cm: float
) -> Step:
    """Apply the rule.

    Args:
        source: The scan.
        target: Where to.
        noise: "keep" (the dose of the scan), "target" (the noise level of the target), or HU in soft tissue.
        mean, std: Of the latent, (C,), by which it is normalized.
        max_lp_cm: Frequency of the last ring.
    """
    power = LatentChannels(len(mean) - LatentChannels.mean.stop).power
    tokens = (source.tokens.to(mean) - mean) / std
    share, std = noise_share(power.stop - power.start, max_lp_cm).numpy(), std[power].cpu().numpy()
    lp_cm, kernel, remarks = np.linspace(0, max_lp_cm, len(share)), source.kernel, []
    shift = anatomy_matched_power_shift(tokens, target.tokens[0], max_lp_cm).cpu().numpy() * std  # log power
    # 1. The level: what the shift holds beside the change that the kernels ask for.
    level = deviation = asked = None
    if kernel is not None and target.texture_mtf is not None:
        asked = _expected(kernel, target.texture_mtf, lp_cm) - _expected(kernel, kernel.mtf, lp_cm)
        level, deviation, excess = _excess(shift - asked, kernel, lp_cm)
    known = level is not None and deviation <= LARGEST_LEVEL_DEVIATION
    if noise != "target" and not known:
        remarks.append(
            "its kernel could not be told well enough to keep its dose; the target's noise level was taken over"
        )
    smoothed = source.smoothed > SURELY_SMOOTHED
    if noise == "keep" and known and smoothed:
        remarks.append(
            "its noise was smoothed, which hides the dose; the target's noise level was taken over, so give the scans that are "
            'compared with it the same, by noise="target" (--noise target)'
        )
    keep = noise != "target" and known and not smoothed
    if keep:
        shift = shift - excess * share
    # 2. To another kernel than that of the texture.
    if target.mtf is not None:
        if kernel is not None:
            change = _expected(kernel, target.mtf, lp_cm) - _expected(kernel, target.texture_mtf, lp_cm)
            asked = asked + change
        else:
            change = 2 * np.log(target.mtf(lp_cm) / target.texture_mtf(lp_cm))
        shift = shift + change * share
    # 3. To a noise level in HU.
    before = _noise_hu(source, shift * 0, power, max_lp_cm)
    if not isinstance(noise, str) and before is not None:
        wanted = 2 * np.log(noise / _noise_hu(source, shift, power, max_lp_cm))
        if keep and wanted < 0:
            remarks.append(
                f"{noise:g} HU of noise is less than its dose has under the target's kernel, and no kernel can remove it; its "
                "dose was kept"
            )
            wanted = 0.0
        shift = shift + wanted * share
    after = None if before is None else (before, _noise_hu(source, shift, power, max_lp_cm))
    known_mtf = log_mtf_power(source, len(share), max_lp_cm)
    shift = torch.from_numpy(shift / std).to(mean)[None]
    coherent = None if asked is None else torch.from_numpy(asked).to(mean)[None]
    done = "keep" if keep else "target"
    log_mtf = None if known_mtf is None else known_mtf.to(mean)
    tails = tails_of(source).to(mean)
    spread = deviation if keep else USUAL_DOSE_DEVIATION
    doubt = torch.from_numpy(spread * share / std).to(mean)[None] if noise == "keep" else None
    return Step(
        target.tokens, shift, tails, source.smoothed, coherent, log_mtf, done, level, deviation, after, remarks, doubt
    )


def log_mtf_power(source: ScanEstimate, rings: int, max_lp_cm: float) -> torch.Tensor | None:
    """2 log T of a scan, (1, rings) float32; None where its kernel is not known."""
    if source.kernel is None:
        return None
    lp_cm = np.linspace(0, max_lp_cm, rings)
    return torch.from_numpy(2 * np.log(source.kernel.mtf(lp_cm).clip(SMALLEST_SEEN_MTF))).float()[None]


def tails_of(source: ScanEstimate) -> torch.Tensor:
    """Tails of the noise of a scan, (1, 3), see `power_shift.tail_features`."""
    known = None if source.kernel is None else source.kernel.tails
    return tail_features(torch.tensor([known or (math.nan, math.nan)]))


def _expected(kernel: KernelEstimate, mtf: MTF, lp_cm: np.ndarray) -> np.ndarray:
    """Log noise power (rings,) of the scan under another MTF, up to a constant, as its pixels sample it and round it."""
    spacing = min(kernel.spacing_mm, STANDARD_SPACING_MM)
    density = USUAL_LOG_DENSITY if kernel.noise_log_density is None else kernel.noise_log_density
    sampling = 10 / spacing
    angle = (np.arange(ANGLES) + 0.5) / ANGLES * np.pi / 2
    f = lp_cm.clip(0.3)[:, None]
    total = 0.0
    for mx in (-1, 0, 1):
        for my in (-1, 0, 1):
            radius = np.hypot(f * np.cos(angle) + mx * sampling, f * np.sin(angle) + my * sampling)
            gain = kernel.log_gain(np.minimum(radius, ALIASED_LP_CM))
            total = total + np.exp(density + gain) * radius * mtf(radius) ** 2 + spacing**2 / 12 / 9
    curve = np.log(total).mean(1)
    last = int(np.flatnonzero(lp_cm <= 5 / spacing * 0.97)[-1])
    curve[last + 1 :] = curve[last]
    return curve


def _excess(curve: np.ndarray, kernel: KernelEstimate, lp_cm: np.ndarray) -> tuple[float, float, np.ndarray]:
    """Fit a level and a tilt to what a shift holds beside the change of kernels.

    Returns:
        The level, its standard deviation, and both as a curve (rings,).
    """
    log_mtf_power = torch.from_numpy(2 * np.log(kernel.mtf(lp_cm).clip(SMALLEST_SEEN_MTF)))
    weights = level_weights(log_mtf_power, lp_cm[-1], 5 / kernel.spacing_mm * 0.97)
    covariance = torch.from_numpy(kernel.log_power_covariance(lp_cm))
    level, deviation, fitted = fit_level_and_tilt(torch.from_numpy(curve), weights, lp_cm[-1], covariance)
    return level.item(), deviation.item(), fitted.numpy()


def _noise_hu(source: ScanEstimate, shift: np.ndarray, power: slice, max_lp_cm: float) -> float | None:
    """Noise in soft tissue after a shift of log power (rings,); None where no soft tissue is in view."""
    f, kernel = np.linspace(0, max_lp_cm, len(shift)), source.kernel
    spacing = STANDARD_SPACING_MM if kernel is None else kernel.spacing_mm
    plane = 2 * np.pi * f * (f <= 5 / spacing)
    measured = None if kernel is None else kernel.noise_hu.get("soft tissue")
    if measured is not None:  # what the kernel left of the noise: tokens hold anatomy beside it
        density = np.exp(_expected(kernel, kernel.mtf, f)) * plane
        return float(measured * np.sqrt((density * np.exp(shift)).sum() / density.sum()))
    tokens = source.tokens.float()
    local_hu = to_hu(tokens[:, LatentChannels.mean][:, 0])
    soft = (local_hu > SOFT_TISSUE_HU[0]) & (local_hu < SOFT_TISSUE_HU[1])
    if not soft.any():
        return None
    density = np.exp(tokens[soft][:, power].numpy() + shift) * HU_SCALE**2 * plane / 100  # [n,rings]
    return float(np.sqrt(np.median(np.trapezoid(density, f, axis=1))))
