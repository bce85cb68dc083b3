"""Provide what several commands share: exit codes, progress, and logs without patient data."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from ..utils import stages

if TYPE_CHECKING:
    from tqdm import tqdm

EXIT_OK, EXIT_FAILURE, EXIT_MISSED = 0, 1, 3  # 2 is for wrong usage
LOG_SECONDS = 60.0


class ProgressBar(logging.Handler):
    """Show on stderr how far a run has come: its stage (`utils.stages`), and how much is done once
    `progress(done, total)` is called.

    A terminal gets a bar. A log gets a line for each kind of stage, one at the start, one after the first step, one at the end
    and at most one a minute in between: a bar in a log would take 30 kB for 448 slices.

    Args:
        description: Text left of the bar.
        unit: What is counted.
    """

    def __init__(self, description: str, unit: str = "slice") -> None:
        super().__init__(logging.INFO)
        self.description, self.unit = description, unit
        self.bar: tqdm | None = None
        self.begun: float | None = None
        self.told = (0.0, -1)  # when a line was last written, and at which count
        self.stages: set[str] = set()

    def __enter__(self) -> ProgressBar:
        stages.logger.setLevel(logging.INFO)
        stages.logger.propagate = False
        stages.logger.addHandler(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        stages.logger.removeHandler(self)
        stages.logger.propagate = True
        stages.logger.setLevel(logging.NOTSET)
        if self.bar is not None:
            self.bar.close()

    def emit(self, record: logging.LogRecord) -> None:
        """Show a stage: beside the bar, or on a line of its own the first time."""
        text = record.getMessage()
        if self.bar is not None:
            self.bar.set_postfix_str(text)
        elif text not in self.stages:
            print(f"{self.description}: {text}", file=sys.stderr)
        self.stages.add(text)

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
        is_first = count < 0 or (count == 0 and done > 0)
        if is_first or (done == total and done != count) or now - when >= LOG_SECONDS:
            self.told, seconds = (now, done), now - self.begun
            left = f", about {seconds / done * (total - done):.0f} s left" if 0 < done < total else ""
            print(f"{self.description}: {done} of {total} {self.unit}s, {seconds:.0f} s{left}", file=sys.stderr)


@contextlib.contextmanager
def silence_header_warnings() -> Iterator[None]:
    """Suppress warnings of pydicom and highdicom while the block runs: they quote header values, which may be personal."""
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
def redact_paths_in_log(source: str, output: str, reference: str | None = None) -> Iterator[None]:
    """Replace the given folders in log lines by IN, OUT and REFERENCE, since they may be named after a patient."""
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
