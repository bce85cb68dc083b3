"""What every system of the comparison can do."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np


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
    """A way to standardize slices.

    Attributes:
        target_kernel: Kernel that a system gives whatever it is fitted on; "" where fitting decides.
    """

    target_kernel: str

    def fit(self, pairs: Iterable[FittingPair]) -> System:
        """Learn what there is to learn from pairs of one source and one target kernel; returns itself."""

    def standardize(self, hu: np.ndarray, pixel_spacing: float) -> np.ndarray:
        """(H, W) HU with pixels of `pixel_spacing` mm -> (H, W) float32 HU with the target's texture.

        Raises:
            ValueError: if the system was not fitted and needs to be.
        """

    def save_pretrained(self, folder: str | Path) -> None:
        """Write everything that `from_pretrained` needs to a folder."""

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> System:
        """The system that `save_pretrained` wrote.

        Raises:
            ValueError, OSError: naming the folder and the reason.
        """
