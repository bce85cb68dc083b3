"""Collect the tables of an evaluation, read or measured, and match their rows by patient and region."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from ..utils.optional import import_optional
from ..utils.usage import UsageError
from .features import CohortInput, find_cohort, measure_cohort, planned_table
from .settings import CohortSettings
from .tables import SUFFIXES, feature_columns, feature_values, read_table

if TYPE_CHECKING:
    from pandas import DataFrame

KEYS = ("patient", "region", "part")
SCAN_COLUMNS = ("patient", "role", "path", "mask")


@dataclass(frozen=True, eq=False)
class Scans:
    """Describe images that are still to be measured.

    Attributes:
        name: What remarks call them.
        cohort: The images with their masks.
        columns: Further columns, name -> text; they replace those of the headers.
    """

    name: str
    cohort: CohortInput
    columns: Mapping[str, str] = field(default_factory=dict)


Source: TypeAlias = "DataFrame | list[Scans]"  # a table, or what it is to be measured from


@dataclass(frozen=True, eq=False)
class Rows:
    """Hold one table.

    Attributes:
        keys: What identifies each row, the patient first.
        values: (rows, features).
        columns: Other columns by name, (rows,) of text each.
    """

    keys: list[tuple[str, ...]]
    values: np.ndarray
    columns: Mapping[str, np.ndarray]

    @property
    def patients(self) -> list[str]:
        """Return the patient of each row."""
        return [key[0] for key in self.keys]

    def at(self, keys: Sequence[tuple[str, ...]]) -> np.ndarray:
        """Return (len(keys), features): the rows with these keys."""
        places = {key: i for i, key in enumerate(self.keys)}
        return self.values[[places[key] for key in keys]]


def find_sources(sources: Mapping[str, Path], masks: Path | None) -> dict[str, Source]:
    """Return name -> table read from a file, or the images of a folder.

    Raises:
        UsageError: A folder has no masks, or a table cannot be read.
    """
    found: dict[str, Source] = {}
    for name, path in sources.items():
        if path.suffix.lower() in SUFFIXES:
            found[name] = read_table(path)
        elif masks is None:
            raise UsageError(
                f'"{path}" must be a table ({" or ".join(SUFFIXES)}), or be given with masks if it is a folder.'
            )
        else:
            found[name] = [Scans(name, find_cohort(path, masks))]
    return found


def find_scans(path: Path) -> dict[str, Source]:
    """Return role -> scans of a table with the columns patient, role, path and mask, the role "standard" first.

    Paths in the table are relative to its file.

    Raises:
        UsageError: A column is missing, or a path does not exist.
    """
    scans = import_optional("pandas").read_csv(path, dtype=str).fillna("")
    lacking = [column for column in SCAN_COLUMNS if column not in scans]
    if lacking:
        raise UsageError(f'scans "{path}" must have the columns {", ".join(SCAN_COLUMNS)}; {lacking[0]!r} is missing.')
    parts: dict[str, list[Scans]] = {}
    for scan in scans.to_dict("records"):
        image, mask = (path.parent / scan[column] for column in ("path", "mask"))
        for place in (image, mask):
            if not place.exists():
                raise UsageError(f'scans "{path}" names "{place}", which does not exist.')
        columns = {name: value for name, value in scan.items() if name not in ("role", "path", "mask")}
        name = f"{scan['role']}, {scan['patient']}"
        parts.setdefault(scan["role"], []).append(Scans(name, find_cohort(image, mask), columns))
    return dict(sorted(parts.items(), key=lambda item: item[0] != "standard"))


def planned(found: Mapping[str, Source], settings: CohortSettings) -> dict[str, DataFrame]:
    """Return name -> table as `measured` would, but with NaN in place of features that are still to be measured."""
    return {
        name: _joined(source, [planned_table(scans.cohort, settings) for scans in source])
        if isinstance(source, list)
        else source
        for name, source in found.items()
    }


def measured(
    found: Mapping[str, Source], kept: Path, settings: CohortSettings, workers: int
) -> tuple[dict[str, DataFrame], list[str]]:
    """Return name -> table, measured unless it is one already; and remarks.

    Raises:
        ValueError: Nothing could be measured of a folder or scan.
    """
    tables: dict[str, DataFrame] = {}
    remarks: list[str] = []
    for name, source in found.items():
        if not isinstance(source, list):
            tables[name] = source
            continue
        parts = []
        for scans in source:
            part = measure_cohort(scans.cohort, kept, settings=settings, workers=workers)
            remarks += [f"{scans.name}: {remark}" for remark in (*part.failures, *part.remarks)]
            parts.append(part.table)
        tables[name] = _joined(source, parts)
    return tables, remarks


def _joined(source: list[Scans], parts: list[DataFrame]) -> DataFrame:
    """Join a table for each of the scans, with their further columns."""
    tables = [table.assign(**scans.columns) for scans, table in zip(source, parts, strict=True)]
    return import_optional("pandas").concat(tables, ignore_index=True)


def matched(
    tables: Mapping[str, DataFrame], id_columns: Sequence[str] | None = None, starts: Sequence[str] | None = None
) -> tuple[dict[str, Rows], list[str]]:
    """Return name -> rows, all with the same features; and the names of these.

    Args:
        tables: Name -> table.
        id_columns: Columns that identify a row, the patient first; None: those of `KEYS` that all tables have.
        starts: Prefixes of the features' names; None: see `feature_columns`.

    Raises:
        UsageError: There is no column of patients, several rows have the same key, or the tables share no feature.
    """
    of_table = {name: feature_columns(table, starts) for name, table in tables.items()}
    first, *others = of_table.values()
    common = set(first).intersection(*others)
    features = [feature for feature in first if feature in common]
    if not features:
        raise UsageError(f"the tables {', '.join(tables)} must share features, but have none in common.")
    keys = list(id_columns or [key for key in KEYS if all(key in table for table in tables.values())])
    if not keys or (id_columns is None and keys[0] != KEYS[0]):
        raise UsageError(
            "the tables have no column `patient`; name the columns that identify a row, the patient first."
        )
    rows = {}
    for name, table in tables.items():
        lacking = [key for key in keys if key not in table]
        if lacking:
            raise UsageError(f"table {name} has no column {lacking[0]!r}.")
        text = table[keys].astype("string").fillna("")
        own = list(map(tuple, text.to_numpy().tolist()))
        twice = next((key for key, count in Counter(own).items() if count > 1), None)
        if twice is not None:
            raise UsageError(
                f"table {name} has several rows with {dict(zip(keys, twice))}; name the columns that distinguish them."
            )
        columns = {
            str(column): table[column].astype("string").fillna("").to_numpy(dtype=str)
            for column in table.columns
            if column not in common
        }
        rows[name] = Rows(own, feature_values(table, features), columns)
    return rows, features
