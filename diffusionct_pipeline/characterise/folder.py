"""`diffusionct characterise`: measure, compare and report every series of a folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ..dicom import CTSeries
from ..standardize.likeness import has_texture_latent
from ..standardize.loading import load_pipeline
from ..standardize.report import is_junk
from ..utils.files import whole_folder
from ..utils.optional import import_optional
from ..utils.paths import relative_path, without_folders
from ..utils.stages import stage
from ..utils.usage import require_outside
from ..volumes.inputs import scan_source
from .advice import advise
from .measure import SLICES, MeasuredSeries, measure_series
from .report import write_report
from .result import Characterisation
from .same_scan import find_same_scans
from .styles import group


def characterise_folder(
    source: str | os.PathLike,
    out: str | os.PathLike,
    *,
    model: str | os.PathLike | None = None,
    slices: int = SLICES,
    progress: Callable[[int, int], None] | None = None,
) -> Characterisation:
    """Measure every CT series below a folder, and write series.csv, noise_power.csv, pairs.csv, figures and report.md.

    A few slices of each are standardized and measured, as `standardize_folder` does before it names its results. This shows
    in advance what it will reach, in a second or two per series.

    Args:
        source: Folder with any number of series and other files, or a DICOM file; it is only read.
        out: New or empty folder outside `source`.
        model: Checkpoint whose training and standard the series are compared with: folder or "user/repo"; None for the
            embedded one.
        slices: Maximum number of slices of each series whose noise spectra are measured.
        progress: Called as progress(done, total) at the start and after each series.

    Raises:
        FileExistsError: if `out` exists and is not empty.
        ValueError: if `slices` is below 1, `out` is inside `source`, or no series can be measured.
        FileNotFoundError, DicomError: if `source` holds no series.
        ImportError: if matplotlib is not installed.
    """
    source, out = Path(source), Path(out)
    if slices < 1:
        raise ValueError(f"`slices` must be at least 1, got {slices}.")
    require_outside(out, source)
    import_optional("matplotlib")
    scan = scan_source(source)
    with whole_folder(out) as part:
        pipe = load_pipeline(model)
        known = pipe if has_texture_latent(pipe) else None
        target = None if known is None else known.resolve_target()
        failures = [item.reason for item in scan.skipped if not is_junk(item)]
        failures += [
            f'"{volume.path}" is a volume, whose header holds no protocol; only DICOM series are characterised.'
            for volume in scan.volumes
        ]
        measured: list[MeasuredSeries] = []
        # 1. Series by series; one that cannot be measured does not affect the others.
        for done, series in enumerate(scan.series):
            if progress is not None:
                progress(done, len(scan.series))
            try:
                measured.append(measure_series(series, known, target, slices))
            except Exception as error:  # any kind of damage
                reason = str(error) if isinstance(error, (ValueError, OSError)) else f"{type(error).__name__}: {error}"
                failures.append(f"{len(series.paths)} slices: {reason}")
        if progress is not None:
            progress(len(scan.series), len(scan.series))
        failures = [without_folders(failure, {"IN": scan.folder}) for failure in failures]
        if not measured:
            raise ValueError(f"no series could be measured: {failures[0]}")
        # 2. Compare them with each other.
        result = Characterisation(
            measured=measured,
            groups=group(measured),
            same_scans=find_same_scans(
                [item.series for item in measured],
                [item.acquisition for item in measured],
                [item.protocol.kernel for item in measured],
            ),
            names=[_name(item.series, scan.folder) for item in measured],
            failures=failures,
            standard_name=pipe.config["standard_name"],
            advice=None if known is None else advise(known, measured),
        )
        stage("drawing the figures")
        write_report(result, part)
    return result


def _name(series: CTSeries, folder: Path) -> str:
    """Return the folder of a series below the input."""
    return str(relative_path(series.paths[0].parent, folder))
