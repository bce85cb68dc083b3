"""Run `diffusionct features`: measure the radiomic features of every region of every image, as a table."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from ..utils.arguments import count
from ..utils.usage import UsageError, require_paths
from ._shared import EXIT_FAILURE, EXIT_OK, ProgressBar

TEXT = "measure the 1,401 radiomic features of every region of every image, one table row each"
EXAMPLE = "diffusionct features scans masks --out features.parquet"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add("images", metavar="IMAGES", help="folder with any number of DICOM series, NIfTI and NRRD files, or one file")
    add("masks", metavar="MASKS", nargs="?", help="folder with masks (NIfTI, NRRD, .npz, MetaImage, DICOM SEG, RTSTRUCT), which may "
        "be IMAGES, or one file. A mask belongs to the series that it refers to, else to the images that it is named "
        "after (lung1_image.nrrd and lung1_label.nrrd), else to those in its folder")  # fmt: skip
    add("--out", required=True, metavar="FILE", help="table to write, .csv or .parquet")
    add("--settings", metavar="FILE", help="JSON with what differs from the defaults: levels, window_hu, histogram_bins, "
        "histogram_of, resample_mm, dimensions and so on; \"ibsi\" adds IBSI's features")  # fmt: skip
    add("--density", action="store_true", help="measure density instead of the 1,401: LAA-950, LAA-910 (%%), 15th percentile and "
        "mean (HU), volume and volume above -400 HU (ml); without MASKS, of the lungs, found by a threshold")  # fmt: skip
    add("--label", nargs="+", metavar="L", help="regions to measure, by number or name; default: all")
    add("--workers", type=count, default=os.cpu_count() or 1, metavar="N",
        help="processes (default: one per core, here %(default)s)")  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Measure, write the table, and print what was left out."""
    require_paths(images=options.images, masks=options.masks, settings=options.settings)
    if options.masks is None and not options.density:
        raise UsageError("give MASKS, which may be the same folder as IMAGES, or --density for the lungs.")
    from ..cohort import CohortSettings, extract_cohort, measure_density, write_table
    from ..cohort.tables import IBSI_FEATURE, IDENTITY, require_table_name

    out, masks = require_table_name("out", options.out), options.masks and Path(options.masks)
    settings = CohortSettings() if options.settings is None else CohortSettings.read(options.settings)
    with ProgressBar("features", unit="image") as progress:
        if options.density:
            found = measure_density(
                Path(options.images), masks, settings=settings, labels=options.label, progress=progress
            )  # fmt: skip
            write_table(found.table, out)
        else:
            found = extract_cohort(
                Path(options.images), masks, out, settings=settings, labels=options.label, workers=options.workers,
                progress=progress,
            )  # fmt: skip
    for remark in found.remarks:
        print(f"note: {remark}", file=sys.stderr)
    for failure in found.failures:
        print(f"not measured: {failure}", file=sys.stderr)
    images = found.table["image"].nunique()
    of_ibsi = sum(bool(IBSI_FEATURE.match(name)) for name in found.table.columns)
    features = len(found.table.columns) - len(IDENTITY) - of_ibsi
    beside = f" and {of_ibsi} of IBSI" if of_ibsi else ""
    print(f"{len(found.table)} regions in {images} images, {features:,} features each{beside}: {options.out}")
    if found.measured_before:
        print(f"{found.measured_before} regions had been measured by an earlier run that was interrupted")
    return EXIT_FAILURE if found.failures else EXIT_OK
