"""Find what a run is to standardize: the CT series and the volumes of the input."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..dicom import DicomError, FolderScan, Skipped, SkippedKind, read_slice, scan_folder
from ..dicom.errors import LEFT_ALONE
from ..dicom.folders import series_of, visible_files
from ..dicom.reading import SliceHeader
from ..utils.paths import relative_path
from ..utils.stages import stage
from ..utils.usage import UsageError, require_outside
from . import VolumeError, VolumeHeader, is_volume, read_volume_header
from .files import is_result


@dataclass(frozen=True)
class Sources(FolderScan):
    """Hold the content of an input: DICOM as in `FolderScan`, and volumes.

    Attributes:
        volumes: NIfTI and NRRD files of axial slices. Whether they are CT is known only when their voxels are read.
    """

    volumes: list[VolumeHeader] = field(default_factory=list)

    @property
    def slices(self) -> int:
        """Return the number of slices of all series and volumes."""
        in_volumes = sum(volume.grid.slices_shape[0] for volume in self.volumes)
        return sum(len(series.paths) for series in self.series) + in_volumes

    @property
    def paths(self) -> Iterator[Path]:
        """Yield the files that will have a result."""
        for series in self.series:
            yield from series.paths
        for volume in self.volumes:
            yield volume.path


def scan_source(source: Path, again: bool = False) -> Sources:
    """Find the CT series and volumes of a folder, or the one slice or volume of a file.

    Args:
        source: The folder or file.
        again: Whether to include results of this package.

    Raises:
        FileNotFoundError, DicomError, VolumeError: if there is none.
        ImportError: if the reader of a single volume is not installed.
    """
    if not source.exists():
        raise FileNotFoundError(f'"{source}" does not exist.')
    if source.is_dir():
        stage("searching the input")
        sources = with_volumes(scan_folder(source, results=again), again)
        if not sources.volumes:
            sources.require_series()
        return sources
    if is_volume(source):
        return Sources(source.parent, [], [], [volume_header(source, again)])
    header = SliceHeader.of(read_slice(source).dataset, source)
    if header.is_standardized and not again:
        raise DicomError(f'"{source}" {LEFT_ALONE}', SkippedKind.STANDARDIZED)
    return Sources(source.parent, [series_of([header])], [])


def volume_header(path: Path, again: bool) -> VolumeHeader:
    """Read the header of a volume.

    Raises:
        VolumeError: as in `read_volume_header`; and for a result of this package, unless `again`.
        ImportError: as in `read_volume_header`.
    """
    header = read_volume_header(path)
    if is_result(header) and not again:
        raise VolumeError(f'"{path}" {LEFT_ALONE}', SkippedKind.STANDARDIZED)
    return header


def with_volumes(scan: FolderScan, again: bool = True) -> Sources:
    """Look for volumes among the files that are not DICOM; one that cannot be used is skipped with its own reason.

    So is one whose reader is not installed, as DICOM beside it needs none.
    """
    volumes: list[VolumeHeader] = []
    skipped: list[Skipped] = []
    for item in scan.skipped:
        if item.kind not in (SkippedKind.NOT_DICOM, SkippedKind.EMPTY) or not is_volume(item.path):
            skipped.append(item)
            continue
        try:
            volumes.append(volume_header(item.path, again))
        except VolumeError as error:
            skipped.append(Skipped(item.path, str(error), error.kind))
        except ImportError as error:
            skipped.append(Skipped(item.path, f'"{item.path}" was not read: {error}', SkippedKind.UNUSABLE))
    return Sources(scan.folder, scan.series, skipped, volumes, remarks=scan.remarks)


def require_apart(sources: Sources, source: Path, output: Path) -> None:
    """Refuse to write to the folder that is read.

    Raises:
        UsageError: naming both.
    """
    real_source, real_output = source.resolve(), output.resolve()
    require_outside(output, source)
    if source.is_dir() and real_source.is_relative_to(real_output):
        raise UsageError(f'the output folder "{output}" contains the input "{source}"; choose one outside of it.')
    for path in sources.paths:
        target = real_output / relative_path(path, sources.folder)
        if target.resolve().is_relative_to(real_source):
            raise UsageError(f'the result of "{path}" would be written to the input; choose another output folder.')


def arrivals(sources: Sources, source: Path) -> list[str]:
    """Return a sentence about files that were added to the input since it was searched, if there are any."""
    if not source.is_dir():
        return []
    known = {*sources.paths, *(item.path for item in sources.skipped)}
    new = [path for path in visible_files(source, []) if path not in known]
    if not new:
        return []
    return [
        f'{len(new)} file(s) were added to the input during the run, such as "{new[0]}"; run again to process them.'
    ]
