"""Every system of the comparison by name; `System` in protocol.py says what each can do.

To add one: a file here that says what is different about it, a line below, and a test.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from .diffusionct import DiffusionCT
from .linear_filter import LinearFilter
from .protocol import FittingPair, System
from .unchanged import Unchanged

SYSTEMS: dict[str, Callable[[], System]] = {
    "input": Unchanged,
    "linear filter, least squares": partial(LinearFilter, "least_squares"),
    "linear filter, power": partial(LinearFilter, "power"),
    "DiffusionCT": DiffusionCT,
    "DiffusionCT, reference": partial(DiffusionCT, by_reference=True),
}

__all__ = ["SYSTEMS", "DiffusionCT", "FittingPair", "LinearFilter", "System", "Unchanged"]
