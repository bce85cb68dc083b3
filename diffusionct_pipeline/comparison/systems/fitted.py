"""What systems that are fitted on a few pairs have in common: arrays in one JSON file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ...utils.files import write_whole


class FittedSystem:
    """Base of the systems whose `fit` learns arrays; each names them in `learnt`, None until then."""

    target_kernel = ""
    learnt: tuple[str, ...] = ()
    file = "fitted.json"

    def require_fit(self) -> None:
        """Raise ValueError where `fit` was not called."""
        if any(getattr(self, name) is None for name in self.learnt):
            raise ValueError(f"{type(self).__name__} has learnt nothing yet; call `fit` with training pairs first.")

    def save_pretrained(self, folder: str | Path) -> None:
        """Write what was learnt to `folder`/fitted.json."""
        arrays: dict[str, Any] = {name: getattr(self, name) for name in self.learnt}
        arrays = {name: None if value is None else np.asarray(value).tolist() for name, value in arrays.items()}
        write_whole(Path(folder) / self.file, json.dumps({"class": type(self).__name__, **arrays}) + "\n")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> FittedSystem:
        """What `save_pretrained` wrote.

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
