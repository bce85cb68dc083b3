"""Tables of features as CSV and Parquet files: a row for each region, columns of identity, then one for each feature."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..radiomics.ibsi.names import PREFIX
from ..utils.files import whole_file
from ..utils.optional import import_optional
from ..utils.usage import UsageError

if TYPE_CHECKING:
    from pandas import DataFrame

SUFFIXES = (".csv", ".parquet")
IDENTITY = (
    "patient", "study_uid", "series_uid", "kernel", "image", "mask", "region", "part", "mask_sha256", "voxels", "slices",
    "volume_mm3", "slice_mm", "pixel_mm", "settings", "version",
)  # fmt: skip
OTHERS_FEATURES = re.compile(r"^(original|log-sigma|wavelet|square|squareroot|logarithm|exponential|gradient|lbp)[-_]")
IBEX_FEATURE = re.compile(r"^[A-Z0-9]+/\w+(/\w+=[\w.]+)*$")
IBSI_FEATURE = re.compile(rf"^{PREFIX}/\w+/[A-Z0-9]{{4}}$")


def require_table_name(name: str, path: str | os.PathLike) -> Path:
    """A path that can be a table.

    Raises:
        UsageError: another suffix; naming both.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f'{name} "{path}" must end in {" or ".join(SUFFIXES)}')
    return path


def write_table(table: DataFrame, path: str | os.PathLike) -> Path:
    """Write a table, whole or not at all; undefined values are empty in CSV.

    Raises:
        UsageError: another suffix than .csv and .parquet.
        ImportError: pyarrow is missing, for Parquet.
        OSError: it cannot be written.
    """
    path = require_table_name("table", path)
    with whole_file(path) as part:
        if path.suffix.lower() == ".csv":
            table.to_csv(part, index=False, lineterminator="\n")
        else:
            import_optional("pyarrow")
            table.to_parquet(part, index=False)
    return path


def read_table(path: str | os.PathLike) -> DataFrame:
    """Read a table of features, this package's or another extractor's.

    Raises:
        UsageError: another suffix than .csv and .parquet, or a damaged file.
        OSError: it cannot be read.
    """
    pandas = import_optional("pandas")
    path = require_table_name("table", path)
    try:
        if path.suffix.lower() == ".csv":
            return pandas.read_csv(path, dtype=dict.fromkeys(TEXTS, str), keep_default_na=True)
        import_optional("pyarrow")
        return pandas.read_parquet(path)
    except (ValueError, pandas.errors.ParserError) as error:
        raise UsageError(f'"{path}" is no table: {error}') from error


TEXTS = (
    "patient",
    "study_uid",
    "series_uid",
    "kernel",
    "image",
    "mask",
    "region",
    "part",
    "mask_sha256",
    "role",
    "batch",
)


def feature_columns(table: DataFrame, given: Sequence[str] | None = None) -> list[str]:
    """Columns that hold features.

    Args:
        table: As from `read_table`.
        given: Beginnings of their names; None: the 1,401 of this package, or else its IBSI features, or else pyradiomics'
            ("original_..."), or else every column of numbers that is not one of identity.

    Raises:
        UsageError: there is none, or one of `given` begins no column.
    """
    names = [str(name) for name in table.columns]
    if given:
        for start in given:
            if not any(name.startswith(start) for name in names):
                raise UsageError(f"no column begins with {start!r}; columns: {', '.join(names[:10])} ...")
        found = [name for name in names if name.startswith(tuple(given))]
    else:
        numeric = {str(name) for name in table.select_dtypes("number").columns} - set(IDENTITY)
        found = [name for name in names if IBEX_FEATURE.match(name)]
        found = found or [name for name in names if IBSI_FEATURE.match(name)]
        found = found or [name for name in names if OTHERS_FEATURES.match(name) and name in numeric]
        found = found or [name for name in names if name in numeric]
    if not found:
        raise UsageError(f"the table has no columns of features; columns: {', '.join(names[:10])}")
    return found


def feature_values(table: DataFrame, names: Sequence[str]) -> np.ndarray:
    """(rows, features) float64; NaN where undefined.

    Raises:
        UsageError: a column holds something else than numbers.
    """
    try:
        return table[list(names)].to_numpy(dtype=np.float64, na_value=np.nan)
    except (ValueError, TypeError) as error:
        raise UsageError(f"a column of features does not hold numbers: {error}") from error
