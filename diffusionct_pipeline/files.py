"""Files and folders that are whole or absent."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[Path]:
    """A temporary path in the folder of `path`, renamed to `path` when the block ends well, removed when it does not.

    Args:
        path: Its folder is made if needed; an existing file is replaced.

    Raises:
        OSError: if it cannot be written; nothing is left behind.
    """
    path = Path(path)
    part = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(path)
    finally:
        with contextlib.suppress(OSError):  # it was renamed, or its folder never came to be
            part.unlink()


def write_whole(path: str | os.PathLike, data: bytes | str) -> None:
    """Write bytes, or text as UTF-8, so that `path` is never half-written; arguments and errors as of `whole_file`."""
    with whole_file(path) as part:
        part.write_bytes(data.encode() if isinstance(data, str) else data)


@contextlib.contextmanager
def whole_folder(path: str | os.PathLike, replace: bool = False) -> Iterator[Path]:
    """A new temporary folder beside `path`, renamed to `path` when the block ends well, removed when it does not.

    Args:
        path: Its parents are made if needed. An empty folder is replaced.
        replace: Whether a folder that is not empty is replaced too.

    Raises:
        FileExistsError: if `path` is there and may not be replaced; before the block is run.
        OSError: if it cannot be written; nothing is left behind.
    """
    path = Path(path)
    if path.exists() and not replace and not (path.is_dir() and not any(path.iterdir())):
        raise FileExistsError(f'"{path}" exists already; choose a new folder or remove it.')
    part = _temporary(path)
    try:
        part.mkdir(parents=True)
        yield part
        if path.exists():
            shutil.rmtree(path)
        part.replace(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def require_writable(folder: str | os.PathLike) -> None:
    """Make a folder if needed and try a file in it, so that a long run does not find out at its end.

    Raises:
        OSError: naming the folder and the reason.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f'"{folder}" is a file; the output must be a folder.')
    try:
        write_whole(probe := _temporary(folder / "probe"), b"")
        probe.unlink()
    except OSError as error:
        raise type(error)(f'"{folder}" cannot be written to: {error.strerror or error}.') from error


def _temporary(path: Path) -> Path:
    """A name that nobody else uses, short because `path` may be as long as the file system allows, and hidden."""
    return path.with_name(f".{uuid.uuid4().hex}.part")
