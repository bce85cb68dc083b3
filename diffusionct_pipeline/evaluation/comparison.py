"""Measure how well CT series agree with a standard series in the radiomic features of tumours; see `evaluate_series`.

OUT/report.md        what was compared and how well it agrees, with figures
OUT/features.csv     one row per region and feature: every system's value and relative error
OUT/agreement.csv    one row per system and feature class
OUT/intervals.csv    with samples of a candidate: one row per region and feature, the interval over the samples
OUT/*.png            figures
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from ..dicom import read_slice
from ..dicom.reading import read_dataset
from ..dicom.sample_files import SliceSamples, find_samples
from ..metrics.uncertainty import require_samples
from ..radiomics import DEFAULT_SETTINGS, Features, RadiomicSettings, feature_names
from ..utils.files import require_writable, whole_folder
from ..utils.optional import import_optional
from ..utils.stages import stage
from ..utils.usage import UsageError
from .geometry import Geometry, Series, find_series, match_slices
from .masks import read_mask
from .measuring import MeasuredFeatures, Progress, Source, Task, kept_until_done, measure_all
from .report import write_report
from .result import Evaluation, Region

PathLike: TypeAlias = str | os.PathLike

SAME_SPACING = 1e-3  # relative; headers round spacings to 3 to 6 digits


def evaluate_series(
    standard: PathLike,
    candidates: Sequence[PathLike],
    mask: PathLike,
    out: PathLike,
    *,
    baseline: PathLike | None = None,
    labels: Sequence[str | int] | None = None,
    names: Sequence[str] | None = None,
    samples: Sequence[PathLike] = (),
    use_combat: bool = False,
    use_images: bool = True,
    formats: Sequence[str] = (".png",),
    workers: int | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Compare series with a standard series of the same scan and write a report.

    Measured features are kept beside `out`, in a hidden folder, until the report is complete: a call after an
    interruption, the same or one with other series of the same regions, resumes from them.

    Args:
        standard: Folder with the series that the others should look like.
        candidates: Folders with the series to judge.
        mask: File with the tumours, see `read_mask`; on the grid of the standard. Slices of an .npz are in ascending
            position along the normal.
        out: New folder, outside of the others. It appears when it is complete.
        baseline: Folder with the unconverted series, to which gains refer.
        labels: Labels of the mask to measure; None: all.
        names: Names of the series in tables and figures: the standard, the baseline if there is one, the candidates.
            None: those of their folders.
        samples: Folders `OUT/samples` of `diffusionct standardize --samples`, at least 20 samples per slice. Their
            SOPInstanceUIDs determine the candidate. Samples are measured only if they are given here, as every sample
            takes as long as a series.
        use_combat: Whether to report every system also after ComBat of its features and the standard's.
        use_images: Whether to compare the images, too: their error, noise power and a picture.
        formats: Suffixes of the figures: .png, .pdf and .svg.
        workers: Number of processes; None: one per core.
        progress: Called as progress(done, total) after each region of each series.

    Returns:
        The `Evaluation` that the report shows.

    Raises:
        ValueError: if `out` exists or lies in an input, a series, the mask or samples cannot be used, or geometries
            differ.
        OSError: if a file cannot be read or written.
        ImportError: if matplotlib or the reader of the mask's format is not installed.
    """
    out = Path(out)
    inputs = [standard, *candidates, *samples] if baseline is None else [standard, baseline, *candidates, *samples]
    _check_out(out, inputs)
    require_writable(out.parent)
    import_optional("matplotlib")  # now: the figures come last
    with kept_until_done(out) as kept:
        evaluation = compare_series(
            standard, candidates, mask,
            baseline=baseline, labels=labels, names=names, samples=samples, workers=workers, progress=progress, kept=kept,
        )  # fmt: skip
        with whole_folder(out, temporaries=kept) as part:
            stage("drawing the figures")
            write_report(evaluation, part, mask=mask, use_combat=use_combat, use_images=use_images, formats=formats)
    return evaluation


def compare_series(
    standard: PathLike,
    candidates: Sequence[PathLike],
    mask: PathLike,
    *,
    baseline: PathLike | None = None,
    labels: Sequence[str | int] | None = None,
    names: Sequence[str] | None = None,
    samples: Sequence[PathLike] = (),
    settings: RadiomicSettings = DEFAULT_SETTINGS,
    workers: int | None = None,
    progress: Progress | None = None,
    kept: Path | None = None,
) -> Evaluation:
    """Extract the features of every region of the mask from every series; see `evaluate_series` for the arguments.

    `kept` is a folder for measured features, including those of an interrupted run; None for none.

    A region is measured in three dimensions where the slices around it form a volume; where they do not (a gap, or
    slices too far apart for their thickness) each part is a separate region.
    """
    # 1. Series and mask, by their headers: one grid for all.
    folders = [standard, *([] if baseline is None else [baseline]), *candidates]
    by_folder = _names(folders)
    names = by_folder if names is None else list(names)
    if len(set(names)) < len(folders) or len(names) != len(folders):
        raise UsageError(f"`names` must be {len(folders)} different ones, one for each series, got {names}")
    series = {name: find_series(folder) for name, folder in zip(names, folders)}
    geometry = series[names[0]].geometry
    places, remarks = _match(series, geometry)
    everywhere = np.all([index >= 0 for index in places.values()], axis=0)  # [slices]
    labelled = read_mask(mask, _with_frames_of_reference(geometry, series), labels, remarks)
    # 2. Regions within one volume, and the slices that they need.
    regions = find_regions(labelled, geometry, everywhere, series, places)
    remarks += _split_remarks(labelled, regions)
    needed = sorted({i for g in regions for i in _range(g)})
    files = _find_sample_files(samples, [names[i] for i in range(len(names) - len(candidates), len(names))], series,
                               {name: [places[name][i] for i in needed] for name in names})  # fmt: skip
    # 3. Features, region by region, in several processes.
    tasks: list[Task] = []
    images: dict[str, np.ndarray] = {}
    for name, stack in series.items():
        hu = {i: read_slice(stack.paths[places[name][i]]).hu for i in needed}
        tasks += [(name, k, *cut_out(hu, region, settings)) for k, region in enumerate(regions)]
        images[name] = np.stack([hu[i] for i in needed])
    tasks += _sample_tasks(files, regions, places, geometry, settings)
    values: dict[Source, dict[int, Features]] = {source: {} for source, *_ in tasks}  # region -> features
    measured_before = MeasuredFeatures(kept, settings, geometry.voxel_mm)
    for source, k, result in measure_all(tasks, settings, geometry.voxel_mm, workers, progress, measured_before):
        values[source][k] = result
    # 4. All together.
    inside = np.zeros((len(needed), *geometry.shape[1:]), bool)
    for region in regions:
        inside[np.isin(needed, _range(region))] |= region.mask
    columns, numbers = feature_names(settings), range(len(regions))
    measured = {source: np.array([[found[k][c] for c in columns] for k in numbers]) for source, found in values.items()}
    return Evaluation(
        standard=names[0],
        baseline=None if baseline is None else names[1],
        series=series,
        regions=regions,
        features={name: measured[name] for name in names},
        undefined={name: [values[name][k].undefined for k in numbers] for name in names},
        images=images,
        inside=inside,
        settings=settings,
        remarks=remarks,
        samples={
            name: np.stack([measured[source] for source in measured if isinstance(source, tuple) and source[0] == name])
            for name in files
        },
        measured_before=measured_before.found,
    )


def _check_out(out: Path, inputs: Sequence[PathLike]) -> None:
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UsageError(f'`out` must be a new folder, "{out}" exists already; choose another or remove it')
    for folder in inputs:
        if Path(os.path.realpath(out)).is_relative_to(os.path.realpath(folder)):
            raise UsageError(f'`out` must be outside of the inputs, "{out}" lies inside "{folder}"')


def _names(folders: Sequence[PathLike]) -> list[str]:
    """Return a short name for each folder: as many of its last parts as are needed to distinguish them."""
    paths = [Path(os.path.realpath(folder)) for folder in folders]
    for path in paths:
        if paths.count(path) > 1:
            raise UsageError(f'each series must be given once, "{path}" is given {paths.count(path)} times')
    for parts in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-parts:]) for path in paths]
        if len(set(names)) == len(names):
            break
    return names


def _match(series: dict[str, Series], geometry: Geometry) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return name -> index of the slice at each position of the standard, -1 where there is none; and remarks."""
    standard, places, remarks = next(iter(series)), {}, []
    for name, stack in series.items():
        for remark in stack.remarks:  # a report may be shared: it has names of files, not their folders
            for path in stack.paths:
                remark = remark.replace(f'"{path}"', f'"{path.name}"')
            remarks.append(f"{name}: {remark}")
        try:
            places[name] = match_slices(geometry, stack.geometry)
        except ValueError as error:
            both = f'"{stack.folder}" does not match the standard "{series[standard].folder}"'
            raise ValueError(f"{both}: {error}") from None
        matched = int((places[name] >= 0).sum())
        if matched < geometry.shape[0] or matched < stack.geometry.shape[0]:
            remarks.append(
                f"{name}: {matched} of its {stack.geometry.shape[0]} slices match one of the standard's "
                f"{geometry.shape[0]}; the others were not used"
            )
        if not stack.geometry.frames_of_reference & geometry.frames_of_reference and geometry.frames_of_reference:
            remarks.append(
                f"{name}: its frame of reference is not the standard's; as their coordinates are equal, both are assumed "
                "to show one scan"
            )
    return places, remarks


def _with_frames_of_reference(geometry: Geometry, series: dict[str, Series]) -> Geometry:
    """Return the standard's geometry with the frames of all series, as a mask may have been drawn on any of them."""
    frames = frozenset().union(*(stack.geometry.frames_of_reference for stack in series.values()))
    return Geometry(
        geometry.shape, geometry.spacing_mm, geometry.directions, geometry.origins_mm, geometry.thickness_mm, frames
    )


def find_regions(
    labelled: dict[str, np.ndarray],
    geometry: Geometry,
    everywhere: np.ndarray,
    series: dict[str, Series],
    places: dict[str, np.ndarray],
) -> list[Region]:
    """Return the parts of every label that form a volume each.

    Args:
        labelled: Name -> (slices, rows, columns) bool.
        geometry: Geometry of the series that the mask lies on.
        everywhere: (slices,) bool, whether all series have the slice.
        series, places: Name -> series, and index of its slice at each position, to name one that lacks a slice.

    Raises:
        ValueError: if a region touches a slice that a series lacks.
    """
    regions = []
    for label, mask in labelled.items():
        touched: np.ndarray = np.any(mask, axis=(1, 2))  # [slices]
        runs = [run for run in geometry.contiguous() if touched[run].any()]
        for run in runs:
            inside = np.flatnonzero(touched[run]) + run.start
            slices = slice(int(inside[0]), int(inside[-1]) + 1)
            absent = [i for i in range(slices.start, slices.stop) if not everywhere[i]]
            if absent:
                lacking = next(name for name in series if places[name][absent[0]] < 0)
                raise ValueError(
                    f'"{series[lacking].folder}" has no slice at {geometry.positions_mm[absent[0]]:.2f} mm, which the '
                    f"region {label!r} needs:\n  standard: {geometry}\n  series:   {series[lacking].geometry}"
                )
            name = label if len(runs) == 1 else f"{label} at {geometry.positions_mm[slices.start]:.1f} mm"
            regions.append(Region(name, label, slices, mask[slices]))
    return regions


def _split_remarks(labelled: dict[str, np.ndarray], regions: list[Region]) -> list[str]:
    labels = [region.label for region in regions]
    split = [label for label in labelled if labels.count(label) > 1]
    return [
        f"region {label!r} was measured in {labels.count(label)} parts, as its slices are too far apart; parts of a "
        "region count as one tumour in the intervals"
        for label in split
    ]


def _range(region: Region) -> range:
    """Return the slices of a region."""
    return range(region.slices.start, region.slices.stop)


def cut_out(hu: dict[int, np.ndarray], region: Region, settings: RadiomicSettings) -> tuple[np.ndarray, np.ndarray]:
    """Return HU and mask around a region, wide enough that the features are those of the whole image."""

    def widened(axis: int) -> slice:
        inside = np.flatnonzero(region.mask.any(axis=(0, 3 - axis)))
        return slice(max(int(inside[0]) - settings.margin, 0), int(inside[-1]) + settings.margin + 1)

    rows, columns = widened(1), widened(2)
    return np.stack([hu[i][rows, columns] for i in _range(region)]), region.mask[:, rows, columns]


def _find_sample_files(
    folders: Sequence[PathLike], candidates: list[str], series: dict[str, Series], needed: dict[str, list[int]]
) -> dict[str, dict[int, Path]]:
    """Return candidate -> index of each needed slice -> file of its samples; candidates without samples are left out.

    Raises:
        ValueError: naming them, if a folder belongs to no candidate, or lacks a slice of its candidate.
    """
    result: dict[str, dict[int, Path]] = {}
    for folder in folders:
        found, owner = find_samples(folder), None
        for name in candidates:
            paths = [series[name].paths[i] for i in needed[name]]
            uids = [str(read_dataset(path, header_only=True).get("SOPInstanceUID")) for path in paths]
            missing = [path for path, uid in zip(paths, uids) if uid not in found]
            if len(missing) == len(paths):
                continue
            if name in result:
                raise ValueError(
                    f'samples "{folder}" belong to "{series[name].folder}", whose samples are already given'
                )
            if missing:
                raise ValueError(
                    f'samples "{folder}" lack {len(missing)} of the {len(paths)} slices of '
                    f'"{series[name].folder}" that the regions need, such as "{missing[0]}"'
                )
            owner, result[name] = name, {i: found[uid] for i, uid in zip(needed[name], uids)}
        if owner is None:
            both = ", ".join(f'"{series[name].folder}"' for name in candidates)
            raise ValueError(
                f'samples "{folder}" do not belong to the slices that the regions need of {both}: no '
                "SOPInstanceUID matches. They were made in another run than the candidate"
            )
    return result


def _sample_tasks(
    files: dict[str, dict[int, Path]],
    regions: Sequence[Region],
    places: dict[str, np.ndarray],
    geometry: Geometry,
    settings: RadiomicSettings,
) -> Iterator[Task]:
    """Yield every region of every sample, in the order of the samples for each region."""
    for name, of_slice in files.items():
        counts: dict[int, Path] = {}
        for k, region in enumerate(regions):
            stacks = {}
            for i in _range(region):
                path = of_slice[places[name][i]]
                stacks[i] = _read_samples(path, geometry)
                counts.setdefault(len(stacks[i]), path)
                if len(counts) > 1:
                    both = " and ".join(f'"{path}" has {count}' for count, path in counts.items())
                    raise ValueError(f"every slice must have the same number of samples: {both}")
            for number in range(next(iter(counts))):
                hu = {i: stack[number].astype(np.float32) for i, stack in stacks.items()}
                yield ((name, number), k, *cut_out(hu, region, settings))


def _read_samples(path: Path, geometry: Geometry) -> np.ndarray:
    """Read samples (K, rows, columns) from a file, and check them against the grid of the standard."""
    record = SliceSamples.read(path)
    rows, columns = record.samples.shape[1:]
    apart = abs(record.spacing_mm - geometry.spacing_mm)
    if (rows, columns) != geometry.shape[1:] or apart > SAME_SPACING * geometry.spacing_mm:
        raise ValueError(
            f'"{path}" must have the geometry of the standard, got {rows} x {columns} pixels of '
            f"{record.spacing_mm:.4g} mm:\n  {geometry}"
        )
    try:
        require_samples(len(record.samples))
    except ValueError as error:
        raise ValueError(f'"{path}": {error}') from None
    return record.samples
