"""Declare how the features of a cohort are measured, and read these settings from a file."""

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
    """Declare the choices that are the same for all images of a cohort.

    Attributes:
        radiomics: Grey levels, windows and the like.
        resample_mm: Spacing (slice, row, column) that image and mask are resampled to first; None: they are not. A
            slice spacing of 0 keeps the slices.
        dimensions: 3, or 2 to leave out features that reach across slices.
        ibsi: How IBSI's features are measured, in addition to the 1,401; None: they are not.
    """

    radiomics: RadiomicSettings = field(default_factory=RadiomicSettings)
    resample_mm: Spacing | None = None
    dimensions: int = 3
    ibsi: IbsiSettings | None = None

    @classmethod
    def read(cls, path: str | os.PathLike) -> CohortSettings:
        """Read settings from a JSON file; missing keys keep their defaults.

        Its keys are the fields of `RadiomicSettings`, with `window_hu` [low, high] in place of `grey_limits` (null for
        each region's own range), `resample_mm` (one number, or slice, row and column), `dimensions` (2 or 3) and `ibsi`,
        an object with `bin_width_hu` or `bins`, and `range_hu`, see `IbsiSettings`.

        Raises:
            UsageError: The file is not a JSON object, or has an invalid key or value; naming it.
            OSError: The file cannot be read.
        """
        try:
            given = json.loads(Path(path).read_text(encoding="utf-8"))
            if not isinstance(given, dict):
                raise ValueError(f"the file must hold a JSON object, got a {type(given).__name__}.")
            return cls.of(given)
        except (ValueError, TypeError) as error:
            raise UsageError(f'settings "{path}": {error}') from error

    @classmethod
    def of(cls, given: dict) -> CohortSettings:
        """Return the settings for the content of a file, see `read`.

        Raises:
            ValueError, TypeError: naming the key.
        """
        names = {f.name for f in fields(RadiomicSettings)} - {"grey_limits"}
        _require_known(given, names | {"window_hu", "resample_mm", "dimensions", "ibsi"})
        chosen = {name: given[name] for name in names & set(given)}
        for name, value in chosen.items():
            if name != "histogram_of" and not (isinstance(value, int) and not isinstance(value, bool)):
                raise ValueError(f"`{name}` must be an integer, got {value!r}.")
        if "window_hu" in given:
            window = given["window_hu"]
            chosen["grey_limits"] = (
                None if window is None else tuple(v + CT_NUMBER_OF_WATER for v in _numbers("window_hu", window, 2))
            )
        spacing, resample_mm = given.get("resample_mm"), None
        if spacing is not None:
            low, row, column = (
                (spacing,) * 3 if isinstance(spacing, (int, float)) else _numbers("resample_mm", spacing, 3)
            )
            if not (low >= 0 and min(row, column) > 0 and row == column):
                raise ValueError(f"`resample_mm` must be above 0 mm, rows and columns equal, got {spacing!r}.")
            resample_mm = (low, row, column)
        dimensions = given.get("dimensions", 3)
        if dimensions not in (2, 3):
            raise ValueError(f"`dimensions` must be 2 or 3, got {dimensions!r}.")
        ibsi = given.get("ibsi")
        if ibsi is not None:
            if not isinstance(ibsi, dict):
                raise ValueError(f'`ibsi` must be an object such as {{"bin_width_hu": 25}}, got {ibsi!r}.')
            _require_known(ibsi, {"bin_width_hu", "bins", "range_hu"})
            ibsi = IbsiSettings(**ibsi, dimensions=dimensions)
        return cls(RadiomicSettings(**chosen), resample_mm, dimensions, ibsi)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the features that are measured."""
        names = feature_names(self.radiomics)
        if self.dimensions == 2:
            names = tuple(n for n in names if n.split("/")[0] not in ACROSS_SLICES)
        return names if self.ibsi is None else names + ibsi_names(self.dimensions)

    def text(self) -> str:
        """Return what differs from the defaults, as JSON on one line."""
        default = asdict(CohortSettings())
        changed = {
            name: value for name, value in asdict(self).items() if name != "radiomics" and value != default[name]
        }
        changed |= {n: v for n, v in asdict(self.radiomics).items() if v != default["radiomics"][n]}
        return json.dumps(changed, sort_keys=True)


def _require_known(given: dict, known: set[str]) -> None:
    unknown = sorted(set(given) - known)
    if unknown:
        raise ValueError(f"a setting must be one of {', '.join(sorted(known))}, got {unknown[0]!r}.")


def _numbers(name: str, value: object, count: int) -> tuple[float, ...]:
    if not (isinstance(value, list) and len(value) == count and all(isinstance(v, (int, float)) for v in value)):
        raise ValueError(f"`{name}` must be {count} numbers, got {value!r}.")
    return tuple(float(v) for v in value)
