"""Standardize some series of a list, as one of several jobs that share an output folder, and merge their reports.

Each series has a folder of its own below `SERIES_FOLDER` with its lock and its report, which keeps its estimate.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ..utils.devices import one_thread
from ..utils.files import locked_folder, remove_temporaries, visible_names, write_whole
from ..utils.paths import relative_path, without_folders
from ..volumes.inputs import Sources, require_apart, scan_source
from .earlier_run import known_scans
from .folder import standardize_all
from .options import FolderOptions
from .report import REPORT_FILE, split_skipped
from .run import FolderRun, make_run
from .series_list import ListedSeries, chosen, list_series, read_list, scan_listed
from .standardizer import Standardizer

SERIES_FOLDER = ".series"  # hidden: it is no result, and nobody who reads results should find files there
SAME = (
    "diffusionct_version",
    "model_id",
    "target",
    "options",
    "samples_folder",
)  # what reports must share to be merged


def standardize_listed(
    source: str | os.PathLike,
    output: str | os.PathLike,
    series_list: str | os.PathLike,
    index: int,
    chunk: int = 1,
    *,
    pipe: Standardizer | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Standardize the `index`-th `chunk` series of a list; other jobs may do others in the same output folder meanwhile.

    Each becomes the bytes that it becomes in a run over all of `source`.

    Args:
        source: The input that was listed.
        output: Folder for the results, as in `standardize_folder`.
        series_list: File that `series_list.write_list` wrote.
        index: Which chunk, from 1.
        chunk: Series in a chunk.
        pipe: As of `standardize_folder`.
        progress: Called with the samples done and all.
        **options: See `FolderOptions`.

    Returns:
        The reports of these series as one, see `standardize_folder`.

    Raises:
        As `standardize_folder`. BlockingIOError: another job does one of the series, or a run all of them.
    """
    source, output, settings = Path(source), Path(output), FolderOptions(**options)
    listed = read_list(series_list)
    wanted = chosen(listed, index, chunk)
    scans = [scan_listed(source, item, settings.again) for item in wanted]
    for scan in scans:
        require_apart(scan, source, output)
        settings.require_apply(scan)
    shown, total = 0, sum(scan.slices for scan in scans) * settings.num_samples
    reports = []
    with one_thread():
        run = make_run(scans[0], output, settings, None, pipe)
        for item, scan in zip(wanted, scans):
            before = shown
            of_series = run_of_series(run, item, scan, listed.index(item))
            if progress is not None:
                of_series.progress = partial(count_from, progress, before, total)
            reports.append(run_alone(of_series))
            shown += scan.slices * settings.num_samples
            if of_series.stopped:
                break
    return {key: value for key, value in joined(reports).items() if key != "results"}


def count_from(progress: Callable[[int, int], None], before: int, total: int, done: int, _: int) -> None:
    """Tell the progress of a series within that of its job."""
    progress(before + done, total)


def run_of_series(run: FolderRun, listed: ListedSeries, scan: Sources, before: int) -> FolderRun:
    """Make the run over one series, with the model and the target of another run."""
    report_file = Path(SERIES_FOLDER, listed.id, REPORT_FILE)
    known = run.known
    if not run.options.overwrite and run.options.known_source is None and run.target is not None:
        known = known | known_scans(run.output / report_file, run.derivation.model_id)
    return replace(
        run, scan=scan, report_file=report_file, before=before, known=known, started=time.time(), begun=time.time(),
        entries=[], results=set(), uids={}, lost=[], others=[],
    )  # fmt: skip


def run_alone(run: FolderRun) -> dict[str, Any]:
    """Run one series while nobody else works on it, and no run on the whole output folder."""
    with locked_folder(run.output, shared=True), locked_folder((run.output / run.report_file).parent):
        return standardize_all(run)


def merge_reports(
    output: str | os.PathLike, source: str | os.PathLike | None = None, again: bool = False
) -> dict[str, Any]:
    """Merge the reports of the series into one `run_report.json`, as a run over all of them would have written it.

    Args:
        output: Folder that the jobs wrote to.
        source: Their input, searched once more: for series that no job has done, files that belong to none, and the order of a
            run. None: what the jobs say of that.
        again: As of `standardize_folder`.

    Raises:
        FileNotFoundError: no job wrote to `output`.
        ValueError: naming what the jobs do not have in common: their results are not of one run.
        BlockingIOError: a job is still running.
    """
    output = Path(output)
    if not (output / SERIES_FOLDER).is_dir():
        raise FileNotFoundError(f'"{output}" holds no report of a series; `standardize --series-list` writes them.')
    with locked_folder(output):
        remove_temporaries(output)
        reports = {
            path.parent.name: json.loads(path.read_text()) for path in output.glob(f"{SERIES_FOLDER}/*/{REPORT_FILE}")
        }
        scan = None if source is None else scan_source(Path(source), again)
        wanted = sorted(reports) if scan is None else [item.id for item in list_series(scan)]
        report = joined([reports[id] for id in wanted if id in reports])
        missing = [id for id in wanted if id not in reports]
        if missing:
            gone = f"{len(missing)} of {len(wanted)} series were not begun, {missing[0]} for one"
            report["stopped"] = "; ".join(filter(None, [report["stopped"], gone]))
        if scan is not None:
            scan, no_ct = without_masks(scan, report["skipped"])
            junk, unusable = split_skipped(scan.skipped, scan.folder)
            junk += no_ct
            in_series = report["failures"] - len(report["unusable"])
            complete = {"slices": scan.slices, "skipped": junk, "unusable": unusable, "remarks": scan.remarks}
            report |= without_folders(
                {**complete, "failures": in_series + len(unusable)}, {"IN": scan.folder, "OUT": output}
            )
        results = set(report.pop("results"))
        lost = {name for name in results if not (output / name).is_file()}
        known = {item["path"] for item in report["lost"]}
        report["lost"] += [
            {"path": name, "reason": f'"OUT/{name}" was removed since'} for name in sorted(lost - known)
        ]  # fmt: skip
        report["failures"] += len(lost - known)
        report["others"] = [] if report["stopped"] else sorted(set(visible_names(output)) - results - {REPORT_FILE})
        write_whole(output / REPORT_FILE, json.dumps(report, indent=2) + "\n")
    return report


def without_masks(scan: Sources, skipped: Sequence[dict[str, str]]) -> tuple[Sources, list[dict[str, str]]]:
    """Return an input without the volumes that jobs found to be no CT, and what the jobs say of these."""
    names = {str(relative_path(header.path, scan.folder)): header for header in scan.volumes}
    no_ct = [item for item in skipped if item["path"] in names]
    masks = [names[item["path"]] for item in no_ct]
    return replace(scan, volumes=[header for header in scan.volumes if header not in masks]), no_ct


def joined(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Join reports of single series.

    Raises:
        ValueError: there is none, or they are of different runs.
    """
    if not reports:
        raise ValueError("there is no report to merge.")
    for key in SAME:
        values = sorted({json.dumps(report[key], sort_keys=True) for report in reports})
        if len(values) > 1:
            raise ValueError(f"the series were not standardized alike: `{key}` is {values[0]} and {values[1]}.")
    summed = ("seconds_to_load", "seconds", "slices", "written", "finished_before", "missed")
    report = reports[0] | {key: round(sum(item[key] for item in reports), 2) for key in summed}
    for key in ("series", "lost", "others", "results"):
        report[key] = [value for item in reports for value in item[key]]
    for key in ("skipped", "unusable", "remarks"):  # said by every series of a folder
        report[key] = list({json.dumps(value): value for item in reports for value in item[key]}.values())
    ends = [item["ended"] for item in reports]
    report |= {"started": min(item["started"] for item in reports), "ended": None if None in ends else max(ends)}
    report["stopped"] = "; ".join(dict.fromkeys(item["stopped"] for item in reports if item["stopped"]))
    failed = sum(len(entry["failures"]) for entry in report["series"])
    report["failures"] = failed + len(report["unusable"]) + len(report["lost"])
    return report
