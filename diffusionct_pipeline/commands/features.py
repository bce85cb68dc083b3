"""`diffusionct features`: the radiomic features of every region of every image, as a table."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from ..utils.arguments import count
from ..utils.usage import UsageError, require_paths
from ._shared import EXIT_FAILURE, EXIT_OK, ProgressBar

TEXT = "measure the 1,401 radiomic features of every region of every image, a row of a table each"
EXAMPLE = "diffusionct features scans masks --out features.parquet"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add("images", metavar="IMAGES", help="folder with DICOM series, NIfTI and NRRD files in any number, or one file")
    add("masks", metavar="MASKS", nargs="?", help="folder with masks (NIfTI, NRRD, .npz, MetaImage, DICOM SEG, RTSTRUCT), which may "
        "be IMAGES, or one file. A mask belongs to the series that it refers to, else to the images that it is named "
        "after (lung1_image.nrrd and lung1_label.nrrd) or in whose folder it lies")  # fmt: skip
    add("--out", required=True, metavar="FILE", help="table to write, .csv or .parquet")
    add("--settings", metavar="FILE", help="JSON with what differs from the default: levels, window_hu, histogram_bins, "
        "histogram_of, resample_mm, dimensions and so on")  # fmt: skip
    add("--density", action="store_true", help="density instead of the 1,401: LAA-950, LAA-910 (%%), 15th percentile and mean "
        "(HU), volume and volume above -400 HU (ml); without MASKS of the lungs, found by a threshold")  # fmt: skip
    add("--label", nargs="+", metavar="L", help="regions to measure, by number or name; default: all")
    add("--workers", type=count, default=os.cpu_count() or 1, metavar="N",
        help="processes (default: one per core, here %(default)s)")  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Measure, write the table, and say what was left out."""
    require_paths(images=options.images, masks=options.masks, settings=options.settings)
    if options.masks is None and not options.density:
        raise UsageError("give MASKS, which may be IMAGES, or --density for the lungs")
    from ..cohort import CohortSettings, extract_cohort, measure_density, write_table
    from ..cohort.tables import IDENTITY, require_table_name

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
    features = len(found.table.columns) - len(IDENTITY)
    print(f"{len(found.table)} regions in {images} images, {features:,} features each: {options.out}")
    if found.measured_before:
        print(f"{found.measured_before} regions were measured by an earlier run that was interrupted")
    return EXIT_FAILURE if found.failures else EXIT_OK
