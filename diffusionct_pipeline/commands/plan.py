"""Run `diffusionct plan`: list the series of a folder, for several jobs."""

from __future__ import annotations

import argparse
import sys

from ..utils.usage import require_paths
from ._shared import EXIT_FAILURE, EXIT_OK

TEXT = "list the series of a folder, one per line, for `standardize --series-list` in several jobs"
EXAMPLE = "diffusionct plan scans"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add("input", metavar="IN", help="DICOM file, volume or folder; only read")
    add("--again", action="store_true", help="also list what DiffusionCT has already standardized")


def run(options: argparse.Namespace) -> int:
    """Print the list; files that belong in it but cannot be read are named on stderr, and are a failure."""
    require_paths(IN=options.input)
    from pathlib import Path

    from ..standardize.report import split_skipped
    from ..standardize.series_list import list_series, write_list
    from ..volumes.inputs import scan_source

    sources = scan_source(Path(options.input), options.again)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")  # a path is bytes
    write_list(list_series(sources), sys.stdout)
    junk, unusable = split_skipped(sources.skipped, sources.folder)
    for remark in sources.remarks:
        print(f"warning: {remark}", file=sys.stderr)
    if junk:
        print(f"{len(junk)} other files skipped", file=sys.stderr)
    for item in unusable:
        print(f"failed: {item['reason']}", file=sys.stderr)
    return EXIT_FAILURE if unusable else EXIT_OK
