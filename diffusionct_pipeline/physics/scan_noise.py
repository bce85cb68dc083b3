"""Generate the noise of a scan: white within a slice, correlated between slices as far as their profiles overlap.

The noise is a field over x, y and z that depends only on a seed and a position, so that a slice gets the same noise alone,
in a folder, in any order and in any batch; texture neither flickers from slice to slice nor repeats in all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch

from ..utils.seeds import derive_seed

# Gaussian profile, full width at half maximum in units of the thickness: correlations of .75 half a thickness apart and
# .32 one apart. Three real series have .72 (half a thickness), .37 and .38 (one), by benchmarks/series.py.
PROFILE_WIDTH = 1.1
PLANE_DISTANCE = 0.5  # between the planes of which slices are a weighted sum, in units of the thickness
PROFILE_REACH = 3.0  # standard deviations
UNKNOWN_THICKNESS_MM = 1.0
POSITION_DIGITS = 3  # micrometres: the same position is -340.2 in one file and -340.20001 in another


def scan_position(position_mm: float) -> float:
    """Return a position or distance in mm for the noise, rounded to `POSITION_DIGITS`; never -0."""
    return round(position_mm, POSITION_DIGITS) + 0.0


def scan_noise(
    shape: Sequence[int], seed: int, position_mm: float = 0.0, thickness_mm: float | None = None
) -> torch.Tensor:
    """Return the noise of one slice.

    Args:
        shape: Shape of the slice, or of its latent.
        seed: Seed of the scan.
        position_mm: Position along the normal of the slices.
        thickness_mm: Slice thickness, the same for all slices of a scan; None for 1 mm where it is not known.

    Returns:
        float32 tensor on the CPU, independent standard normal values.
    """
    thickness_mm = thickness_mm or UNKNOWN_THICKNESS_MM
    distance = PLANE_DISTANCE * thickness_mm
    deviation = PROFILE_WIDTH * thickness_mm / (2 * math.sqrt(2 * math.log(2)))
    reach = PROFILE_REACH * deviation
    planes = range(math.ceil((position_mm - reach) / distance), math.floor((position_mm + reach) / distance) + 1)
    weights = [math.exp(-0.5 * ((plane * distance - position_mm) / deviation) ** 2) for plane in planes]
    total = torch.zeros(*shape)
    for plane, weight in zip(planes, weights):
        total += weight * _plane(tuple(shape), derive_seed(seed, f"plane {plane}"))
    return total / math.sqrt(sum(weight**2 for weight in weights))


@lru_cache(maxsize=16)  # the planes of a slice and its latent, of which the next slice shares all but one or two
def _plane(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Return the white noise of one plane; it must not be changed in place."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
