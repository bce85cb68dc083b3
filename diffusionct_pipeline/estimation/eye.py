"""What a learnt eye says of a series' kernel from patches inside the body: a witness where no skin is in view."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from ..evaluation.regions import spread
from ..image_processor import HUSlice, to_model
from ..models.kernel_eye import KernelEye
from .patches import cut_patch, patch_centres
from .skin import EdgeSlice
from .witnesses import LogMTFWitness

PATCHES = 24  # of a series
FEWEST_PATCHES = 3
BELOW_NYQUIST = 0.97  # what is closer to it is aliased
FAINTEST_LOG_MTF = -3.0  # the eye was taught nothing of what is fainter
FREEDOM = 4.0  # heavy tails: nothing tells whether a scan is like those it learnt from
LEAST_DEVIATION = 0.02


def eye_witness(eye: KernelEye, slices: Sequence[HUSlice | EdgeSlice], patches: int = PATCHES) -> LogMTFWitness | None:
    """Ask the eye how sharp slices of one series are.

    Args:
        eye: In evaluation mode.
        slices: Of one series; each has `hu`, `spacing_mm` and `padding`.
        patches: At most so many are looked at, evenly chosen; the answer is their median.

    Returns:
        log T at those frequencies that the pixels hold; None where the body is too small for `FEWEST_PATCHES` patches.
    """
    return answer_for_patches(eye, np.array(list(_chosen_patches(eye, slices, patches))), slices[0].spacing_mm)


def answer_for_patches(eye: KernelEye, patches_hu: np.ndarray, spacing_mm: float) -> LogMTFWitness | None:
    """Join what the eye says of patches of one series.

    Args:
        eye: In evaluation mode.
        patches_hu: (N, P, P) HU, pixels of `eye.config.pixel_mm`.
        spacing_mm: Side of a pixel of the scan.
    """
    if len(patches_hu) < FEWEST_PATCHES:
        return None
    log_mtf, deviation = ask_eye(eye, patches_hu, spacing_mm)
    frequency = np.arange(1.0, len(log_mtf) + 1)
    # Beyond the first frequency that is too faint, all are.
    told = (frequency < BELOW_NYQUIST * 5 / spacing_mm) & np.logical_and.accumulate(log_mtf > FAINTEST_LOG_MTF)
    if not told.any():
        return None
    covariance = (error_moments(eye) * np.outer(deviation, deviation))[np.ix_(told, told)]
    return LogMTFWitness(
        "learnt eye",
        tuple(frequency[told].tolist()),
        tuple(log_mtf[told].tolist()),
        tuple(tuple(row) for row in covariance.tolist()),
        FREEDOM,
    )


@torch.inference_mode()
def ask_eye(eye: KernelEye, patches_hu: np.ndarray, spacing_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Return medians over patches (N, P, P) of log T and of its stated deviation, (frequencies,) each."""
    sample = to_model(torch.from_numpy(patches_hu).float())[:, None].to(eye.device, eye.dtype)
    mean, log_variance = eye(sample, torch.full((len(sample),), 5 / spacing_mm, device=eye.device))
    log_mtf, log_variance = (each.double().cpu().numpy() for each in (mean, log_variance))
    return np.median(log_mtf, 0), np.exp(np.median(log_variance, 0) / 2)


def error_moments(eye: KernelEye) -> np.ndarray:
    """Return the (N, N) second moments of errors in units of the stated deviations, positive definite."""
    moments = eye.error_moments.double().cpu().numpy()
    values, vectors = np.linalg.eigh((moments + moments.T) / 2)
    return (vectors * values.clip(LEAST_DEVIATION * values.max())) @ vectors.T


def _chosen_patches(eye: KernelEye, slices: Sequence[HUSlice | EdgeSlice], patches: int) -> Iterator[np.ndarray]:
    """Patches, evenly chosen from all that lie within the body on some of the slices."""
    pixel_mm, pixels = eye.config.pixel_mm, eye.config.patch_pixels
    seen = spread(slices, patches)
    each = -(-patches // len(seen))
    for item in seen:
        for centre in spread(patch_centres(item.hu, item.spacing_mm, item.padding, pixels * pixel_mm), each):
            yield cut_patch(item.hu, item.spacing_mm, centre, pixel_mm, pixels, item.padding)
