"""Run `diffusionct study`: repeat the comparison of the paper."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from types import TracebackType

from ..utils.usage import UsageError, about_arguments, require_folder, require_paths
from ._shared import EXIT_OK, ProgressBar

TEXT = "compare every system of the paper and reproduce its tables and figures"
EXAMPLE = "diffusionct study --out study --trained runs/systems --pair soft sharp"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add("--out", default="study_output", metavar="DIR", help="folder for report.md, tables and figures; an existing study "
        "is continued (default: %(default)s)")  # fmt: skip
    add(
        "--systems",
        metavar="A;B",
        help="rows, by the names of `diffusionct info`, separated by semicolons; default: all",
    )
    add("--sets", metavar="A;B", help='test sets: "phantom 5 mm", "phantom 1 mm", "phantom 1 mm, smoothed", "re-kernelled", '
        '"pair"; default: all that have data')  # fmt: skip
    add(
        "--tumours", type=int, default=24, metavar="N", help="tumours in each simulated test set (default: %(default)s)"
    )
    add("--slices", type=int, default=8, metavar="N", help="maximum number of slices per tumour; features reach up to 7 slices "
        "across (default: %(default)s)")  # fmt: skip
    add("--size", type=int, default=512, metavar="PIXELS", help="side of simulated slices; below 512, a field of view "
        "around the tumour (default: %(default)s)")  # fmt: skip
    add("--any-to-any", type=int, default=8, metavar="N", help="tumours in the figure of six kernels; 0 leaves it out "
        "(default: %(default)s)")  # fmt: skip
    add(
        "--pair",
        nargs=2,
        metavar=("SOFT", "SHARP"),
        help="a real pair: two series of one scan, with the same file names",
    )
    add("--rekernel", metavar="DIR", help="a real sharp series, which the simulator scans again")
    add("--trained", metavar="DIR", help="rivals, as training/train_systems.sh writes them; default: OUT/systems")
    add("--regression", metavar="DIR", help="checkpoint of the same network trained as a regression")
    add("--budget", type=float, default=0, metavar="SECONDS", help="train each missing rival for this long; "
        "default: leave them out")  # fmt: skip
    add("--objects", nargs="+", default=[], metavar="DIR", help="sharp CT to train rivals on, in addition to phantoms")
    add("--network-size", default="published", choices=("published", "small", "tiny"), help="size of the rivals' networks: "
        "small has half the published widths, for a CPU (default: %(default)s)")  # fmt: skip
    add("--batch-size", type=int, default=0, metavar="N", help="pairs per training step of the rivals; 0: as published "
        "(default: %(default)s)")  # fmt: skip
    add("--seed", type=int, default=0, metavar="N", help="seed of the rivals' training (default: %(default)s)")
    add("--max-seconds", type=float, default=float("inf"), metavar="SECONDS", help="stop measuring after this time: unfinished "
        "rows are named in the report, and the next call continues; default: run to the end")  # fmt: skip
    add(
        "--quick",
        action="store_true",
        help="run everything at tiny sizes, to see that it works; the results mean nothing",
    )


def run(options: argparse.Namespace) -> int:
    """Run the study, and print the path of its report."""
    from pathlib import Path

    require_folder("out", options.out)
    require_paths(pair=options.pair, rekernel=options.rekernel, regression=options.regression, objects=options.objects)
    from ..comparison.study import StudyOptions, run_study
    from ..comparison.study.rows import ROWS
    from ..comparison.study.test_sets import SETS

    systems, sets = _names("systems", options.systems, ROWS), _names("sets", options.sets, SETS)
    path = lambda value: None if value is None else Path(value)  # noqa: E731
    with about_arguments():
        settings = StudyOptions(
            tumours=options.tumours, slices=options.slices, size=options.size, any_to_any=options.any_to_any, systems=systems,
            sets=sets, rekernel=path(options.rekernel),
            pair=options.pair and (Path(options.pair[0]), Path(options.pair[1])), trained=path(options.trained),
            regression=path(options.regression), budget_seconds=options.budget, objects=options.objects,
            network_size=options.network_size, training={"batch_size": options.batch_size}, seed=options.seed,
            max_seconds=options.max_seconds,
        )  # fmt: skip
    with Progress() as progress:
        run_study(options.out, settings.quick() if options.quick else settings, progress)
    print(f"{options.out}/report.md")
    return EXIT_OK


def _names(option: str, given: str | None, known: Sequence[str]) -> list[str]:
    """Split a list at semicolons, since some names contain a comma."""
    names = [name.strip() for name in given.split(";")] if given else []
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise UsageError(f"--{option} must be of {'; '.join(known)}, got {'; '.join(unknown)}.")
    return names


class Progress:
    """Show a bar for each part of a study."""

    def __init__(self) -> None:
        self.what, self.bar = "", ProgressBar("")

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.bar.__exit__(kind, error, traceback)

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show that `done` of `total` are done of a part."""
        if what != self.what:
            self.bar.__exit__(None, None, None)
            self.what, self.bar = what, ProgressBar(what, unit="case")
        self.bar(done, total)
