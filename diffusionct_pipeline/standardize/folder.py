"""Standardize every CT series and volume of a folder: one model load, one derived file for each, one report.

OUT mirrors the relative paths of IN and holds `run_report.json`. With several samples, `OUT/samples` mirrors them too.
Sources are only read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from ..utils.devices import one_thread
from ..utils.files import locked_folder, remove_temporaries
from ..utils.optional import import_optional
from ..volumes.inputs import arrivals, require_apart, scan_source
from .options import FolderOptions
from .run import FolderRun, make_run
from .series_run import SeriesRun
from .standardizer import Standardizer
from .volume_run import VolumeRun


def standardize_folder(
    source: str | os.PathLike,
    output: str | os.PathLike,
    *,
    pipe: Standardizer | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Standardize a DICOM, NIfTI or NRRD file, or all CT series and volumes below a folder.

    Every slice becomes the bytes that the pipeline gives it in Python with the same seed, on one thread. On a CPU they
    depend on the slice, the estimate of its scan and the options: not on its neighbours, nor on how many cores there are.

    A run that was interrupted is resumed: what an earlier one with the same input, model and options has finished stays as it is, see
    `finished_slice`. Results of another model, of other options or of a source that has changed are recomputed.

    Args:
        source: DICOM, NIfTI or NRRD file, or folder with any number of series, volumes and other files.
        output: Folder for the results, not inside `source`. One run at a time writes to it.
        pipe: What is loaded already and takes the place of `model`, `device` and `fast`: a `DiffusionCTPipeline`, or a system
            of the comparison (`comparison.systems.load_as_pipeline`).
        progress: Called as progress(done, total) at the start and after each sample of each slice; those of a failed
            slice count as done.
        **options: See `FolderOptions`.

    Returns:
        The report, as written to `output/run_report.json` and kept up to date there while the run goes on. "failures"
        counts the files that should have been standardized and were not; "stopped" says why a run ended early, "" if it
        did not; "ended" is None until it does; "others" lists what `output` holds beside the results of this run.

    Raises:
        ValueError, OSError: if the run cannot start; nothing is written then. DicomError for unusable input,
            BlockingIOError if another run is writing to `output`.
        ImportError: pictures are asked for and matplotlib is not installed.
        KeyboardInterrupt: after the report is written.
    """
    settings = FolderOptions(**options)
    # 1. What there is to do, before anything is loaded.
    source, output = Path(source), Path(output)
    scan = scan_source(source, settings.again)
    require_apart(scan, source, output)
    settings.require_apply(scan)
    if settings.preview:
        import_optional("matplotlib")

    with one_thread():
        # 2. One model and one reference for all.
        run = make_run(scan, output, settings, progress, pipe)

        # 3. Series by series.
        with locked_folder(output):
            remove_temporaries(output)
            return standardize_all(run, lambda: arrivals(scan, source))


def standardize_all(run: FolderRun, last_remarks: Callable[[], list[str]] = list) -> dict[str, Any]:
    """Standardize series by series; the report is written whatever happens.

    Args:
        run: The run. The caller holds the lock of its output folder.
        last_remarks: Called at the end, for what is to be said then.
    """
    run.folder = run.output.stat()
    try:
        run.count(0)
        volumes = list(run.scan.volumes)  # one that turns out to be a mask leaves those of the run
        parts: Iterator[SeriesRun | VolumeRun] = chain(
            (SeriesRun(run, series) for series in run.scan.series), (VolumeRun(run, header) for header in volumes)
        )
        for part in parts:
            part.standardize()
            if run.options.page and not run.stopped:
                part.write_page()
            if run.stopped:
                break
    except BaseException as error:
        run.stopped = "interrupted" if isinstance(error, KeyboardInterrupt) else f"{type(error).__name__}: {error}"
        raise
    finally:
        run.scan.remarks.extend(last_remarks())
        run.close()
        report = run.report(ended=True)
    return report
