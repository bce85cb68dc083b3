"""Real scans under linear filters of any shape, so that references are also learnt from noise that was not simulated.

A filter changes the local power everywhere alike, so that the denoiser learns not to correct what the mean of a reference
already explains; trained on simulated scans alone, it made corrections that real scans do not need.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from ...image_processor import HIGHEST_SEEN_HU, UNMEASURED_HU
from ...models.texture.frequency import radial_frequency
from .objects import TrainingObject

LARGEST_SCALING = 0.15  # of the pixel size, up or down: patients of other sizes
UNFILTERED, SOFT = 1, 3  # positions in a scan, whose smoothings are in texture_pairs.SMOOTHED_KERNELS
BOOST = (-1.0, 1.8)  # of log amplitude at its peak
BOOST_PEAK_LP_CM, BOOST_WIDTH_LP_CM = (2.0, 8.0), (1.5, 4.0)  # of a Gaussian
UNBOOSTED_LP_CM = 1.5  # lower frequencies hardly change, as under any kernel
CUTOFF_LP_CM, SOFT_CUTOFF_LP_CM = (4.0, 14.0), (3.0, 6.0)  # where amplitude falls to 1 / e
CUTOFF_SHARE = 0.6


def draw_filters(count: int, generator: torch.Generator) -> list[tuple[float, float, float, float]]:
    """Draw `count` filters: boost, its peak and width, and the cutoff, infinite for none. One filter is the identity."""
    between = lambda low, high: low + (high - low) * torch.rand(1, generator=generator).item()  # noqa: E731
    filters = []
    for place in range(count):
        boost, peak, width = between(*BOOST), between(*BOOST_PEAK_LP_CM), between(*BOOST_WIDTH_LP_CM)
        has_cutoff = between(0, 1) < CUTOFF_SHARE
        cutoff = between(*CUTOFF_LP_CM) if has_cutoff else float("inf")
        soft = between(*SOFT_CUTOFF_LP_CM)
        if place == UNFILTERED:
            boost, cutoff = 0.0, float("inf")
        elif place == SOFT:
            boost, cutoff = 0.0, soft
        filters.append((boost, peak, width, cutoff))
    return filters


def filter_scan(
    objects: Sequence[TrainingObject],
    filters: Sequence[tuple[float, float, float, float]],
    slices: int,
    size: int,
    lowest_hu: float,
    generator: torch.Generator,
) -> tuple[np.ndarray, float, tuple[float, float, float, float] | None]:
    """Apply every filter to slices of one series.

    Args:
        objects: Slices of any number of series.
        filters: From `draw_filters`.
        slices: Number of slices.
        size: Side in pixels; larger slices are cropped, smaller ones padded with air.
        lowest_hu: Lower limit to which HU are clipped.
        generator: Draws the slices and the size of the patient.

    Returns:
        HU, int16 (slices, filters, size, size), the side of a pixel in mm, and the law of the unfiltered kernel at that size;
        None where it is not known.
    """
    choose = lambda count: int(torch.rand(1, generator=generator).item() * count)  # noqa: E731
    first = objects[choose(len(objects))]
    like = lambda item: (item.spacing_mm, item.law) == (first.spacing_mm, first.law)  # noqa: E731
    same = [item for item in objects if like(item)]  # of one patient, most likely
    scaling = 1 + LARGEST_SCALING * (2 * torch.rand(1, generator=generator).item() - 1)
    spacing_mm = first.spacing_mm * scaling
    frequency = radial_frequency(size, size, torch.tensor([spacing_mm]))[0]
    gains = torch.stack([gain(frequency, *one) for one in filters])
    made = []
    for _ in range(slices):
        hu = _fitted(same[choose(len(same))].hu.float(), size)
        filtered = torch.fft.irfft2(torch.fft.rfft2(hu) * gains, s=(size, size))
        made.append(filtered.round().clamp(lowest_hu, HIGHEST_SEEN_HU).to(torch.int16).numpy())
    if first.law is None:
        return np.stack(made), spacing_mm, None
    mtf50, mtf10, boost, peak = first.law
    return np.stack(made), spacing_mm, (mtf50 / scaling, mtf10 / scaling, boost, peak / scaling)


def gain(frequency: torch.Tensor, boost: float, peak: float, width: float, cutoff: float) -> torch.Tensor:
    """Return the amplitude of a filter at every frequency in lp/cm; 1 at 0."""
    log_gain = boost * torch.exp(-(((frequency - peak) / width) ** 2) / 2)
    log_gain = log_gain * (1 - torch.exp(-((frequency / UNBOOSTED_LP_CM) ** 2)))
    return torch.exp(log_gain - (frequency / cutoff) ** 2)


def _fitted(hu: torch.Tensor, size: int) -> torch.Tensor:
    """Crop or pad (H, W) to (size, size) about the same centre."""
    top, left = ((side - size) // 2 for side in hu.shape)
    bottom, right = (side - size - before for side, before in zip(hu.shape, (top, left)))
    return F.pad(hu, (-left, -right, -top, -bottom), value=UNMEASURED_HU)
