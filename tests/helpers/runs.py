"""Scans to standardize as a folder, and what a folder holds."""

import hashlib
from pathlib import Path

from helpers.dicom import make_slice, ramp, save

HU = ramp(48, 64)
REPORT = "run_report.json"


def write_scans(folder, slices=((1, 1), (1, 2), (2, 1)), hu=HU, **header):
    """`folder/SERIES/NUMBER.dcm` for each (series, number); the folder."""
    for series, number in slices:
        parent = Path(folder, str(series))
        parent.mkdir(parents=True, exist_ok=True)
        save(make_slice(hu + 10 * number, series=series, number=number, **header), parent / f"{number}.dcm")
    return Path(folder)


def tree(folder, report=False):
    """Relative path -> hash of every file, hidden ones too; the report, which holds times, only if asked for."""
    paths = [path for path in sorted(Path(folder).rglob("*")) if path.is_file() and (report or path.name != REPORT)]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
