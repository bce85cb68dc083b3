"""Read from the report of an earlier run what it knew of its scans, so that a later run treats them alike."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from ..estimation.scan_estimate import ScanEstimate
from ..method.reached import Reached
from ..utils.version import __version__
from .report import REPORT_FILE


@dataclass(frozen=True)
class KnownScan:
    """Hold what an earlier run says of a scan.

    Attributes:
        source: As it was estimated.
        derivation: What its results were made with, hashed.
        reached: What they showed; None where that was not measured.
    """

    source: ScanEstimate
    derivation: str
    reached: Reached | None


def known_scans(path: Path, model_id: str) -> dict[str, KnownScan]:
    """Read what a report of an earlier run says of its scans, by their UIDs; nothing where it cannot be read.

    Reports of other versions of the package and of other models do not count, whose estimates differ.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        if (report["diffusionct_version"], report["model_id"]) != (__version__, model_id):
            return {}
        known = {}
        for entry in report["series"]:
            if entry.get("source"):
                reached = entry["reached"] and Reached.from_json(entry["reached"])
                known[entry["uid"]] = KnownScan(ScanEstimate.from_json(entry["source"]), entry["derivation"], reached)
        return known
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def given_scans(path: str | os.PathLike | None, model_id: str) -> dict[str, KnownScan]:
    """Read the report that the user gave as `source`.

    Raises:
        ValueError: if it holds no scan.
    """
    if path is None:
        return {}
    known = known_scans(Path(path), model_id)
    if not known:
        raise ValueError(
            f'`source` must be a {REPORT_FILE} of this version and model that describes scans, got "{path}".'
        )
    return known
