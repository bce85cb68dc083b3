"""Types of arguments that several commands have: text -> value, else an error that says what is allowed."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

from .seeds import MAX_SEED

MODEL_HELP = 'checkpoint folder or "user/repo" on the Hub; default: the embedded one'


def count(text: str) -> int:
    """Parse "20".

    Raises:
        ArgumentTypeError: no integer of at least 1.
    """
    if not (text.isascii() and text.isdecimal()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be an integer of at least 1, got {text!r}")
    return int(text)


def number_of(unit: str) -> Callable[[str], float]:
    """Make the type of an argument that is a number of a unit above 0; anything else is an ArgumentTypeError."""

    def number(text: str) -> float:
        value = above_zero(text)
        if value is None:
            raise argparse.ArgumentTypeError(f"must be a number of {unit} above 0, got {text!r}")
        return value

    return number


def noise_level(text: str) -> str | float:
    """Parse "keep", "target" or a number of HU.

    Raises:
        ArgumentTypeError: for anything else.
    """
    if text in ("keep", "target"):
        return text
    level = above_zero(text)
    if level is None:
        raise argparse.ArgumentTypeError(f'must be "keep", "target" or a number of HU above 0, got {text!r}')
    return level


def seed(text: str) -> int:
    """Parse "7".

    Raises:
        ArgumentTypeError: no integer of 0 to 2^63 - 1.
    """
    if not (text.isascii() and text.isdecimal()) or int(text) > MAX_SEED:
        raise argparse.ArgumentTypeError(f"must be an integer of 0 to 2^63 - 1, got {text!r}")
    return int(text)


def above_zero(text: str) -> float | None:
    """Parse a finite number above 0; None for anything else."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 < value < math.inf else None
