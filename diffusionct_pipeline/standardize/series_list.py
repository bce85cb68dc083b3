"""List the series that several jobs share: a line for each, identified by an id that does not change."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import TextIO

import pydicom

from ..dicom import CTSeries
from ..utils.paths import relative_path
from ..utils.usage import UsageError
from ..volumes import VolumeHeader
from ..volumes.inputs import Sources, scan_source

ID_DIGITS = 16  # hexadecimal, of SHA-256


@dataclass(frozen=True)
class ListedSeries:
    """Describe one series or volume of an input.

    Attributes:
        id: Hash of its SeriesInstanceUID; of its place in the input where it has none.
        path: Folder below the input that holds all of its files, "." for the input itself; the file of a volume.
        slices: How many it has.
        kernel: Of its first slice, as its header names it; "" where it does not.
    """

    id: str
    path: str
    slices: int
    kernel: str


COLUMNS = [column.name for column in fields(ListedSeries)]


def list_series(sources: Sources) -> list[ListedSeries]:
    """List what an input holds, in the order in which a run over all of it goes."""
    series = [
        ListedSeries(series_id(sources, item), _folder_of(sources, item), len(item.paths), _kernel(item.paths[0]))
        for item in sources.series
    ]
    volumes = [
        ListedSeries(volume_id(sources, item), _name(sources, item.path), item.grid.slices_shape[0], "")
        for item in sources.volumes
    ]
    return series + volumes


def series_id(sources: Sources, series: CTSeries) -> str:
    """Return the id of a DICOM series."""
    return _digest("series", series.uid or _folder_of(sources, series))


def volume_id(sources: Sources, header: VolumeHeader) -> str:
    """Return the id of a volume."""
    return _digest("volume", _name(sources, header.path))


def scan_listed(source: Path, listed: ListedSeries, again: bool = False) -> Sources:
    """Search only where a listed series lies.

    Args:
        source: The input that was listed.
        listed: The series.
        again: As of `scan_source`.

    Returns:
        That series alone, and what was left out beside it; its files are named below `source`.

    Raises:
        FileNotFoundError: naming the series, if it is not there any more.
        DicomError, VolumeError, ImportError: as of `scan_source`.
    """
    root = source if source.is_dir() else source.parent
    found = replace(scan_source(root / listed.path, again), folder=root)
    series = [item for item in found.series if series_id(found, item) == listed.id]
    volumes = [item for item in found.volumes if volume_id(found, item) == listed.id]
    if not series and not volumes:
        raise FileNotFoundError(f'"{root / listed.path}" does not hold the series {listed.id} of the list any more.')
    return replace(found, series=series, volumes=volumes)


def write_list(listed: Iterable[ListedSeries], file: TextIO) -> None:
    """Write a list as tab-separated values under a line with the names of the columns."""
    writer = csv.writer(file, delimiter="\t", lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(map(astuple, listed))


def read_list(path: str | os.PathLike) -> list[ListedSeries]:
    """Read what `write_list` wrote.

    Raises:
        UsageError: naming the file and the line.
    """
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        lines = list(csv.reader(file, delimiter="\t"))
    if not lines or lines[0] != COLUMNS:
        raise UsageError(f'`series_list` must begin with a line of {", ".join(COLUMNS)}, got "{path}".')
    listed = []
    for number, line in enumerate(lines[1:], 2):
        try:
            id, place, slices, kernel = line
            listed.append(ListedSeries(id, place, int(slices), kernel))
        except ValueError as error:
            raise UsageError(f'line {number} of "{path}" must be id, path, slices and kernel, got {line!r}.') from error
    return listed


def chosen(listed: Sequence[ListedSeries], index: int, chunk: int = 1) -> Sequence[ListedSeries]:
    """Return the `index`-th `chunk` of a list, counted from 1.

    Raises:
        UsageError: naming the argument and what is allowed.
    """
    chunks = -(-len(listed) // chunk)
    if not 1 <= index <= chunks:
        raise UsageError(f"`index` must be between 1 and {chunks}, the list has {len(listed)} series; got {index}.")
    return listed[(index - 1) * chunk : index * chunk]


def _digest(kind: str, name: str) -> str:
    return hashlib.sha256(f"{kind} {name}".encode(errors="surrogateescape")).hexdigest()[:ID_DIGITS]


def _name(sources: Sources, path: Path) -> str:
    return str(relative_path(path, sources.folder))


def _folder_of(sources: Sources, series: CTSeries) -> str:
    return _name(sources, Path(os.path.commonpath([path.parent for path in series.paths])))


def _kernel(path: Path) -> str:
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=["ConvolutionKernel"])
        value = header.get("ConvolutionKernel") or ""
        return " ".join(str(value if isinstance(value, str) else "\\".join(value)).split())
    except Exception:  # the file was read a moment ago; what is wrong now is said when it is to be standardized
        return ""
