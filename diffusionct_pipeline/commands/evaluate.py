"""Run `diffusionct evaluate`: measure agreement of radiomic features between series of one scan, or over a cohort."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from ..utils.arguments import count
from ..utils.usage import UsageError, require_new_folder, require_paths
from ._shared import EXIT_OK, ProgressBar

TEXT = "compare series with a standard series of the same scan, or one cohort with another, by radiomic features of tumours"
EXAMPLE = (
    "diffusionct evaluate --standard phantom/Bl64 --baseline phantom/Br40 --candidate standardized "
    "--mask phantom/tumours.npz"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add("--standard", metavar="[NAME=]DIR", help="folder with the series that the others should look like, and its name in "
        "tables and figures (default: that of the folder)")  # fmt: skip
    add("--candidate", nargs="+", metavar="DIR", help="folders with the series to judge")
    add("--mask", metavar="FILE", help="tumours on the grid of the standard: NIfTI, NRRD, DICOM SEG or "
        "RTSTRUCT, or .npz with the array `mask` (slices, rows, columns), slices by ascending position along the normal, "
        "of axial slices from the feet to the head, or with the array `z_mm` of their heights in any order")  # fmt: skip
    add("--baseline", metavar="DIR", help="folder with the unconverted series, which gains refer to")
    add("--label", nargs="+", metavar="L", help="labels of the mask to measure, by number or name; default: all")
    add("--samples", nargs="+", metavar="DIR", help="folders OUT/samples of `diffusionct standardize --samples K`, with K "
        "at least 20: also report how often the features' 90 %% intervals over the samples of a candidate contain the "
        "standard's value")  # fmt: skip
    add("--combat", action="store_true", help="also compare after ComBat, a correction of features without images")
    add("--no-images", action="store_true", help="leave out errors and noise power of the images, and their picture")
    add("--figures", nargs="+", default=["png"], choices=("png", "pdf", "svg"), metavar="F", help="formats of figures: png, "
        "pdf, svg (default: png; cohort figures come in all three)")  # fmt: skip
    cohort = parser.add_argument_group("whole cohorts, instead of --standard, --candidate and --mask")
    add_cohort = cohort.add_argument
    add_cohort("--cohort", nargs="+", metavar="NAME=PATH", help="feature tables (.csv, .parquet; from `diffusionct "
        "features`, pyradiomics or others), or folders of images, matched by patient and region; the first is the standard")  # fmt: skip
    add_cohort("--scans", metavar="FILE", help="CSV with the columns patient, role, path and mask; its first role, or the "
        "one named standard, is the standard")  # fmt: skip
    add_cohort("--masks", metavar="DIR", help="masks for the folders in --cohort")
    add_cohort("--settings", metavar="FILE", help="how to measure them, see `diffusionct features`")
    add_cohort("--id", nargs="+", metavar="COLUMN", help="columns that identify a row, the patient first (default: "
        "patient region part)")  # fmt: skip
    add_cohort("--columns", nargs="+", metavar="START", help="prefixes of the names of feature columns")
    add_cohort("--batch", default="kernel", metavar="COLUMN", help="column to predict from the features (default: "
        "%(default)s)")  # fmt: skip
    add_cohort("--plot", nargs="+", default=(), metavar="FEATURE", help="features for Bland-Altman figures")
    add_cohort(
        "--workers", type=count, default=os.cpu_count() or 1, metavar="N", help="processes (default: %(default)s)"
    )
    add("--out", default="evaluation_output", metavar="DIR", help="new folder for report.md, features.csv, "
        "agreement.csv, intervals.csv with --samples, and figures (default: %(default)s)")  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Compare, and print remarks and the path of the report."""
    if options.cohort or options.scans:
        return run_cohort(options)
    for name in ("standard", "candidate", "mask"):
        if not getattr(options, name):
            raise UsageError(f"--{name} is missing; give --standard, --candidate and --mask, or --cohort, or --scans.")
    given = [options.standard, *([options.baseline] if options.baseline else []), *options.candidate]
    names = [_series(text)[0] for text in given]
    if any(names) and not all(names):
        raise UsageError("either all series or none must be named, as in sharp=DIR.")
    options.standard, *options.candidate = (_series(text)[1] for text in (options.standard, *options.candidate))
    options.baseline = options.baseline and _series(options.baseline)[1]
    require_paths(
        standard=options.standard, candidate=options.candidate, mask=options.mask, baseline=options.baseline,
        samples=options.samples,
    )  # fmt: skip
    require_new_folder("out", options.out)
    from ..evaluation import evaluate_series

    with ProgressBar("evaluate", unit="region") as progress:
        evaluation = evaluate_series(
            options.standard, options.candidate, options.mask, options.out, baseline=options.baseline,
            labels=options.label, names=names if all(names) else None,
            samples=options.samples or (), use_combat=options.combat, progress=progress,
            use_images=not options.no_images, formats=[f".{name}" for name in options.figures],
        )  # fmt: skip
    for remark in evaluation.remarks:
        print(f"note: {remark}", file=sys.stderr)
    print(f"{len(evaluation.regions)} regions in {len(evaluation.features)} series compared: {options.out}/report.md")
    if evaluation.measured_before:
        print(f"{evaluation.measured_before} measurements were taken over from an earlier run that was interrupted")
    return EXIT_OK


def run_cohort(options: argparse.Namespace) -> int:
    """Compare the tables of a cohort, and print remarks and the path of the report."""
    sources = None if options.scans else dict(map(_named, options.cohort))
    if options.cohort and (sources is None or len(sources) < len(options.cohort)):
        raise UsageError("give --cohort, with each name once, or --scans, but not both.")
    paths = list((sources or {}).values())
    require_paths(cohort=paths, scans=options.scans, masks=options.masks, settings=options.settings)
    require_new_folder("out", options.out)
    from ..cohort import CohortSettings, evaluate_cohort

    evaluation = evaluate_cohort(
        Path(options.out), sources, scans=options.scans and Path(options.scans),
        masks=options.masks and Path(options.masks),
        settings=None if options.settings is None else CohortSettings.read(options.settings), id_columns=options.id,
        starts=options.columns, batch=options.batch, use_combat=options.combat, plotted=options.plot,
        workers=options.workers,
    )  # fmt: skip
    for remark in evaluation.remarks:
        print(f"note: {remark}", file=sys.stderr)
    print(f"{len(evaluation.features):,} features in {len(evaluation.rows)} tables compared: {options.out}/report.md")
    return EXIT_OK


def _series(text: str) -> tuple[str, str]:
    """Split "sharp=scans/Bl64" into name and path; the name is "" for "scans/Bl64", or if the folder "a=b" exists."""
    name, equals, path = text.partition("=")
    return (name, path) if name and equals and path and not os.path.exists(text) else ("", text)


def _named(text: str) -> tuple[str, Path]:
    """Split "sharp=features.csv" into name and path."""
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise UsageError(f"--cohort must be NAME=PATH, got {text!r}.")
    return name, Path(path)
