"""Every system of the comparison by name; `System` in protocol.py says what each can do.

To add one: a file here that says what is different about it, a line below, and a test.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from .diffusionct import DiffusionCT
from .linear_filter import LinearFilter
from .pix2pix import Pix2Pix
from .protocol import FittingPair, System
from .trained import TrainedSystem
from .unchanged import Unchanged
from .unet_l1 import UNetL1

# Work as they are, or after `fit` with a few pairs.
SYSTEMS: dict[str, Callable[[], System]] = {
    "input": Unchanged,
    "linear filter, least squares": partial(LinearFilter, "least_squares"),
    "linear filter, power": partial(LinearFilter, "power"),
    "DiffusionCT": DiffusionCT,
    "DiffusionCT, reference": partial(DiffusionCT, by_reference=True),
}
# Networks that training/train_system.py trains; without it their weights are random.
TRAINABLE: dict[str, type[TrainedSystem]] = {
    "U-Net, L1": UNetL1,
    "pix2pix": Pix2Pix,
}

__all__ = ["SYSTEMS", "TRAINABLE", "DiffusionCT", "FittingPair", "LinearFilter", "System", "Unchanged"]
