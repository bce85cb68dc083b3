"""Shorten paths for reports, tables and messages to what lies below a folder, as the folder's name may identify a patient."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def relative_path(path: Path, folder: Path) -> Path:
    """Return the path of a file relative to a folder."""
    return Path(os.path.relpath(path, folder))


def without_folders(value: Any, folders: Mapping[str, Path]) -> Any:
    """Replace folders by names in a text or in JSON values, wherever a quoted path is a folder or begins with one.

    Args:
        value: A text, or JSON values.
        folders: Name to show -> folder.
    """
    if isinstance(value, dict):
        return {key: without_folders(inner, folders) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_folders(inner, folders) for inner in value]
    if isinstance(value, str):
        for name, folder in sorted(folders.items(), key=lambda pair: -len(str(pair[1]))):  # one may lie in the other
            value = re.sub(rf"""(?<=["']){re.escape(str(folder))}(?=["'{re.escape(os.sep)}])""", name, value)
    return value
