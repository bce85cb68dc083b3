"""What several commands share."""

from __future__ import annotations

import argparse
import contextlib
import logging
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tqdm import tqdm

EXIT_OK, EXIT_FAILURE, EXIT_MISSED = 0, 1, 3  # 2 is wrong usage
LOG_SECONDS = 60.0
MODEL_HELP = 'checkpoint folder or "user/repo" on the Hub; default: the embedded one'


def count(text: str) -> int:
    """ "20" -> 20.

    Raises:
        ArgumentTypeError: no integer of at least 1.
    """
    if not (text.isascii() and text.isdecimal()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not legal; legal is an integer of at least 1")
    return int(text)


def number_of(unit: str) -> Callable[[str], float]:
    """Make the type of an argument that is a number of a unit above 0; anything else is an ArgumentTypeError."""

    def number(text: str) -> float:
        value = above_zero(text)
        if value is None:
            raise argparse.ArgumentTypeError(f"{text!r} is not legal; legal is a number of {unit} above 0")
        return value

    return number


def above_zero(text: str) -> float | None:
    """A finite number above 0, or None for anything else."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 < value < math.inf else None


class ProgressBar:
    """Tells on stderr how far a run has come, from the first call of `progress(done, total)` on.

    A terminal gets a bar. A log gets a line at the start, one at the end and at most one a minute between: a bar that
    nobody sees takes 30 kB for 448 slices.

    Args:
        description: Left of the bar.
        unit: What is counted.
    """

    def __init__(self, description: str, unit: str = "slice") -> None:
        self.description, self.unit = description, unit
        self.bar: tqdm | None = None
        self.begun: float | None = None
        self.told = (0.0, -1)  # when a line was last written, and at which count

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.close()

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` of `total` are done."""
        if not sys.stderr.isatty():
            self.tell(done, total)
            return
        from tqdm import tqdm

        if self.bar is None:
            self.bar = tqdm(total=total, desc=self.description, unit=self.unit)
        self.bar.update(done - self.bar.n)

    def tell(self, done: int, total: int) -> None:
        """Write a line if it is time for one."""
        now = time.monotonic()
        self.begun = now if self.begun is None else self.begun
        when, count = self.told
        if count < 0 or (done == total and done != count) or now - when >= LOG_SECONDS:
            self.told = now, done
            print(f"{self.description}: {done} of {total} {self.unit}s, {now - self.begun:.0f} s", file=sys.stderr)


@contextlib.contextmanager
def headers_kept_out_of_the_log() -> Iterator[None]:
    """Warnings of pydicom and highdicom are left out while the block runs: they quote the values that they complain of."""
    loggers = [logging.getLogger(name) for name in ("pydicom", "highdicom")]
    before = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True
    try:
        with warnings.catch_warnings():
            for logger in loggers:
                warnings.filterwarnings("ignore", module=logger.name)
            yield
    finally:
        for logger, disabled in zip(loggers, before):
            logger.disabled = disabled


@contextlib.contextmanager
def patients_kept_out_of_the_log(source: str, output: str, reference: str | None = None) -> Iterator[None]:
    """In log lines IN, OUT and REFERENCE stand for the folders that were given, which may be named after a patient."""
    from ..utils.paths import without_folders

    folders = {"OUT": Path(output)}
    for name, path in (("IN", source), ("REFERENCE", reference)):
        if path is not None:
            folders[name] = Path(path) if Path(path).is_dir() else Path(path).parent

    def shorten(record: logging.LogRecord) -> bool:
        record.msg, record.args = without_folders(record.getMessage(), folders), None
        return True

    handlers = list(logging.getLogger().handlers)
    for handler in handlers:
        handler.addFilter(shorten)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(shorten)
