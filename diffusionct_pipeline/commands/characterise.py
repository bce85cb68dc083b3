"""Run `diffusionct characterise`: measure every CT series of a folder, and predict what `standardize` will reach."""

from __future__ import annotations

import argparse
import sys

from ..utils.arguments import MODEL_HELP, count
from ..utils.usage import require_model, require_new_folder, require_outside, require_paths
from ._shared import EXIT_FAILURE, EXIT_OK, ProgressBar, redact_paths_in_log

TEXT = "measure kernel, noise and protocol of all CT series of a folder, and say what `standardize` will reach and which target suits"
EXAMPLE = "diffusionct characterise scans --out characterisation"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add("input", metavar="IN", help="folder with any number of series, or a DICOM file; only read")
    add("--out", default="characterisation", metavar="DIR", help="new folder for report.md, series.csv, noise_power.csv, "
        "pairs.csv and figures (default: %(default)s)")  # fmt: skip
    add(
        "--model",
        metavar="M",
        help=MODEL_HELP + "; series are compared with its training, and standardized to its standard as a trial",
    )
    add("--slices", type=count, default=8, metavar="N", help="maximum number of slices of each series for noise spectra "
        "(default: %(default)s)")  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Measure, and print a line for each series; a series or file that cannot be measured is a failure."""
    require_paths(IN=options.input)
    require_new_folder("out", options.out)
    require_outside(options.out, options.input)
    require_model(options.model)
    from ..characterise.advice import advice_lines
    from ..characterise.folder import characterise_folder

    with redact_paths_in_log(options.input, options.out), ProgressBar("characterise", unit="scan") as progress:
        found = characterise_folder(
            options.input, options.out, model=options.model, slices=options.slices, progress=progress
        )
    for number, (name, item, group) in enumerate(zip(found.names, found.measured, found.groups), 1):
        resolution = f"MTF50 {item.mtf50:.2f} lp/cm" if item.mtf50 else "MTF50 unknown"
        noise = f"noise {item.noise_hu['soft tissue']:.1f} HU" if "soft tissue" in item.noise_hu else "no soft tissue"
        kernel = item.protocol.kernel or "unknown kernel"
        becomes = (
            f"; to {found.standard_name}: {item.trial.reached.label}, {item.trial.reached.in_words()}"
            if item.trial
            else ""
        )
        print(f"{number}: {name}: {kernel}, {resolution}, {noise}, group {group}{becomes}")
        for remark in [*(item.trial.remarks if item.trial else []), *item.remarks]:
            print(f"note: series {number}: {remark}", file=sys.stderr)
    for pair in found.same_scans:
        print(f"series {pair.first + 1} and {pair.second + 1} are from one acquisition, {pair.slices} slices")
    for line in advice_lines(found.advice) if found.advice else []:
        print(line)
    for failure in found.failures:
        print(f"failed: {failure}", file=sys.stderr)
    print(f"{len(found.measured)} series measured: {options.out}/report.md")
    return EXIT_FAILURE if found.failures else EXIT_OK
