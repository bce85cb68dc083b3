"""Read and write feature tables as CSV and Parquet: one row per region; identity columns, then one per feature."""

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
    """Return a path whose suffix is that of a table.

    Raises:
        UsageError: It has another suffix; naming both.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f'{name} must end in {" or ".join(SUFFIXES)}, got "{path}".')
    return path


def write_table(table: DataFrame, path: str | os.PathLike) -> Path:
    """Write a table, whole or not at all; undefined values are empty in CSV.

    Raises:
        UsageError: The suffix is neither .csv nor .parquet.
        ImportError: pyarrow is missing, for Parquet.
        OSError: The file cannot be written.
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
        UsageError: The suffix is neither .csv nor .parquet, or the file is damaged.
        OSError: The file cannot be read.
    """
    pandas = import_optional("pandas")
    path = require_table_name("table", path)
    try:
        if path.suffix.lower() == ".csv":
            return pandas.read_csv(path, dtype=dict.fromkeys(TEXTS, str), keep_default_na=True)
        import_optional("pyarrow")
        return pandas.read_parquet(path)
    except (ValueError, pandas.errors.ParserError) as error:
        raise UsageError(f'"{path}" cannot be read as a table: {error}') from error


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
    """Return the columns that hold features.

    Args:
        table: As from `read_table`.
        given: Prefixes of their names; None: the 1,401 of this package, else its IBSI features, else pyradiomics'
            ("original_..."), else every numeric column that is not an identity column.

    Raises:
        UsageError: There is none, or a prefix matches no column.
    """
    names = [str(name) for name in table.columns]
    if given:
        for start in given:
            if not any(name.startswith(start) for name in names):
                raise UsageError(f"no column begins with {start!r}; the table has {', '.join(names[:10])} ...")
        found = [name for name in names if name.startswith(tuple(given))]
    else:
        numeric = {str(name) for name in table.select_dtypes("number").columns} - set(IDENTITY)
        found = [name for name in names if IBEX_FEATURE.match(name)]
        found = found or [name for name in names if IBSI_FEATURE.match(name)]
        found = found or [name for name in names if OTHERS_FEATURES.match(name) and name in numeric]
        found = found or [name for name in names if name in numeric]
    if not found:
        raise UsageError(f"the table has no feature columns, only {', '.join(names[:10])}.")
    return found


def feature_values(table: DataFrame, names: Sequence[str]) -> np.ndarray:
    """Return (rows, features) float64, NaN where undefined.

    Raises:
        UsageError: A column holds something other than numbers.
    """
    try:
        return table[list(names)].to_numpy(dtype=np.float64, na_value=np.nan)
    except (ValueError, TypeError) as error:
        raise UsageError(f"feature columns must hold numbers: {error}") from error
