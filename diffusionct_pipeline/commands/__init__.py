"""Find the subcommands of `diffusionct`: one file each in this folder, with its arguments and its work.

A file `commands/fly.py` is the command `diffusionct fly`; it holds what `Command` lists. Files whose names begin with an
underscore are not commands. Importing a command must stay cheap, because `diffusionct --help` imports them all: what
needs torch, numpy, pydicom or matplotlib is imported inside `run`.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
from typing import Protocol

# Order in the help; others follow by name.
FIRST = (
    "demo", "standardize", "app", "simulate", "features", "evaluate", "characterise", "adapt", "study", "publish", "mercure",
    "info", "plan", "merge", "serve",
)  # fmt: skip


class Command(Protocol):
    """Define what a file of this folder holds.

    Attributes:
        TEXT: One line for the help, without a capital and a full stop.
        EXAMPLE: A complete command line.
    """

    TEXT: str
    EXAMPLE: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""

    def run(self, options: argparse.Namespace) -> int:
        """Do the work, and return the exit code, one of those in `_shared`.

        Raises:
            ValueError, OSError, ImportError: Shown as one line, exit code `EXIT_FAILURE`, or 2 for a UsageError. Arguments
                are checked before anything heavy is imported.
        """


def available() -> dict[str, Command]:
    """Return every command by its name, in the order of the help."""
    names = {module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")}
    order = [*(name for name in FIRST if name in names), *sorted(names.difference(FIRST))]
    return {name.replace("_", "-"): importlib.import_module(f"{__name__}.{name}") for name in order}
