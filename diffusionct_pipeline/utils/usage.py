"""Report wrong arguments: paths and values with which no run can start. Nothing heavy is imported here."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

CHECKPOINT_INDEX = "model_index.json"  # diffusers' name for it


class UsageError(ValueError):
    """Report a wrong argument: a ValueError in Python, exit code 2 on the command line."""


@contextmanager
def about_arguments() -> Iterator[None]:
    """Turn a plain ValueError into a UsageError; a subclass, such as DicomError, is about a file and is left as it is.

    Raises:
        UsageError: in place of the ValueError, with the same message.
    """
    try:
        yield
    except ValueError as error:
        if type(error) is not ValueError:
            raise
        raise UsageError(str(error)) from error


def require_paths(**paths: str | os.PathLike | Sequence[str | os.PathLike] | None) -> None:
    """Refuse paths that do not exist.

    Args:
        **paths: Name in messages -> a path, several paths, or None.

    Raises:
        UsageError: naming the first path that does not exist.
    """
    for name, given in paths.items():
        for path in [given] if isinstance(given, (str, os.PathLike)) else given or ():
            if not os.path.exists(path):
                raise UsageError(f'{name} "{path}" does not exist.')


def require_new_folder(name: str, path: str | os.PathLike) -> None:
    """Refuse an existing path for a new folder unless it is an empty folder.

    Raises:
        UsageError: naming the path.
    """
    path = Path(path)
    if os.path.lexists(path) and not (path.is_dir() and not any(path.iterdir())):
        raise UsageError(f'{name} "{path}" exists already; choose a new folder or remove it.')


def require_folder(name: str, path: str | os.PathLike) -> None:
    """Refuse an output folder that exists as a file.

    Raises:
        UsageError: naming the path.
    """
    if os.path.lexists(path) and not os.path.isdir(path):
        raise UsageError(f'{name} "{path}" is a file; the output must be a folder.')


def require_outside(output: str | os.PathLike, source: str | os.PathLike) -> None:
    """Refuse an output folder that lies inside the input.

    Raises:
        UsageError: naming both.
    """
    if Path(source).is_dir() and Path(output).resolve().is_relative_to(Path(source).resolve()):
        raise UsageError(f'the output folder "{output}" lies inside the input "{source}"; choose one outside of it.')


def require_model(model: str | os.PathLike | None) -> None:
    """Refuse a model that is neither the folder of a checkpoint nor has the form of a name on the Hub.

    Raises:
        UsageError: naming the model and what is allowed.
    """
    if model is None or os.path.isfile(os.path.join(model, CHECKPOINT_INDEX)):
        return
    parts = str(model).split("/")
    if os.path.lexists(model) or len(parts) != 2 or not all(parts):
        raise UsageError(f'model "{model}" must be a folder with {CHECKPOINT_INDEX}, or a name "user/repo" on the Hub.')
