"""`diffusionct characterise`: what every CT series of a folder is, measured."""

from __future__ import annotations

import argparse
import sys

from ._shared import EXIT_FAILURE, EXIT_OK, MODEL_HELP, ProgressBar, patients_kept_out_of_the_log

TEXT = "measure resolution, noise and protocol of all CT series of a folder, and find pairs of one acquisition"
EXAMPLE = "diffusionct characterise scans --out characterisation"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add("input", metavar="IN", help="folder with any number of series, or a DICOM file; only read")
    add("--out", default="characterisation", metavar="DIR", help="new folder for report.md, series.csv, noise_power.csv, "
        "pairs.csv and figures (default: %(default)s)")  # fmt: skip
    add("--model", metavar="M", help=MODEL_HELP + "; to its training and standard the series are compared")
    add("--slices", type=int, default=8, metavar="N", help="slices of each series to measure, at most "
        "(default: %(default)s)")  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Measure, and print a line for each series; a series or file that cannot be measured is a failure."""
    from ..characterise.folder import characterise_folder

    with patients_kept_out_of_the_log(options.input, options.out), ProgressBar("characterise", unit="scan") as progress:
        found = characterise_folder(
            options.input, options.out, model=options.model, slices=options.slices, progress=progress
        )
    for number, (name, item, group) in enumerate(zip(found.names, found.measured, found.groups), 1):
        resolution = f"MTF50 {item.resolution.mtf50:.2f} lp/cm" if item.resolution else "no bare skin"
        noise = f"noise {item.noise['soft tissue'].noise_hu:.1f} HU" if "soft tissue" in item.noise else "no soft tissue"
        kernel = item.protocol.kernel or "unknown kernel"
        print(f"{number}: {name}: {kernel}, {resolution}, {noise}, group {group}")
        for remark in item.remarks:
            print(f"note: series {number}: {remark}", file=sys.stderr)
    for pair in found.same_scans:
        print(f"series {pair.first + 1} and {pair.second + 1} are of one acquisition, {pair.slices} slices")
    for failure in found.failures:
        print(f"failed: {failure}", file=sys.stderr)
    print(f"{len(found.measured)} series measured: {options.out}/report.md")
    return EXIT_FAILURE if found.failures else EXIT_OK
