"""The tables of an evaluation: named, read or measured, and their rows matched by patient and region."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..utils.optional import import_optional
from ..utils.usage import UsageError
from .features import measure_cohort
from .settings import CohortSettings
from .tables import SUFFIXES, feature_columns, feature_values, read_table

if TYPE_CHECKING:
    from pandas import DataFrame

KEYS = ("patient", "region", "part")
SCAN_COLUMNS = ("patient", "role", "path", "mask")


@dataclass(frozen=True, eq=False)
class Rows:
    """One table.

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
        """Of each row."""
        return [key[0] for key in self.keys]

    def at(self, keys: Sequence[tuple[str, ...]]) -> np.ndarray:
        """(len(keys), features): the rows of these keys."""
        places = {key: i for i, key in enumerate(self.keys)}
        return self.values[[places[key] for key in keys]]


def read_sources(
    sources: Mapping[str, Path],
    masks: Path | None,
    kept: Path,
    settings: CohortSettings,
    workers: int,
) -> tuple[dict[str, DataFrame], list[str]]:
    """Name -> table, read from a file or measured of the images of a folder; and remarks.

    Raises:
        UsageError: a folder without masks, or a table that cannot be read.
        ValueError: nothing could be measured in a folder.
    """
    tables, remarks = {}, []
    for name, path in sources.items():
        if path.suffix.lower() in SUFFIXES:
            tables[name] = read_table(path)
            continue
        if masks is None:
            raise UsageError(f'"{path}" is no table ({" or ".join(SUFFIXES)}); to measure images, give their masks too')
        found = measure_cohort(path, masks, kept, settings=settings, workers=workers)
        tables[name] = found.table
        remarks += [f"{name}: {remark}" for remark in (*found.failures, *found.remarks)]
    return tables, remarks


def read_scans(
    path: Path, kept: Path, settings: CohortSettings, workers: int
) -> tuple[dict[str, DataFrame], list[str]]:
    """Role -> table, measured of a table of scans: patient, role, path, mask; paths are relative to the file.

    Raises:
        UsageError: it lacks a column, or a path is not there.
        ValueError: nothing could be measured of a scan.
    """
    pandas = import_optional("pandas")
    scans = pandas.read_csv(path, dtype=str).fillna("")
    lacking = [column for column in SCAN_COLUMNS if column not in scans]
    if lacking:
        raise UsageError(f'scans "{path}" has no column {lacking[0]!r}; must have {", ".join(SCAN_COLUMNS)}')
    parts: dict[str, list[DataFrame]] = {}
    remarks = []
    for scan in scans.to_dict("records"):
        image, mask = (path.parent / scan[column] for column in ("path", "mask"))
        for place in (image, mask):
            if not place.exists():
                raise UsageError(f'scans "{path}" names "{place}", which does not exist')
        found = measure_cohort(image, mask, kept, settings=settings, workers=workers)
        remarks += [f"{scan['role']}, {scan['patient']}: {remark}" for remark in (*found.failures, *found.remarks)]
        others = {name: value for name, value in scan.items() if name not in ("role", "path", "mask")}
        parts.setdefault(scan["role"], []).append(found.table.assign(**others))
    return {role: pandas.concat(tables, ignore_index=True) for role, tables in parts.items()}, remarks


def matched(
    tables: Mapping[str, DataFrame], id_columns: Sequence[str] | None = None, starts: Sequence[str] | None = None
) -> tuple[dict[str, Rows], list[str]]:
    """Name -> rows, all with the same features; and the names of these.

    Args:
        tables: Name -> table.
        id_columns: Columns that identify a row, the patient first; None: those of `KEYS` that all tables have.
        starts: Beginnings of the features' names; None: see `feature_columns`.

    Raises:
        UsageError: no column of patients, rows that cannot be told apart, or no feature that all tables have.
    """
    of_table = {name: feature_columns(table, starts) for name, table in tables.items()}
    first, *others = of_table.values()
    common = set(first).intersection(*others)
    features = [feature for feature in first if feature in common]
    if not features:
        raise UsageError(f"the tables {', '.join(tables)} share no feature")
    keys = list(id_columns or [key for key in KEYS if all(key in table for table in tables.values())])
    if not keys or (id_columns is None and keys[0] != KEYS[0]):
        raise UsageError("the tables have no column `patient`; name the columns that identify a row, the patient first")
    rows = {}
    for name, table in tables.items():
        lacking = [key for key in keys if key not in table]
        if lacking:
            raise UsageError(f"{name} has no column {lacking[0]!r}")
        text = table[keys].astype("string").fillna("")
        own = list(map(tuple, text.to_numpy().tolist()))
        twice = next((key for key in own if own.count(key) > 1), None)
        if twice is not None:
            raise UsageError(
                f"{name} has several rows of {dict(zip(keys, twice))}; name the columns that tell them apart"
            )
        columns = {
            str(column): table[column].astype("string").fillna("").to_numpy(dtype=str)
            for column in table.columns
            if column not in common
        }
        rows[name] = Rows(own, feature_values(table, features), columns)
    return rows, features
