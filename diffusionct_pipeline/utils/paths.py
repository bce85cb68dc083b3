"""Paths as reports, tables and messages give them: below a folder, which may be named after a patient."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def relative_path(path: Path, folder: Path) -> Path:
    """Path of a file below a folder."""
    return Path(os.path.relpath(path, folder))


def without_folders(value: Any, folders: Mapping[str, Path]) -> Any:
    """JSON values, or a text, with names for folders wherever a quoted path is one of them or begins with it."""
    if isinstance(value, dict):
        return {key: without_folders(inner, folders) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_folders(inner, folders) for inner in value]
    if isinstance(value, str):
        for name, folder in sorted(folders.items(), key=lambda pair: -len(str(pair[1]))):  # one may lie in the other
            value = re.sub(rf"""(?<=["']){re.escape(str(folder))}(?=["'{re.escape(os.sep)}])""", name, value)
    return value
