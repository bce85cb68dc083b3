"""Pages of a run over a folder, `OUT/page_01.html` and so on, made from its input and from what it wrote."""

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
from .run import Job, failures_listed

UNKNOWN = "unknown kernel"


def write_series_page(job: Job, series: CTSeries) -> None:
    """Write the page of the series that the run has just dealt with; slices without a result are left out of it."""
    paths = [path for path in series.paths if str(job.name(path)) in job.results]
    with failures_listed(job, job.entries[-1], series.paths[:1], slices=0):
        chosen = [paths[index] for index in shown_indices(len(paths), series.shape)]
        pairs = [(read_slice(path).hu, read_slice(job.output / job.name(path)).hu) for path in chosen]
        _write(job, [series.paths.index(path) for path in chosen], pairs, series.shape)


def write_volume_page(job: Job, header: VolumeHeader) -> None:
    """Write the page of the volume that the run has just dealt with, if it has a result."""
    name = str(job.volume_name(header.path))
    if name not in job.results:
        return
    with failures_listed(job, job.entries[-1], [header.path], slices=0):
        before, after = read_volume(header.path), read_volume(job.output / name)
        count, *shape = header.grid.slices_shape
        chosen = shown_indices(count, tuple(shape))
        _write(job, chosen, [(before.slice_hu(index), after.slice_hu(index)) for index in chosen], tuple(shape))


def _write(job: Job, indices: list[int], pairs: list, shape: tuple[int, int]) -> None:
    """Write a page, unless it would be empty."""
    if not indices:
        return
    entry, number = job.entries[-1], job.before + len(job.entries)
    name = Path(f"page_{number:02d}.html")
    job.require_output()
    write_whole(job.output / name, page_html(view_of(entry, indices, shape), pairs, number, job.derivation.model_id))
    job.results.add(str(name))


def view_of(entry: SeriesEntry, indices: list[int], shape: tuple[int, int]) -> View:
    """Make the view of a series that was standardized.

    Args:
        entry: Of the series in the report.
        indices: Of the slices that are shown.
        shape: (rows, columns).
    """
    kernels = tuple(
        kernel if WORD.fullmatch(kernel or "") else UNKNOWN for kernel in (entry.kernel_in, entry.kernel_out)
    )
    facts = [
        f"{kernels[0]} to {kernels[1]}",
        f"{len(indices)} of {entry.slices} slices",
        f"pixels of {entry.spacing_mm:.3g} mm",
    ]
    if entry.reached is not None:
        facts += reached_facts(entry.reached)
    return View(entry.slices, indices, shape, entry.spacing_mm, kernels, facts, entry.missed)


def reached_facts(reached: dict[str, Any]) -> list[str]:
    """What was measured before and after, from the report's `Reached`; figures that are not known are left out."""
    facts = []
    for name, digits, unit in (("mtf50", 1, "lp/cm"), ("noise_hu", 0, "HU")):
        before, after = reached[name]
        if before is not None and after is not None:
            label = "MTF50" if name == "mtf50" else "noise in soft tissue"
            facts.append(f"{label} {before:.{digits}f} to {after:.{digits}f} {unit}")
    return facts
