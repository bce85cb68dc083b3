"""`diffusionct evaluate`: agreement of radiomic features between series of one scan."""

from __future__ import annotations

import argparse
import sys

from ..usage import require_new_folder, require_paths
from ._shared import EXIT_OK, ProgressBar

TEXT = "compare series with a standard series of the same scan by the radiomic features of its tumours"
EXAMPLE = (
    "diffusionct evaluate --standard phantom/Bl64 --baseline phantom/Br40 --candidate standardized "
    "--mask phantom/tumours.npz"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add("--standard", required=True, metavar="DIR", help="folder with the series that the others should look like")
    add("--candidate", required=True, nargs="+", metavar="DIR", help="folders with the series to judge")
    add("--mask", required=True, metavar="FILE", help="tumours on the grid of the standard: NIfTI, NRRD, DICOM SEG or "
        "RTSTRUCT, or .npz with the array `mask` (slices, rows, columns), slices by ascending position along the normal, "
        "of axial slices from the feet to the head, or with the array `z_mm` of their heights in any order")  # fmt: skip
    add("--baseline", metavar="DIR", help="folder with the unconverted series, to which gains refer")
    add("--label", nargs="+", metavar="L", help="labels of the mask to measure, by number or name; default: all")
    add("--samples", nargs="+", metavar="DIR", help="folders OUT/samples of `diffusionct standardize --samples K`, K "
        "of at least 20: also report how often the features' 90 %% intervals over the samples of a candidate hold the "
        "standard's value")  # fmt: skip
    add("--combat", action="store_true", help="also compare after ComBat, a correction of features without images")
    add("--out", default="evaluation_output", metavar="DIR", help="new folder for report.md, features.csv, "
        "agreement.csv, intervals.csv with --samples, and figures (default: %(default)s)")  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Compare, and print remarks and the path of the report."""
    require_paths(
        standard=options.standard, candidate=options.candidate, mask=options.mask, baseline=options.baseline,
        samples=options.samples,
    )  # fmt: skip
    require_new_folder("out", options.out)
    from ..evaluation import evaluate_series

    with ProgressBar("evaluate", unit="region") as progress:
        evaluation = evaluate_series(
            options.standard, options.candidate, options.mask, options.out, baseline=options.baseline,
            labels=options.label, samples=options.samples or (), use_combat=options.combat, progress=progress,
        )  # fmt: skip
    for remark in evaluation.remarks:
        print(f"note: {remark}", file=sys.stderr)
    print(f"{len(evaluation.regions)} regions in {len(evaluation.features)} series compared: {options.out}/report.md")
    if evaluation.measured_before:
        print(f"{evaluation.measured_before} measurements were those of an earlier run that was interrupted")
    return EXIT_OK
