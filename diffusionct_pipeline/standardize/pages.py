"""Write the pages of a run over a folder, `OUT/page_01.html` and so on, made from its input and from what it wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..dicom import CTSeries, read_slice
from ..dicom.protocol import WORD
from ..page.html import page_html
from ..page.view import View, shown_indices
from ..utils.files import write_whole
from ..volumes import VolumeHeader, read_volume
from .report import SeriesEntry
from .run import FolderRun

UNKNOWN = "unknown kernel"


def write_series_page(run: FolderRun, series: CTSeries) -> None:
    """Write the page of the series that the run has just dealt with; slices without a result are left out of it."""
    paths = [path for path in series.paths if str(run.name(path)) in run.results]
    with run.record_failures(run.entries[-1], series.paths[:1], slices=0):
        chosen = [paths[index] for index in shown_indices(len(paths), series.shape)]
        pairs = [(read_slice(path).hu, read_slice(run.output / run.name(path)).hu) for path in chosen]
        _write(run, [series.paths.index(path) for path in chosen], pairs, series.shape)


def write_volume_page(run: FolderRun, header: VolumeHeader) -> None:
    """Write the page of the volume that the run has just dealt with, if it has a result."""
    name = str(run.volume_name(header.path))
    if name not in run.results:
        return
    with run.record_failures(run.entries[-1], [header.path], slices=0):
        before, after = read_volume(header.path), read_volume(run.output / name)
        count, rows, columns = header.grid.slices_shape
        chosen = shown_indices(count, (rows, columns))
        _write(run, chosen, [(before.slice_hu(index), after.slice_hu(index)) for index in chosen], (rows, columns))


def _write(run: FolderRun, indices: list[int], pairs: list, shape: tuple[int, int]) -> None:
    """Write a page, unless it would be empty."""
    if not indices:
        return
    entry, number = run.entries[-1], run.before + len(run.entries)
    name = Path(f"page_{number:02d}.html")
    run.require_output()
    write_whole(run.output / name, page_html(view_of(entry, indices, shape), pairs, number, run.derivation.model_id))
    run.results.add(str(name))


def view_of(entry: SeriesEntry, indices: list[int], shape: tuple[int, int]) -> View:
    """Make the view of a series that was standardized.

    Args:
        entry: Of the series in the report.
        indices: Of the slices that are shown.
        shape: (rows, columns).
    """
    kernels = shown_name(entry.kernel_in), shown_name(entry.kernel_out)
    facts = [
        f"{kernels[0]} to {kernels[1]}",
        f"{len(indices)} of {entry.slices} slices",
        f"pixels of {entry.spacing_mm:.3g} mm",
    ]
    if entry.reached is not None:
        facts += reached_facts(entry.reached)
    return View(entry.slices, indices, shape, entry.spacing_mm, kernels, facts, entry.missed)


def shown_name(kernel: str | None) -> str:
    """Return the name of a kernel if it looks like one."""
    return kernel if kernel and WORD.fullmatch(kernel) else UNKNOWN


def reached_facts(reached: dict[str, Any]) -> list[str]:
    """Return what was measured before and after, from the report's `Reached`; unknown figures are left out."""
    facts = []
    for name, digits, unit in (("mtf50", 1, "lp/cm"), ("noise_hu", 0, "HU")):
        before, after = reached[name]
        if before is not None and after is not None:
            label = "MTF50" if name == "mtf50" else "noise in soft tissue"
            facts.append(f"{label} {before:.{digits}f} to {after:.{digits}f} {unit}")
    return facts
