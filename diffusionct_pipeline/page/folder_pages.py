"""Pages of a run over a folder, `OUT/page_01.html` and so on, made from its input and from what it wrote."""

from __future__ import annotations

from pathlib import Path

from ..dicom import CTSeries, read_slice
from ..files import write_whole
from ..folder_job import Job, failures_listed
from ..volumes import VolumeHeader, read_volume
from .html import page_html
from .view import View, shown_indices


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
    write_whole(job.output / name, page_html(View.of(entry, indices, shape), pairs, number, job.derivation.model_id))
    job.results.add(str(name))
