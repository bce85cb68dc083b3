"""The subcommands of `diffusionct`, a file each: its arguments beside its work, found by being here.

A file `commands/fly.py` is the command `diffusionct fly`; it has what `Command` lists. Names with a leading underscore
are no commands. Importing one must stay cheap, because `diffusionct --help` imports them all: what needs torch, numpy,
pydicom or matplotlib is imported inside `run`.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
from typing import Protocol

# In the help; others follow by name.
FIRST = (
    "demo", "standardize", "app", "simulate", "features", "evaluate", "characterise", "adapt", "study", "publish", "mercure",
    "info", "plan", "merge", "serve",
)  # fmt: skip


class Command(Protocol):
    """What a file of this folder holds.

    Attributes:
        TEXT: One line for the help, without capital and full stop.
        EXAMPLE: A whole command line.
    """

    TEXT: str
    EXAMPLE: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""

    def run(self, options: argparse.Namespace) -> int:
        """Do the work; the exit code is `_shared.EXIT_OK` or `_shared.EXIT_FAILURE`.

        Raises:
            ValueError, OSError, ImportError: shown as one line, exit code `EXIT_FAILURE`; for a UsageError 2. What can be
                wrong with the arguments is looked at before anything heavy is imported.
        """


def available() -> dict[str, Command]:
    """Every command by its name, in the order of the help."""
    names = {module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")}
    order = [*(name for name in FIRST if name in names), *sorted(names.difference(FIRST))]
    return {name.replace("_", "-"): importlib.import_module(f"{__name__}.{name}") for name in order}
