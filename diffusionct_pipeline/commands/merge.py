"""Run `diffusionct merge`: write one report of the series that several jobs have standardized."""

from __future__ import annotations

import argparse

from ..utils.usage import require_paths
from .standardize import tell

TEXT = "write one run_report.json of what several jobs have standardized (`standardize --series-list`)"
EXAMPLE = "diffusionct merge standardized --input scans"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add("output", metavar="OUT", help="folder that the jobs wrote to")
    add("--input", metavar="IN", help="their input, which is then searched again: series that no job has begun and files "
        "that belong to none are reported as in a run over all of it")  # fmt: skip
    add("--again", action="store_true", help="as in `standardize`")


def run(options: argparse.Namespace) -> int:
    """Write the report and print what `standardize` would have printed."""
    require_paths(OUT=options.output, IN=options.input)
    from ..standardize.listed import merge_reports

    return tell(merge_reports(options.output, options.input, options.again))
