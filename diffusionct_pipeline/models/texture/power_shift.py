"""Describe a whole scan: how its power differs from another's, how white its noise is, and how heavy its tails are.

A scan is described by tokens, positions of its latents (T, C). The noise power of one scan under a kernel of MTF T(f) is

    log NPS(f) = log C + log f + 2 log T(f) + log gain(f),

where C falls with dose and the gain comes from dividing out the scanner's blur in the reconstruction: kernels of one scan
differ in T only. Not in Selim et al. 2023.
"""

from __future__ import annotations

import torch

from .channels import IN_PATIENT, LatentChannels, patient_weight
from .frequency import ramp

SCAN_TOKENS = 256  # positions that describe a scan
SLOW_LP_CM = 1.25  # up to here power is anatomy, by which positions are matched, as by their local mean
LIKE_MEAN, LIKE_POWER = 0.15, 0.4  # how far these may differ in a match, normalized
FEW_MATCHES = 0.002  # share of a reference's positions; a position with fewer matches has little weight
UNMATCHED = 0.1  # weight in positions of the plain difference of means, for a reference without any match
# Power of lower frequency is anatomy, which differs from slice to slice; power of higher frequency is noise.
ANATOMY_LP_CM, NOISE_LP_CM = (0.75, 1.5)
# Where the level of noise (dose) is measured: below is anatomy, above soft kernels leave little.
LEVEL_LP_CM = (2.0, 6.0)
LEAST_TAIL, HEAVIEST_TAIL, TAIL_FEATURES = -0.5, 10.0, 3  # excess kurtosis
SHAPE_ERROR = 0.15  # of the shift at matching positions, log power, at `SHAPE_ERROR_LP_CM`; half of it at 0
SHAPE_ERROR_LP_CM, SHAPE_REACH_LP_CM = 6.0, 1.5  # errors of rings this near to each other are correlated
USUAL_LEVEL = 2.0  # log power, by which doses usually differ
# Log power over `TILT_PER_LP_CM`, about `TILT_ABOUT_LP_CM`, by which whiteness and anatomy tilt a shift. Chosen on simulated scans of
# validation phantoms (larger values lower the error) and two re-kernelled real series (smaller ones improve the agreement of
# reconstructions of one scan).
USUAL_TILT, TILT_ABOUT_LP_CM, TILT_PER_LP_CM, TILT_REACH = 0.2, 4.0, 2.0, 1.6
UNUSED = 1e6  # variance of a ring where no level is measured
SMALLEST_MTF = 0.08  # the level is measured only where the MTF is above


def evenly_spaced_indices(length: int, count: int) -> torch.Tensor:
    """Return at most `count` indices below `length`, evenly spread from the first to the last."""
    return torch.linspace(0, length - 1, min(count, length)).round().long()


def select_tokens(latent: torch.Tensor, count: int = SCAN_TOKENS) -> torch.Tensor:
    """Choose positions of the latents of a scan that lie in the patient, evenly spread.

    Args:
        latent: (N, C, L) of N slices, normalized or not.
        count: Largest number of tokens.

    Returns:
        (T, C) with 1 <= T <= count.
    """
    positions = latent.transpose(1, 2).flatten(0, 1)  # [N*L,C]
    weight = patient_weight(latent).transpose(1, 2).flatten()
    inside = (weight > IN_PATIENT).nonzero()[:, 0]
    if len(inside) == 0:  # no patient in view: take the positions nearest to it
        inside = weight.topk(min(count, len(weight))).indices.sort().values
    return positions[inside[evenly_spaced_indices(len(inside), count).to(inside.device)]]


def noise_share(rings: int, max_lp_cm: float) -> torch.Tensor:
    """Return weights (rings,) from 0, where power is anatomy, to 1, where it is noise."""
    return ramp(rings, ANATOMY_LP_CM, NOISE_LP_CM, max_lp_cm)


def anatomy_matched_power_shift(source: torch.Tensor, target: torch.Tensor, max_lp_cm: float) -> torch.Tensor:
    """Estimate the mean difference of power between two scans at positions of similar anatomy.

    At low frequency, scans differ more in the bone, lung and edges that they show than in their kernels. So every position of
    the source is compared with positions of the target of similar local mean and low-frequency power (Nadaraya-Watson), which
    hardly depend on the kernel; positions without matches have less weight.

    Args:
        source, target: Tokens (S, C) and (T, C), normalized.
        max_lp_cm: Frequency of the last ring.

    Returns:
        (rings,), normalized; 0 where power is anatomy.
    """
    rings = source.shape[-1] - LatentChannels.mean.stop
    channels = LatentChannels(rings)
    lp_cm = torch.linspace(0, max_lp_cm, rings)
    slow = [channels.power.start + ring for ring in range(1, rings) if lp_cm[ring] <= SLOW_LP_CM]
    alike = [channels.mean.start, *slow]
    scale = source.new_tensor([LIKE_MEAN] + [LIKE_POWER] * len(slow))
    weight = torch.exp(-torch.cdist(source[:, alike] / scale, target[:, alike] / scale).square() / 2)  # [S,T]
    matches = weight.mean(1, keepdim=True)  # [S,1]
    seen = weight @ target / (len(target) * matches.clamp(min=1e-12))  # [S,C]
    counts = matches / (matches + FEW_MATCHES)
    total = (counts * (seen - source)).sum(0) + UNMATCHED * (target.mean(0) - source.mean(0))
    shift = total / (counts.sum() + UNMATCHED)
    return shift[channels.power] * noise_share(rings, max_lp_cm).to(shift.device)


def level_weights(log_mtf_power: torch.Tensor, max_lp_cm: float, nyquist_lp_cm: torch.Tensor | float) -> torch.Tensor:
    """Return the weights of the rings where the level of noise is measured.

    Args:
        log_mtf_power: 2 log T, (..., rings).
        max_lp_cm: Frequency of the last ring.
        nyquist_lp_cm: Nyquist frequency of the pixels; broadcasts with (..., 1).

    Returns:
        (..., rings), 0 or 1; at least one of them is 1.
    """
    lp_cm = torch.linspace(0, max_lp_cm, log_mtf_power.shape[-1], device=log_mtf_power.device)
    used = (
        (lp_cm >= LEVEL_LP_CM[0])
        & (lp_cm <= LEVEL_LP_CM[1])
        & (lp_cm <= torch.as_tensor(nyquist_lp_cm, device=lp_cm.device))
    )
    used = used & (log_mtf_power > 2 * torch.log(torch.tensor(SMALLEST_MTF)))
    first = lp_cm >= LEVEL_LP_CM[0]
    first = first & (first.cumsum(0) == 1)
    return torch.where(used.any(-1, keepdim=True), used, first.expand_as(used)).to(log_mtf_power.dtype)


def level(curve: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the mean of curves (..., rings) where the level of noise is measured, (..., 1)."""
    return (curve * weights).sum(-1, keepdim=True) / weights.sum(-1, keepdim=True)


def fit_level_and_tilt(
    curve: torch.Tensor, weights: torch.Tensor, max_lp_cm: float, covariance: torch.Tensor | float = 0.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Fit a level and a slight tilt to curves over frequency, by generalized least squares with priors.

    Args:
        curve: A shift of power less the change of kernels, (..., rings), log power.
        weights: From `level_weights`.
        max_lp_cm: Frequency of the last ring.
        covariance: (rings, rings) of the change of kernels, in addition to the error of the shift itself.

    Returns:
        Level (...,), its standard deviation (...,), and the sum of level and tilt as curves (..., rings).
    """
    f = torch.linspace(0, max_lp_cm, curve.shape[-1], device=curve.device, dtype=torch.float64)
    shape = SHAPE_ERROR * (1 + (f / SHAPE_ERROR_LP_CM) ** 2) / 2
    total = shape[:, None] * torch.exp(-(f[:, None] - f).abs() / SHAPE_REACH_LP_CM) * shape + covariance
    used = weights.double()
    total = total * used[..., None] * used[..., None, :] + torch.diag_embed((1 - used) * UNUSED)
    tilt = ((f - TILT_ABOUT_LP_CM) / TILT_PER_LP_CM).clamp(-TILT_REACH, TILT_REACH)
    basis = torch.stack([torch.ones_like(tilt), tilt], 1)  # [rings,2]
    weighted = torch.linalg.solve(total, basis.expand(*total.shape[:-1], 2)) * used[..., None]  # [...,rings,2]
    prior = torch.diag(basis.new_tensor([USUAL_LEVEL**-2, USUAL_TILT**-2]))
    posterior = torch.linalg.inv(weighted.mT @ basis + prior)  # [...,2,2]
    found = posterior @ weighted.mT @ curve.double()[..., None]  # [...,2,1]
    fitted = (basis @ found)[..., 0].to(curve.dtype)
    return found[..., 0, 0].to(curve.dtype), posterior[..., 0, 0].sqrt().to(curve.dtype), fitted


def whitening(
    log_power: torch.Tensor, log_mtf_power: torch.Tensor, weights: torch.Tensor, max_lp_cm: float
) -> torch.Tensor:
    """Measure how much whiter the noise is than the kernel's MTF explains, independent of kernel and dose.

    Filtered backprojection leaves the scanner's gain, which rises with f^2; smoothing removes noise from it.

    Args:
        log_power: Mean of a slice, (..., rings), natural logarithm, any units.
        log_mtf_power: 2 log T, same shape.
        weights: From `level_weights`.
        max_lp_cm: Frequency of the last ring.

    Returns:
        (..., rings), natural logarithm; of mean 0 where the level is measured, 0 where power is anatomy.
    """
    rings = log_power.shape[-1]
    lp_cm = torch.linspace(0, max_lp_cm, rings, device=log_power.device).clamp(min=max_lp_cm / (rings - 1))
    floor = 2 * torch.log(torch.tensor(SMALLEST_MTF))
    curve = log_power - torch.maximum(log_mtf_power, floor.to(log_mtf_power)) - torch.log(lp_cm)
    return (curve - level(curve, weights)) * noise_share(rings, max_lp_cm).to(curve.device)


def tail_features(tails: torch.Tensor) -> torch.Tensor:
    """Convert tails of noise (..., 2), see `TissueNoise`, NaN where unknown, to the network's input (..., 3)."""
    known = tails.isfinite().all(-1, keepdim=True)
    kurtosis = torch.where(known, tails, 0.0).clamp(LEAST_TAIL, HEAVIEST_TAIL) + 3
    return torch.cat([torch.log(kurtosis / 3), known.to(kurtosis)], -1)
