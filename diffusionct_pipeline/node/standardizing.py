"""Standardize one series of Orthanc: fetch it, standardize it, and store the results in its study."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ..dicom import DicomError, FolderScan, SkippedKind, scan_folder
from ..dicom.reading import SliceHeader, read_dataset
from ..pipeline import DiffusionCTPipeline
from ..standardize.folder import standardize_all
from ..standardize.options import FolderOptions
from ..standardize.run import make_run
from ..utils.files import locked_folder, remove_temporaries, write_whole
from ..utils.paths import without_folders
from ..utils.version import __version__
from ..volumes.inputs import Sources
from .orthanc import Orthanc, Unavailable, require_id
from .rules import Rule
from .state import DONE, INCOMPLETE, LEFT_ALONE, REFUSED, Record, SeriesState

# What scanners send along with slices and is never standardized; a rule that matches it is not a mistake.
ALONG = (
    SkippedKind.LOCALIZER,
    SkippedKind.NOT_TRANSVERSE,
    SkippedKind.PICTURE,
    SkippedKind.STANDARDIZED,
    SkippedKind.SECOND_COPY,
)
STORED = ("Success", "AlreadyStored")
KEPT = ("diffusionct_version", "model_id", "series")  # parts of a report that later slices need


def settings_of(rule: Rule, model_id: str) -> str:
    """Hash everything that results depend on apart from their series."""
    values = [__version__, model_id, rule.target, rule.reference, rule.noise]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]


def made_here(orthanc: Orthanc, instance: str, folder: Path) -> bool:
    """Return whether an instance is a result of this package; the file stays in `folder`."""
    try:
        return SliceHeader.of(read_dataset(fetched(orthanc, instance, folder), header_only=True), None).is_standardized
    except DicomError:
        return False


def fetched(orthanc: Orthanc, instance: str, folder: Path) -> Path:
    """Return the file of an instance below `folder`; fetch it if it is missing."""
    path = folder / f"{require_id(instance)}.dcm"
    if not path.exists():
        write_whole(path, orthanc.download(f"/instances/{instance}/file"))
    return path


def standardize_series(
    orthanc: Orthanc,
    series: str,
    instances: list[str],
    rule: Rule,
    settings: str,
    pipe: DiffusionCTPipeline,
    work: Path,
    result: str,
) -> SeriesState:
    """Standardize those slices of a series that are not done.

    Args:
        orthanc: Server that holds the series.
        series: Its id there.
        instances: The ids of its slices.
        rule: The rule that applies.
        settings: Hash of the settings, see `settings_of`.
        pipe: The pipeline.
        work: Folder of this series, which may contain files of a killed worker.
        result: Orthanc's id of the series with earlier results, "" if there are none.

    Returns:
        State of the series, without key and delivery.

    Raises:
        OSError: for temporary failures: `Unavailable`, or a full disk.
    """
    record = Record.of(orthanc, series)
    if record is None or record.settings != settings:
        record = Record(settings, [], {})
    state = SeriesState(state=DONE, slices=len(instances), result=result)
    # 1. Fetch what is new; if slices arrive late, only these.
    new = sorted(set(instances) - set(record.instances))
    for path in (work / "in").glob("*.dcm"):
        if path.stem not in new:
            path.unlink()
    for instance in new:
        fetched(orthanc, instance, work / "in")
    if not new:
        return state
    found = scan_folder(work / "in", results=False)
    if not found.series:
        state.reason = without_folders(found.skipped[0].reason, {"IN": work / "in"})
        alone = all(item.kind in ALONG for item in found.skipped)
        state.state = LEFT_ALONE if alone else REFUSED
        if record.instances:  # the others are done
            state.state = DONE if alone else INCOMPLETE
        return state
    # 2. Standardize, with the estimate of the series if it has one.
    report = run(found, rule, pipe, work, record)
    # 3. Save the estimate before any result is visible, so that later slices use the same.
    record.report = record.report or {key: report[key] for key in KEPT}
    record.save(orthanc, series)
    # 4. Store the results in the study of the series.
    for instance in new:
        path = work / "out" / f"{instance}.dcm"
        if path.exists():
            answer = orthanc.store(path.read_bytes())
            if answer["Status"] not in STORED:
                raise Unavailable(f"Orthanc did not store a result: {answer['Status']}")
            state.result = answer["ParentSeries"]
            record.instances.append(instance)
    record.save(orthanc, series)
    failures = [item for entry in report["series"] for item in entry["failures"]] + report["unusable"]
    if failures:
        state.state = INCOMPLETE if record.instances else REFUSED
        state.reason = f"{len(failures)} of {len(instances)} slices failed, e.g. {failures[0]['reason']}"
    elif report["missed"]:
        state.reason = report["series"][0]["remarks"][0]
    return state


def run(found: FolderScan, rule: Rule, pipe: DiffusionCTPipeline, work: Path, record: Record) -> dict[str, Any]:
    """Standardize a folder with one series; return the report.

    Raises:
        OSError: if the run had to stop, such as for a full disk.
    """
    known = None
    if any(entry["source"] for entry in record.report.get("series", ())):
        known = work / "known.json"
        write_whole(known, json.dumps(record.report))
    options = FolderOptions(
        target=rule.target,
        reference=rule.reference,
        noise=rule.noise,
        known_source=known,
    )
    scan = Sources(found.folder, found.series, found.skipped, remarks=found.remarks)
    of_series = make_run(scan, work / "out", options, None, pipe)
    with locked_folder(of_series.output):
        remove_temporaries(of_series.output)
        report = standardize_all(of_series)
    if report["stopped"]:
        raise OSError(report["stopped"])
    return report
