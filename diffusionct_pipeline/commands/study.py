"""`diffusionct study`: the comparison of the paper, made again."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ..utils.usage import UsageError, about_arguments, require_folder, require_paths
from ._shared import EXIT_OK, ProgressBar

TEXT = "compare every system of the paper and write its tables and figures again"
EXAMPLE = "diffusionct study --out study --trained runs/systems --pair soft sharp"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add("--out", default="study_output", metavar="DIR", help="folder for report.md, tables and figures; a study that is "
        "there goes on (default: %(default)s)")  # fmt: skip
    add(
        "--systems",
        metavar="A;B",
        help="rows, by the names of `diffusionct info`, separated by semicolons; default: all",
    )
    add("--sets", metavar="A;B", help='test sets: "phantom 5 mm", "phantom 1 mm", "phantom 1 mm, smoothed", "re-kernelled", '
        '"pair"; default: all that there are data of')  # fmt: skip
    add("--tumours", type=int, default=24, metavar="N", help="of each simulated test set (default: %(default)s)")
    add("--slices", type=int, default=8, metavar="N", help="at most, of a tumour; features look up to 7 slices across "
        "(default: %(default)s)")  # fmt: skip
    add("--size", type=int, default=512, metavar="PIXELS", help="side of simulated slices; below 512 a field of view "
        "round the tumour (default: %(default)s)")  # fmt: skip
    add("--any-to-any", type=int, default=8, metavar="N", help="tumours of the figure of six kernels; 0 leaves it out "
        "(default: %(default)s)")  # fmt: skip
    add("--pair", nargs=2, metavar=("SOFT", "SHARP"), help="a real pair: two series of one scan, equal file names")
    add("--rekernel", metavar="DIR", help="a real sharp series, which the simulator scans again")
    add("--trained", metavar="DIR", help="rivals, as training/train_systems.sh writes them; default: OUT/systems")
    add("--regression", metavar="DIR", help="checkpoint of the same network trained as a regression")
    add("--budget", type=float, default=0, metavar="SECONDS", help="train the rivals that are missing, so long each; "
        "default: leave them out")  # fmt: skip
    add("--objects", nargs="+", default=[], metavar="DIR", help="sharp CT to train them on, beside phantoms")
    add("--network-size", default="published", choices=("published", "small", "tiny"), help="of their networks: small has "
        "half the published widths, for a CPU (default: %(default)s)")  # fmt: skip
    add("--batch-size", type=int, default=0, metavar="N", help="pairs a step of their training; 0: as published "
        "(default: %(default)s)")  # fmt: skip
    add("--seed", type=int, default=0, metavar="N", help="of their training (default: %(default)s)")
    add("--max-seconds", type=float, default=float("inf"), metavar="SECONDS", help="measure so long: rows that are not "
        "finished are named in the report, and the next call goes on; default: to the end")  # fmt: skip
    add("--quick", action="store_true", help="everything at tiny sizes: that it runs, not what comes out")


def run(options: argparse.Namespace) -> int:
    """Run the study, and print where its report is."""
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


def _names(option: str, given: str | None, legal: Sequence[str]) -> list[str]:
    """Those of a list with semicolons, since some names hold a comma."""
    names = [name.strip() for name in given.split(";")] if given else []
    unknown = sorted(set(names) - set(legal))
    if unknown:
        raise UsageError(f"--{option} holds {', '.join(unknown)}; legal are {'; '.join(legal)}")
    return names


class Progress:
    """A bar for each part of a study."""

    def __init__(self) -> None:
        self.what, self.bar = "", ProgressBar("")

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.__exit__(*error)

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show that `done` of `total` are done of a part."""
        if what != self.what:
            self.bar.__exit__(None, None, None)
            self.what, self.bar = what, ProgressBar(what, unit="case")
        self.bar(done, total)
