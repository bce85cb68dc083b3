"""Describe a run over a folder in its `run_report.json`."""

from __future__ import annotations

import platform
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import torch

from ..dicom import CTSeries, Skipped, SkippedKind
from ..method.provenance import Derivation
from ..utils.paths import relative_path, without_folders
from ..utils.version import __version__

REPORT_FILE = "run_report.json"
# A file of these kinds is no slice that anybody wanted standardized. One of another kind (truncated, no pixel spacing,
# mixed geometry, ...) is a failure.
JUNK_KINDS = (
    SkippedKind.HIDDEN,
    SkippedKind.NOT_REGULAR,
    SkippedKind.DICOMDIR,
    SkippedKind.NOT_CT,
    SkippedKind.OTHER_FORMAT,
    SkippedKind.LOCALIZER,
    SkippedKind.NOT_TRANSVERSE,
    SkippedKind.PICTURE,
    SkippedKind.STANDARDIZED,
    SkippedKind.SECOND_COPY,
)
JUNK_KINDS_BY_NAME = (SkippedKind.NOT_DICOM, SkippedKind.EMPTY)  # unless the file is named like DICOM
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")  # such a file was meant to be DICOM; others may well not be


@dataclass(kw_only=True)
class SeriesEntry:
    """Describe what became of one series.

    Attributes:
        path: Of a volume, below IN; None for a DICOM series.
        folder: That the first slice lies in, below IN; "" for IN itself and for a volume.
        uid, description, spacing_mm, thickness_mm, gaps, duplicates: As in `CTSeries`. The uid of a volume names it to
            the noise, a hash of its HU if the caller gave none.
        slices: How many it has.
        written: How many were standardized and written.
        finished_before: How many were found as this run would have written them.
        kernel_in, kernel_out: Kernel of the first slice that is there, as its source and it name it.
        clipped_pixels: Pixels beyond the HU that the source's bit depth holds, in the slices that were written.
        seconds_per_slice: Of those that were written, reading and writing included; None before the first one.
        told_by: How the kernel of the source was told, in words.
        noise: "keep" or "target", whichever was done.
        missed: Whether the results were measured not to have the kernel that was asked for.
        remarks: What was not reached and what makes the results doubtful, a sentence each, the worst first.
        unlike_training: What no training scan had, by the headers and the latents of the slices, a sentence each.
        source: The estimate of the source, for later runs, see `ScanEstimate`; None where nothing needed to be known.
        derivation: Hash of what the results were made with.
        reached: What the results show, see `Reached`.
        failures: "path" and "reason" of each slice that was not written.
    """

    path: str | None = None
    folder: str = ""
    uid: str
    description: str
    slices: int
    written: int = 0
    finished_before: int = 0
    spacing_mm: float
    thickness_mm: float | None
    kernel_in: str | None = None
    kernel_out: str | None = None
    clipped_pixels: int = 0
    seconds_per_slice: float | None = None
    gaps: list[str]
    duplicates: list[str]
    told_by: str = ""
    noise: str = ""
    missed: bool = False
    remarks: list[str] = field(default_factory=list)
    unlike_training: list[str] = field(default_factory=list)
    failures: list[dict[str, str]] = field(default_factory=list)
    reached: dict[str, Any] | None = None
    derivation: str = ""
    source: dict[str, Any] | None = None

    @classmethod
    def of(cls, series: CTSeries) -> SeriesEntry:
        """Make the entry of a series of which nothing is written yet."""
        return cls(
            uid=series.uid,
            description=series.description,
            slices=len(series.paths),
            spacing_mm=series.spacing_mm,
            thickness_mm=series.thickness_mm,
            gaps=series.gaps,
            duplicates=series.duplicates,
            remarks=list(series.remarks),
        )

    @classmethod
    def of_volume(cls, path: str, slices: int, spacing_mm: float) -> SeriesEntry:
        """Make the entry of a volume that is not read yet."""
        return cls(
            path=path, uid="", description="", slices=slices, spacing_mm=spacing_mm, thickness_mm=None, gaps=[],
            duplicates=[],
        )  # fmt: skip


def make_report(
    *,
    folder: Path,
    output: Path,
    derivation: Derivation,
    options: dict[str, Any],
    samples_folder: str | None,
    slices: int,
    entries: list[SeriesEntry],
    skipped: list[Skipped],
    remarks: list[str],
    lost: list[dict[str, str]],
    others: list[str],
    stopped: str,
    started: float,
    begun: float,
    ended: float | None,
) -> dict[str, Any]:
    """Return everything about a run as JSON values.

    Args:
        folder, output: Input and output folder. Paths in the report are relative to them, and IN and OUT stand for them
            in its sentences: folders are often named after patients.
        derivation: Of `DiffusionCTPipeline.derivation`.
        options: The options that the run had; `num_samples` among them.
        samples_folder: Folder in `output` with the samples of each slice; None where there is one sample.
        slices: How many there were to standardize.
        entries: One for each series that was begun.
        skipped: What the folder holds beside them.
        remarks: As in `FolderScan`.
        lost: "path" and "reason" of each result that was removed while the run went on.
        others: Files in `output` that are not of this run, such as results of other inputs or options.
        stopped: Why the run ended early, "" if it did not.
        started, begun, ended: `time.time()` before the model was loaded, after it, and at the end; None before that.
    """
    junk, unusable = split_skipped(skipped, folder)
    versions = {"python": platform.python_version(), "torch": torch.__version__, "diffusers": diffusers.__version__}
    versions["threads"] = str(torch.get_num_threads())  # the last bits depend on them
    report = {
        "diffusionct_version": __version__,
        "versions": versions,
        "model_id": derivation.model_id,
        "target": derivation.target_name,
        "options": options,
        "samples_folder": samples_folder,
        "started": utc(started),
        "ended": None if ended is None else utc(ended),
        "seconds_to_load": round(begun - started, 2),
        "seconds": round(time.time() - started, 2),
        "slices": slices,
        "written": sum(entry.written for entry in entries),
        "finished_before": sum(entry.finished_before for entry in entries),
        "failures": sum(len(entry.failures) for entry in entries) + len(unusable) + len(lost),
        "stopped": stopped,
        "missed": sum(entry.missed for entry in entries),
        "remarks": remarks,
        "series": [asdict(entry) for entry in entries],
        "unusable": unusable,
        "lost": lost,
        "others": others,
        "skipped": junk,
    }
    return without_folders(report, {"IN": folder, "OUT": output})


def split_skipped(skipped: list[Skipped], folder: Path) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Split what a scan of a folder left out: what need not have been standardized, and what should have been."""
    junk: list[dict[str, str]] = []
    unusable: list[dict[str, str]] = []
    for item in skipped:
        line = {"path": str(relative_path(item.path, folder)), "kind": item.kind.value, "reason": item.reason}
        (junk if is_junk(item) else unusable).append(line)
    return junk, unusable


def utc(seconds: float) -> str:
    """Format a `time.time()`."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def is_junk(skipped: Skipped) -> bool:
    """Tell whether a file that the scan left out is one that nobody wanted standardized."""
    if skipped.kind in JUNK_KINDS_BY_NAME:
        return skipped.path.suffix.lower() not in DICOM_SUFFIXES
    return skipped.kind in JUNK_KINDS
