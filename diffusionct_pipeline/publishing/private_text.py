"""Detection of text that must not be published: local paths and tokens in the files of a checkpoint."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import safe_open

PRIVATE = {
    "a token": re.compile(r"\bhf_[A-Za-z0-9]{20,}|\bgh[pousr]_[A-Za-z0-9]{20,}|\bsk-[A-Za-z0-9_-]{20,}"),
    "an absolute path": re.compile(
        r"(?<![\w.:/<)\]])/(?=\w)(?:[\w.+@-]+/)+[\w.+@-]*"  # /home/name/..., but not part of a URL
        r"|\b[A-Za-z]:\\\w[\w\\.-]*|(?<!\S)\\\\\w+\\\w+|(?<!\w)~/\w[\w./-]*|\bfile://\S*"
    ),
}


def require_no_private_text(folder: str | Path) -> None:
    """Refuse a folder whose texts or weights' metadata hold an absolute path or a token.

    Raises:
        ValueError: naming the file and the place in it; the token itself is not repeated.
    """
    for path in sorted(Path(folder).rglob("*")):
        for place, text in texts_of(path) if path.is_file() else ():
            for what, pattern in PRIVATE.items():
                if found := pattern.search(text):
                    shown = "" if what == "a token" else f' "{found[0]}"'
                    where = f"{path.relative_to(folder)} of the checkpoint holds {what}{shown}, {place}"
                    raise ValueError(f"{where}; remove it before publishing.")


def texts_of(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (place, text) for every text in a file of a checkpoint."""
    if path.suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            yield from strings_of(file.metadata() or {}, "in its metadata")
    elif path.suffix == ".json":
        yield from strings_of(json.loads(path.read_text()), "in the document")
    else:
        yield from ((f"in line {number}", line) for number, line in enumerate(path.read_text().splitlines(), 1))


def strings_of(value: Any, place: str) -> Iterator[tuple[str, str]]:
    """Yield (place, text) for every key and string in nested JSON."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from strings_of(inner, f"{place}[{number}]")
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield place, key
            yield from strings_of(inner, f"{place}.{key}")
