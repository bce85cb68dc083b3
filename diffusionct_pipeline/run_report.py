"""What a run over a folder says about itself: `run_report.json`."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import torch

from . import __version__
from .dicom import CTSeries, Skipped, SkippedKind
from .provenance import Derivation

REPORT_FILE = "run_report.json"
# A file of these kinds is no slice that anybody wanted standardized. One of another kind (truncated, no pixel spacing,
# mixed geometry, ...) is a failure.
JUNK_KINDS = (
    SkippedKind.HIDDEN,
    SkippedKind.NOT_REGULAR,
    SkippedKind.DICOMDIR,
    SkippedKind.NOT_CT,
    SkippedKind.LOCALIZER,
    SkippedKind.SECOND_COPY,
)
JUNK_KINDS_BY_NAME = (SkippedKind.NOT_DICOM, SkippedKind.EMPTY)  # unless the file is named like DICOM
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")  # such a file was meant to be DICOM; others may well not be


@dataclass(kw_only=True)
class SeriesEntry:
    """What became of one series.

    Attributes:
        uid, description, spacing_mm, thickness_mm, gaps, duplicates: As in `CTSeries`.
        slices: How many it has.
        written: How many were standardized and written.
        kernel_in, kernel_out: Kernel of the first slice that was written, as its source and it name it.
        clipped_pixels: Pixels beyond the HU that the source's bit depth holds.
        seconds_per_slice: Reading and writing included; None before the first one is written.
        failures: "path" and "reason" of each slice that was not written.
    """

    uid: str
    description: str
    slices: int
    written: int = 0
    spacing_mm: float
    thickness_mm: float | None
    kernel_in: str | None = None
    kernel_out: str | None = None
    clipped_pixels: int = 0
    seconds_per_slice: float | None = None
    gaps: list[str]
    duplicates: list[str]
    failures: list[dict[str, str]] = field(default_factory=list)

    @classmethod
    def of(cls, series: CTSeries) -> SeriesEntry:
        """The entry of a series of which nothing is written yet."""
        return cls(
            uid=series.uid,
            description=series.description,
            slices=len(series.paths),
            spacing_mm=series.spacing_mm,
            thickness_mm=series.thickness_mm,
            gaps=series.gaps,
            duplicates=series.duplicates,
        )


def make_report(
    *,
    source: Path,
    output: Path,
    derivation: Derivation,
    options: dict[str, Any],
    samples_folder: str | None,
    slices: int,
    entries: list[SeriesEntry],
    skipped: list[Skipped],
    stopped: str,
    started: float,
    begun: float,
) -> dict[str, Any]:
    """Everything about a run, as JSON values.

    Args:
        source, output: Input and output of the run; paths in the report are relative to `source`.
        derivation: Of `DiffusionCTPipeline.derivation`.
        options: The options that the run had; `num_samples` among them.
        samples_folder: Folder in `output` with the samples of each slice; None where there is one sample.
        slices: How many there were to standardize.
        entries: One for each series that was begun.
        skipped: What the folder holds beside them.
        stopped: Why the run ended early, "" if it did not.
        started, begun: `time.time()` before the model was loaded, and after it.
    """
    junk, unusable = [], []
    for item in skipped:
        line = {"path": str(relative_path(item.path, source)), "reason": item.reason}
        (junk if is_junk(item) else unusable).append(line)
    versions = {"python": platform.python_version(), "torch": torch.__version__, "diffusers": diffusers.__version__}
    return {
        "diffusionct_version": __version__,
        "versions": versions,
        "model_id": derivation.model_id,
        "target": derivation.target_name,
        "input": str(source),
        "output": str(output),
        "options": options,
        "samples_folder": samples_folder,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds_to_load": round(begun - started, 2),
        "seconds": round(time.time() - started, 2),
        "slices": slices,
        "written": sum(entry.written for entry in entries),
        "failures": sum(len(entry.failures) for entry in entries) + len(unusable),
        "stopped": stopped,
        "series": [asdict(entry) for entry in entries],
        "unusable": unusable,
        "skipped": junk,
    }


def is_junk(skipped: Skipped) -> bool:
    """Whether a file that the scan left out is none that should have been standardized."""
    if skipped.kind in JUNK_KINDS_BY_NAME:
        return skipped.path.suffix.lower() not in DICOM_SUFFIXES
    return skipped.kind in JUNK_KINDS


def relative_path(path: Path, source: Path) -> Path:
    """Path of a file below `source`; the name where `source` is the file."""
    return Path(path.name) if path == source else Path(os.path.relpath(path, source))
