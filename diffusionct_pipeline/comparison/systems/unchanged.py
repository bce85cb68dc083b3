"""The input as it is: what every system must beat."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from .protocol import FittingPair, System


class Unchanged(System):
    """Returns slices as they are."""

    target_kernel = ""

    def fit(self, pairs: Iterable[FittingPair]) -> Unchanged:
        """Do nothing; return the system itself."""
        return self

    def standardize(self, hu: np.ndarray, pixel_spacing: float) -> np.ndarray:
        """Return (H, W) HU as float32."""
        return np.asarray(hu, np.float32)

    def save_pretrained(self, folder: str | Path) -> None:
        """Create the folder; there is nothing to write."""
        Path(folder).mkdir(parents=True, exist_ok=True)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Unchanged:
        """Return a new instance."""
        return cls()
