"""Files that are whole or absent."""

import contextlib
import uuid
from pathlib import Path


def write_whole(path, data):
    """Write bytes under a temporary name in the same folder, then rename, so that `path` is never half-written.

    Args:
        path: Its folder is made if needed; an existing file is replaced.
        data: The bytes.

    Raises:
        OSError: if it cannot be written; nothing is left behind.
    """
    path = Path(path)
    part = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        part.replace(path)
    finally:
        with contextlib.suppress(OSError):  # it was renamed, or its folder never came to be
            part.unlink()


def require_writable(folder):
    """Make a folder if needed and try a file in it, so that a long run does not find out at its end.

    Raises:
        OSError: naming the folder and the reason.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f'"{folder}" is a file; the output must be a folder.')
    probe = folder / f".{uuid.uuid4().hex}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise type(error)(f'"{folder}" cannot be written to: {error.strerror or error}.') from error
