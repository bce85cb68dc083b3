"""How the features of a cohort are measured: what a settings file says."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from ..evaluation.geometry import Spacing
from ..radiomics import CT_NUMBER_OF_WATER, RadiomicSettings, feature_names
from ..radiomics.ibsi import IbsiSettings, ibsi_names
from ..utils.usage import UsageError

ACROSS_SLICES = ("GLCM3", "NID3")  # families that look beyond a slice


@dataclass(frozen=True)
class CohortSettings:
    """Declared choices, the same for all images of a cohort.

    Attributes:
        radiomics: Grey levels, windows and the like.
        resample_mm: Voxels that image and mask are brought to first: (slice, row, column), None for as they are. A
            slice of 0 keeps the slices.
        dimensions: 3, or 2 to leave out what looks beyond a slice.
        ibsi: How IBSI's features are measured, beside the 1,401; None: they are not.
    """

    radiomics: RadiomicSettings = field(default_factory=RadiomicSettings)
    resample_mm: Spacing | None = None
    dimensions: int = 3
    ibsi: IbsiSettings | None = None

    @classmethod
    def read(cls, path: str | os.PathLike) -> CohortSettings:
        """Settings of a JSON file; what it leaves out is as by default.

        Its keys are the fields of `RadiomicSettings`, with `window_hu` [low, high] in place of `grey_limits` (null for
        each region's own range), `resample_mm` (one number, or slice, row and column), `dimensions` (2 or 3) and `ibsi`, an object of
        `bin_width_hu` or `bins`, and `range_hu`, see `IbsiSettings`.

        Raises:
            UsageError: the file is no JSON object, or has a key or value that is not legal; naming it.
            OSError: it cannot be read.
        """
        try:
            given = json.loads(Path(path).read_text(encoding="utf-8"))
            if not isinstance(given, dict):
                raise ValueError(f"holds a {type(given).__name__}; must be an object of settings")
            return cls.of(given)
        except (ValueError, TypeError) as error:
            raise UsageError(f'settings "{path}": {error}') from error

    @classmethod
    def of(cls, given: dict) -> CohortSettings:
        """Settings from the content of a file, see `read`.

        Raises:
            ValueError, TypeError: naming the key.
        """
        names = {f.name for f in fields(RadiomicSettings)} - {"grey_limits"}
        _require_known(given, names | {"window_hu", "resample_mm", "dimensions", "ibsi"})
        chosen = {name: given[name] for name in names & set(given)}
        for name, value in chosen.items():
            if name != "histogram_of" and not (isinstance(value, int) and not isinstance(value, bool)):
                raise ValueError(f"{name} is {value!r}; must be an integer")
        if "window_hu" in given:
            window = given["window_hu"]
            chosen["grey_limits"] = (
                None if window is None else tuple(v + CT_NUMBER_OF_WATER for v in _numbers(window, 2))
            )
        spacing = given.get("resample_mm")
        if spacing is not None:
            low, *plane = spacing = (spacing,) * 3 if isinstance(spacing, (int, float)) else _numbers(spacing, 3)
            if not (low >= 0 and min(plane) > 0 and plane[0] == plane[1]):
                raise ValueError(f"resample_mm is {given['resample_mm']!r}; must be above 0, rows and columns alike")
        dimensions = given.get("dimensions", 3)
        if dimensions not in (2, 3):
            raise ValueError(f"dimensions is {dimensions!r}; must be 2 or 3")
        ibsi = given.get("ibsi")
        if ibsi is not None:
            if not isinstance(ibsi, dict):
                raise ValueError(f'ibsi is {ibsi!r}; must be an object such as {{"bin_width_hu": 25}}')
            _require_known(ibsi, {"bin_width_hu", "bins", "range_hu"})
            ibsi = IbsiSettings(**ibsi, dimensions=dimensions)
        return cls(RadiomicSettings(**chosen), spacing, dimensions, ibsi)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the features that are measured."""
        names = feature_names(self.radiomics)
        if self.dimensions == 2:
            names = tuple(n for n in names if n.split("/")[0] not in ACROSS_SLICES)
        return names if self.ibsi is None else names + ibsi_names(self.dimensions)

    def text(self) -> str:
        """What differs from the default, as JSON on a line."""
        default = asdict(CohortSettings())
        changed = {
            name: value for name, value in asdict(self).items() if name != "radiomics" and value != default[name]
        }
        changed |= {n: v for n, v in asdict(self.radiomics).items() if v != default["radiomics"][n]}
        return json.dumps(changed, sort_keys=True)


def _require_known(given: dict, legal: set[str]) -> None:
    unknown = sorted(set(given) - legal)
    if unknown:
        raise ValueError(f"{unknown[0]!r} is no setting; legal are {', '.join(sorted(legal))}")


def _numbers(value: object, count: int) -> tuple[float, ...]:
    if not (isinstance(value, list) and len(value) == count and all(isinstance(v, (int, float)) for v in value)):
        raise ValueError(f"{value!r} was found where {count} numbers must be")
    return tuple(float(v) for v in value)
