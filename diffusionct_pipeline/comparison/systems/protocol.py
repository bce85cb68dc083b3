"""The interface of all systems of the comparison."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from ...utils.seeds import derive_seed


class FittingPair(NamedTuple):
    """Two reconstructions of one slice.

    Attributes:
        source, target: (H, W) HU.
        spacing_mm: Side of a pixel.
    """

    source: np.ndarray
    target: np.ndarray
    spacing_mm: float


@runtime_checkable
class System(Protocol):
    """A method that standardizes slices. Systems inherit from this class for its default `standardize_slice`."""

    @property
    def target_kernel(self) -> str:
        """Kernel that the system produces whatever it is fitted on; "" where fitting decides."""

    def fit(self, pairs: Iterable[FittingPair]) -> System:
        """Learn from pairs of one source and one target kernel; return the system itself."""

    def standardize(self, hu: np.ndarray, pixel_spacing: float) -> np.ndarray:
        """Standardize (H, W) HU with pixels of `pixel_spacing` mm; return (H, W) float32 HU.

        Raises:
            ValueError: if the system needs to be fitted and was not.
        """

    def standardize_slice(
        self, hu: np.ndarray, pixel_spacing: float, position_mm: float, thickness_mm: float | None, seed: int
    ) -> np.ndarray:
        """Standardize one slice of a scan. Randomness depends on its position, so that no pattern repeats in all slices.

        By default this is `standardize`: the system draws nothing at random.

        Args:
            hu: (H, W) HU.
            pixel_spacing: mm.
            position_mm: Along the normal of the slices.
            thickness_mm: None where it is not known.
            seed: Of the scan.

        Returns:
            (H, W) float32 HU.

        Raises:
            ValueError: as `standardize`.
        """
        return self.standardize(hu, pixel_spacing)

    def save_pretrained(self, folder: str | Path, /) -> None:
        """Write everything that `from_pretrained` needs to a folder."""

    @classmethod
    def from_pretrained(cls, folder: str | Path, /) -> System:
        """Load the system that `save_pretrained` wrote.

        Raises:
            ValueError, OSError: naming the folder and the reason.
        """


def slice_seed(seed: int, position_mm: float) -> int:
    """Return the seed of one slice of a scan, for systems that draw the noise of each slice on its own."""
    return derive_seed(seed, f"slice at {position_mm:.3f} mm")
