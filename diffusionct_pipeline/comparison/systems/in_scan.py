"""A slice as one of a scan: whatever a system draws belongs to its place, so that no pattern stands in all slices."""

from __future__ import annotations

import numpy as np

from ...utils.seeds import derive_seed
from .protocol import System


def standardize_in_scan(
    system: System, hu: np.ndarray, pixel_spacing: float, position_mm: float, thickness_mm: float | None, seed: int
) -> np.ndarray:
    """Standardize one slice of a scan.

    Args:
        system: Fitted. One with `standardize_volume` knows what a scan is; one with a `seed` gets one for every place.
        hu: (H, W) HU.
        pixel_spacing: mm.
        position_mm: Along the normal of the slices.
        thickness_mm: None where it is not known.
        seed: Of the scan.

    Returns:
        (H, W) float32 HU.

    Raises:
        ValueError: as of the system.
    """
    if hasattr(system, "standardize_volume"):
        system.seed = seed
        return system.standardize_volume(hu[None], pixel_spacing, [position_mm], thickness_mm)[0]
    if hasattr(system, "seed"):
        system.seed = derive_seed(seed, f"slice at {position_mm:.3f} mm")
    return system.standardize(hu, pixel_spacing)
