"""Wrong usage of the command line: a path or a value that no run could have begun with. Nothing heavy is imported here."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

CHECKPOINT_INDEX = "model_index.json"  # as diffusers calls it


class UsageError(ValueError):
    """An argument is wrong: a ValueError in Python, exit code 2 on the command line."""


@contextmanager
def about_arguments() -> Iterator[None]:
    """A ValueError raised inside is about an argument; one of a kind of its own, such as DicomError, is about a file.

    Raises:
        UsageError: in its place, with the same words.
    """
    try:
        yield
    except ValueError as error:
        if type(error) is not ValueError:
            raise
        raise UsageError(str(error)) from error


def require_paths(**paths: str | os.PathLike | Sequence[str | os.PathLike] | None) -> None:
    """Refuse a path that is not there.

    Args:
        **paths: What is shown in messages -> a path, several, or None.

    Raises:
        UsageError: naming the first.
    """
    for name, given in paths.items():
        for path in [given] if isinstance(given, (str, os.PathLike)) else given or ():
            if not os.path.exists(path):
                raise UsageError(f'{name} "{path}" does not exist.')


def require_new_folder(name: str, path: str | os.PathLike) -> None:
    """Refuse a place for a new folder where something is already.

    Raises:
        UsageError: naming it.
    """
    path = Path(path)
    if os.path.lexists(path) and not (path.is_dir() and not any(path.iterdir())):
        raise UsageError(f'{name} "{path}" exists already; choose a new folder or remove it.')


def require_folder(name: str, path: str | os.PathLike) -> None:
    """Refuse a place for an output folder where there is a file.

    Raises:
        UsageError: naming it.
    """
    if os.path.lexists(path) and not os.path.isdir(path):
        raise UsageError(f'{name} "{path}" is a file; the output must be a folder.')


def require_outside(output: str | os.PathLike, source: str | os.PathLike) -> None:
    """Refuse an output folder in the input.

    Raises:
        UsageError: naming both.
    """
    if Path(source).is_dir() and Path(output).resolve().is_relative_to(Path(source).resolve()):
        raise UsageError(f'the output folder "{output}" lies inside the input "{source}"; choose one outside of it.')


def require_model(model: str | os.PathLike | None) -> None:
    """Refuse what is neither the folder of a checkpoint nor the form of a name on the Hub.

    Raises:
        UsageError: naming it and what is legal.
    """
    if model is None or os.path.isfile(os.path.join(model, CHECKPOINT_INDEX)):
        return
    parts = str(model).split("/")
    if os.path.lexists(model) or len(parts) != 2 or not all(parts):
        raise UsageError(
            f'model "{model}" is no checkpoint; legal is a folder with {CHECKPOINT_INDEX}, or "user/repo" on the Hub.'
        )
