"""Base of systems that are fitted on a few pairs, and stored as arrays in one JSON file."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...utils.files import write_whole
from .protocol import FittingPair, System

if TYPE_CHECKING:
    from typing_extensions import Self


class FittedSystem(System):
    """Base of the systems whose `fit` learns arrays; each names them in `learnt`, None until then."""

    target_kernel = ""
    learnt: tuple[str, ...] = ()
    file = "fitted.json"

    @abstractmethod
    def fit(self, pairs: Iterable[FittingPair]) -> Self:
        """Learn the arrays; return the system itself."""

    @abstractmethod
    def standardize(self, hu: np.ndarray, pixel_spacing: float) -> np.ndarray:
        """As `System.standardize`."""

    def require_fit(self, values: np.ndarray | None) -> np.ndarray:
        """Return values that `fit` has learnt.

        Raises:
            ValueError: if it was not called.
        """
        if values is None:
            raise ValueError(f"{type(self).__name__} is not fitted; call `fit` with training pairs first.")
        return values

    def save_pretrained(self, folder: str | Path) -> None:
        """Write what was learnt to `folder`/fitted.json."""
        learnt = {name: getattr(self, name) for name in self.learnt}
        arrays = {name: None if value is None else np.asarray(value).tolist() for name, value in learnt.items()}
        write_whole(Path(folder) / self.file, json.dumps({"class": type(self).__name__, **arrays}) + "\n")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Load what `save_pretrained` wrote.

        Raises:
            ValueError, OSError: naming the folder and the reason.
        """
        saved = json.loads((Path(folder) / cls.file).read_text())
        if saved["class"] != cls.__name__:
            raise ValueError(f'"{folder}" holds a {saved["class"]}, not a {cls.__name__}.')
        system = cls()
        for name in cls.learnt:
            setattr(system, name, None if saved[name] is None else np.array(saved[name]))
        return system
