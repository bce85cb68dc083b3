"""What a run over a folder is to standardize: the CT series and the volumes of the input."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .dicom import CTSeries, FolderScan, Skipped, SkippedKind, read_slice, scan_folder
from .run_report import relative_path
from .volumes import VolumeError, VolumeHeader, is_volume, read_volume_header


@dataclass(frozen=True)
class Sources(FolderScan):
    """What an input holds: what `FolderScan` says of DICOM, and volumes.

    Attributes:
        volumes: NIfTI and NRRD files of axial slices. Whether they are CT is known when their voxels are read.
    """

    volumes: list[VolumeHeader] = field(default_factory=list)

    @property
    def slices(self) -> int:
        """Of all series and volumes."""
        in_volumes = sum(volume.grid.slices_shape[0] for volume in self.volumes)
        return sum(len(series.paths) for series in self.series) + in_volumes

    @property
    def paths(self) -> Iterator[Path]:
        """Files that will have a result."""
        for series in self.series:
            yield from series.paths
        for volume in self.volumes:
            yield volume.path


def scan_source(source: Path) -> Sources:
    """The CT series and volumes of a folder, or the one slice or volume of a file.

    Raises:
        FileNotFoundError, DicomError, VolumeError: if there is none.
        ImportError: the one volume needs a reader that is not installed.
    """
    if not source.exists():
        raise FileNotFoundError(f'"{source}" does not exist.')
    if source.is_dir():
        sources = with_volumes(scan_folder(source))
        if not sources.volumes:
            sources.require_series()
        return sources
    if is_volume(source):
        return Sources(source.parent, [], [], [read_volume_header(source)])
    ct_slice = read_slice(source)
    series = CTSeries(
        uid=ct_slice.series_uid,
        description=str(ct_slice.dataset.get("SeriesDescription") or ""),
        paths=[source],
        positions_mm=[ct_slice.position_mm],
        shape=ct_slice.hu.shape,
        spacing_mm=ct_slice.spacing_mm,
    )
    return Sources(source.parent, [series], [])


def with_volumes(scan: FolderScan) -> Sources:
    """Look for volumes among the files that are not DICOM; one that cannot be used is skipped for its own reason.

    So is one whose reader is not installed: DICOM beside it needs none.
    """
    volumes, skipped = [], []
    for item in scan.skipped:
        if item.kind not in (SkippedKind.NOT_DICOM, SkippedKind.EMPTY) or not is_volume(item.path):
            skipped.append(item)
            continue
        try:
            volumes.append(read_volume_header(item.path))
        except VolumeError as error:
            skipped.append(Skipped(item.path, str(error), error.kind))
        except ImportError as error:
            skipped.append(Skipped(item.path, f'"{item.path}" was not read: {error}', SkippedKind.UNUSABLE))
    return Sources(scan.folder, scan.series, skipped, volumes)


def require_apart(sources: Sources, source: Path, output: Path) -> None:
    """Refuse to write into the folder that is read.

    Raises:
        ValueError: naming both.
    """
    real_source, real_output = source.resolve(), output.resolve()
    if source.is_dir() and real_output.is_relative_to(real_source):
        raise ValueError(f'the output folder "{output}" lies inside the input "{source}"; choose one outside of it.')
    for path in sources.paths:
        target = real_output / relative_path(path, sources.folder)
        if target.resolve().is_relative_to(real_source):
            raise ValueError(f'the result of "{path}" would lie in the input; choose another output folder.')
