"""The input as it is: what every system must beat."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from .protocol import FittingPair


class Unchanged:
    """Gives slices back."""

    target_kernel = ""

    def fit(self, pairs: Iterable[FittingPair]) -> Unchanged:
        """Learns nothing."""
        return self

    def standardize(self, hu: np.ndarray, pixel_spacing: float) -> np.ndarray:
        """(H, W) HU -> the same, float32."""
        return np.asarray(hu, np.float32)

    def save_pretrained(self, folder: str | Path) -> None:
        """Makes the folder; there is nothing to write."""
        Path(folder).mkdir(parents=True, exist_ok=True)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Unchanged:
        """A new one."""
        return cls()
