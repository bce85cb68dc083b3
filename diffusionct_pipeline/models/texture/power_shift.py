"""What is known of a whole scan: how its power differs from another's, how white its noise is, and how heavy its tails.

A scan is described by tokens: positions of its latents, (T, C). The noise power of one scan under a kernel of MTF T(f) is

    log NPS(f) = log C + log f + 2 log T(f) + log gain(f),

where C falls with dose, and the gain is that of the scanner's blur, which the reconstruction divides out: kernels of the same
scan differ in T alone. Not in Selim et al. 2023.
"""

from __future__ import annotations

import torch

from .channels import IN_PATIENT, LatentChannels, patient_weight
from .frequency import ramp

SCAN_TOKENS = 256  # positions that describe a scan
SLOW_LP_CM = 1.25  # up to here power is anatomy, by which places look alike, as by their local mean
LIKE_MEAN, LIKE_POWER = 0.15, 0.4  # how far these may differ, normalized
FEW_MATCHES = 0.002  # share of a reference's positions; a place with fewer of its like hardly counts
UNMATCHED = 0.1  # positions' worth of the plain difference of means, for a reference that is alike nowhere
ANATOMY_LP_CM, NOISE_LP_CM = (
    0.75,
    1.5,
)  # slower power is anatomy, which differs from slice to slice; faster power is noise
LEVEL_LP_CM = (
    2.0,
    6.0,
)  # where the level of noise (dose) is read: slower is anatomy, faster is where soft kernels leave little
LEAST_TAIL, HEAVIEST_TAIL, TAIL_FEATURES = -0.5, 10.0, 3  # excess kurtosis
SHAPE_ERROR = 0.15  # of the shift at places that look alike, log power, at `SHAPE_ERROR_LP_CM`; half of it at 0
SHAPE_ERROR_LP_CM, SHAPE_REACH_LP_CM = 6.0, 1.5  # rings this near to each other err alike
USUAL_LEVEL = 2.0  # log power; how far doses differ
# Log power over `TILT_PER_LP_CM`, about `TILT_ABOUT_LP_CM`; how far whiteness and anatomy tilt a shift. Chosen on simulated scans of
# validation phantoms (smaller errors with more) and on two re-kernelled real series (reconstructions of one scan agree with less).
USUAL_TILT, TILT_ABOUT_LP_CM, TILT_PER_LP_CM, TILT_REACH = 0.2, 4.0, 2.0, 1.6
UNUSED = 1e6  # variance of a ring where no level is read
SMALLEST_MTF = 0.08  # and where the MTF is above


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
    if len(inside) == 0:  # no patient in sight: what comes closest
        inside = weight.topk(min(count, len(weight))).indices.sort().values
    return positions[inside[evenly_spaced_indices(len(inside), count).to(inside.device)]]


def noise_share(rings: int, max_lp_cm: float) -> torch.Tensor:
    """Weights (rings,) from 0, where power is anatomy, to 1, where it is noise."""
    return ramp(rings, ANATOMY_LP_CM, NOISE_LP_CM, max_lp_cm)


def anatomy_matched_power_shift(source: torch.Tensor, target: torch.Tensor, max_lp_cm: float) -> torch.Tensor:
    """Estimate the mean difference of power between two scans at places that look alike.

    Scans differ in how much bone, lung and edges they show, by more than kernels do at low frequency. So every position of the
    source is compared with positions of the target of like local mean and slow power (Nadaraya-Watson), which hardly depend
    on the kernel; positions without their like count less.

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
    """Weights of the rings where the level of noise is read.

    Args:
        log_mtf_power: 2 log T, (..., rings).
        max_lp_cm: Frequency of the last ring.
        nyquist_lp_cm: Of the pixels; broadcasts with (..., 1).

    Returns:
        (..., rings), 0 or 1; at least one of them 1.
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
    """Return the mean of curves (..., rings) where the level of noise is read, (..., 1)."""
    return (curve * weights).sum(-1, keepdim=True) / weights.sum(-1, keepdim=True)


def fit_level_and_tilt(
    curve: torch.Tensor, weights: torch.Tensor, max_lp_cm: float, covariance: torch.Tensor | float = 0.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Fit a level and a slight tilt to curves over frequency, by generalized least squares with priors.

    Args:
        curve: What a shift of power holds beside the change of kernels, (..., rings), log power.
        weights: Of `level_weights`.
        max_lp_cm: Frequency of the last ring.
        covariance: (rings, rings) of the change of kernels, beside the error of the shift itself.

    Returns:
        Level (...,), its standard deviation (...,), and both as curves (..., rings).
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
    """Measure how much whiter noise is than its edges are sharp, whatever the kernel and the dose.

    Filtered backprojection leaves the scanner's gain, which rises with f^2; what smoothing removed is missing.

    Args:
        log_power: Mean of a slice, (..., rings), natural logarithm, any units.
        log_mtf_power: 2 log T, same shape.
        weights: Of `level_weights`.
        max_lp_cm: Frequency of the last ring.

    Returns:
        (..., rings), natural logarithm; of mean 0 where the level is read, 0 where power is anatomy.
    """
    rings = log_power.shape[-1]
    lp_cm = torch.linspace(0, max_lp_cm, rings, device=log_power.device).clamp(min=max_lp_cm / (rings - 1))
    floor = 2 * torch.log(torch.tensor(SMALLEST_MTF))
    curve = log_power - torch.maximum(log_mtf_power, floor.to(log_mtf_power)) - torch.log(lp_cm)
    return (curve - level(curve, weights)) * noise_share(rings, max_lp_cm).to(curve.device)


def tail_features(tails: torch.Tensor) -> torch.Tensor:
    """Turn tails of noise (..., 2), see `TissueNoise`, NaN where unknown, into what the network sees (..., 3)."""
    known = tails.isfinite().all(-1, keepdim=True)
    kurtosis = torch.where(known, tails, 0.0).clamp(LEAST_TAIL, HEAVIEST_TAIL) + 3
    return torch.cat([torch.log(kurtosis / 3), known.to(kurtosis)], -1)
