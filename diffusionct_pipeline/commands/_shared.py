"""What several commands share."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tqdm import tqdm

EXIT_OK, EXIT_FAILURE = 0, 1
MODEL_HELP = 'checkpoint folder or "user/repo" on the Hub; default: the embedded one'


class ProgressBar:
    """A bar on the screen that appears with the first call of `bar(done, total)`.

    Args:
        description: Left of the bar.
        unit: What is counted.
    """

    def __init__(self, description: str, unit: str = "slice") -> None:
        self.description, self.unit = description, unit
        self.bar: tqdm | None = None

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.close()

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` of `total` are done."""
        from tqdm import tqdm

        if self.bar is None:
            self.bar = tqdm(total=total, desc=self.description, unit=self.unit)
        self.bar.update(done - self.bar.n)
