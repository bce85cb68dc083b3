"""How well CT series agree with a standard one in the radiomic features of given tumours; see `evaluate_series`.

OUT/report.md        what was compared and how well it agrees, with the figures
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

    What is measured is kept beside `out`, in a hidden folder, until the report is there: a call after an
    interruption, the same or one with other series of the same regions, resumes with it.

    Args:
        standard: Folder with the series that the others should look like.
        candidates: Folders with the series to judge.
        mask: File with the tumours, see `read_mask`; on the grid of the standard. Slices of an .npz go by ascending
            position along the normal.
        out: New folder, outside of the others. It appears when it is complete.
        baseline: Folder with the unconverted series, to which gains refer.
        labels: Labels of the mask to measure; None: all.
        names: What the series are called in tables and figures: the standard, the baseline if there is one, the candidates.
            None: as their folders.
        samples: Folders `OUT/samples` of `diffusionct standardize --samples`, at least 20 samples a slice. Which
            candidate they belong to is told by the SOPInstanceUIDs. They are measured only where they are named here,
            because every sample takes as long as a series.
        use_combat: Also report every system after ComBat of its features and the standard's.
        use_images: Also compare the images themselves: their error, noise power and a picture.
        formats: Suffixes of the figures: .png, .pdf and .svg.
        workers: Processes; None: one per core.
        progress: Called as progress(done, total) after each region of each series.

    Returns:
        Evaluation.

    Raises:
        ValueError: `out` exists or lies in an input, a series, the mask or samples cannot be used, or geometries
            differ.
        OSError: A file cannot be read or written.
        ImportError: matplotlib or the reader of the mask's format is missing.
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
    """Extract the features of every region of the mask from every series; arguments as in `evaluate_series`.

    `kept` is a folder for what is measured, and for what an interrupted run has measured; None for none.

    A region is measured in three dimensions where the slices around it form a volume; where they do not (a gap, or
    slices far apart for their thickness) each part is a region of its own.
    """
    # 1. Series and mask, by their headers: one grid for all.
    folders = [standard, *([] if baseline is None else [baseline]), *candidates]
    by_folder = _names(folders)
    names = by_folder if names is None else list(names)
    if len(set(names)) < len(folders) or len(names) != len(folders):
        raise UsageError(f"names are {names}; must be {len(folders)} different ones, one for each series")
    series = {name: find_series(folder) for name, folder in zip(names, folders)}
    geometry = series[names[0]].geometry
    places, remarks = _match(series, geometry)
    everywhere = np.all([index >= 0 for index in places.values()], axis=0)  # [slices]
    labelled = read_mask(mask, _with_frames_of_reference(geometry, series), labels, remarks)
    # 2. Regions that lie in one volume, and the slices that these need.
    regions = find_regions(labelled, geometry, everywhere, series, places)
    remarks += _split_remarks(labelled, regions)
    needed = sorted({i for g in regions for i in _range(g)})
    files = _find_sample_files(samples, [names[i] for i in range(len(names) - len(candidates), len(names))], series,
                               {name: [places[name][i] for i in needed] for name in names})  # fmt: skip
    # 3. Features, region by region, in several processes.
    tasks, images = [], {}
    for name, stack in series.items():
        hu = {i: read_slice(stack.paths[places[name][i]]).hu for i in needed}
        tasks += [(name, k, *cut_out(hu, region, settings)) for k, region in enumerate(regions)]
        images[name] = np.stack([hu[i] for i in needed])
    tasks += _sample_tasks(files, regions, places, geometry, settings)
    values: dict[Source, list[Features | None]] = {source: [None] * len(regions) for source, *_ in tasks}
    measured_before = MeasuredFeatures(kept, settings, geometry.voxel_mm)
    for source, k, result in measure_all(tasks, settings, geometry.voxel_mm, workers, progress, measured_before):
        values[source][k] = result
    # 4. Everything in one place.
    inside = np.zeros((len(needed), *geometry.shape[1:]), bool)
    for region in regions:
        inside[np.isin(needed, _range(region))] |= region.mask
    columns = feature_names(settings)
    measured = {source: np.array([[f[c] for c in columns] for f in found]) for source, found in values.items()}
    return Evaluation(
        standard=names[0],
        baseline=None if baseline is None else names[1],
        series=series,
        regions=regions,
        features={name: measured[name] for name in names},
        undefined={name: [f.undefined for f in values[name]] for name in names},
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
        raise UsageError(f'out "{out}" exists already; choose a new folder or remove it')
    for folder in inputs:
        if Path(os.path.realpath(out)).is_relative_to(os.path.realpath(folder)):
            raise UsageError(f'out "{out}" lies inside the input "{folder}"; choose a folder outside of the inputs')


def _names(folders: Sequence[PathLike]) -> list[str]:
    """A short name for each folder: as many of its last parts as it takes to tell them apart."""
    paths = [Path(os.path.realpath(folder)) for folder in folders]
    for path in paths:
        if paths.count(path) > 1:
            raise UsageError(f'"{path}" is given {paths.count(path)} times; each series must be given once')
    for parts in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-parts:]) for path in paths]
        if len(set(names)) == len(names):
            break
    return names


def _match(series: dict[str, Series], geometry: Geometry) -> tuple[dict[str, np.ndarray], list[str]]:
    """Name -> index of the slice at each position of the standard, -1 where there is none; and remarks."""
    standard, places, remarks = next(iter(series)), {}, []
    for name, stack in series.items():
        for remark in stack.remarks:  # a report may travel: names of files, not where they lie
            for path in stack.paths:
                remark = remark.replace(f'"{path}"', f'"{path.name}"')
            remarks.append(f"{name}: {remark}")
        try:
            places[name] = match_slices(geometry, stack.geometry)
        except ValueError as error:
            both = f'"{stack.folder}" does not fit the standard "{series[standard].folder}"'
            raise ValueError(f"{both}: {error}") from None
        matched = int((places[name] >= 0).sum())
        if matched < geometry.shape[0] or matched < stack.geometry.shape[0]:
            remarks.append(
                f"{name}: {matched} of its {stack.geometry.shape[0]} slices lie on one of the standard's "
                f"{geometry.shape[0]}; the others were not used"
            )
        if not stack.geometry.frames_of_reference & geometry.frames_of_reference and geometry.frames_of_reference:
            remarks.append(
                f"{name}: another frame of reference than the standard's; that both show one scan is taken "
                "from their equal coordinates"
            )
    return places, remarks


def _with_frames_of_reference(geometry: Geometry, series: dict[str, Series]) -> Geometry:
    """The standard's geometry with the frames of all series: a mask may have been drawn on any of them."""
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
    """The parts of every label that form a volume each.

    Args:
        labelled: Name -> (slices, rows, columns) bool.
        geometry: Of the series that the mask lies on.
        everywhere: (slices,) bool, whether all series have the slice.
        series, places: Name -> series, and index of its slice at each position, to say which one lacks a slice.

    Raises:
        ValueError: a region touches a slice that a series lacks.
    """
    regions = []
    for label, mask in labelled.items():
        touched = mask.any((1, 2))  # [slices]
        runs = [run for run in geometry.contiguous() if touched[run].any()]
        for run in runs:
            inside = np.flatnonzero(touched[run]) + run.start
            slices = slice(int(inside[0]), int(inside[-1]) + 1)
            absent = [i for i in range(slices.start, slices.stop) if not everywhere[i]]
            if absent:
                lacking = next(name for name in series if places[name][absent[0]] < 0)
                raise ValueError(
                    f'"{series[lacking].folder}" has no slice at {geometry.positions_mm[absent[0]]:.2f} mm, which the '
                    f"region {label!r} needs:\n  standard: {geometry}\n  there:    {series[lacking].geometry}"
                )
            name = label if len(runs) == 1 else f"{label} at {geometry.positions_mm[slices.start]:.1f} mm"
            regions.append(Region(name, label, slices, mask[slices]))
    return regions


def _split_remarks(labelled: dict[str, np.ndarray], regions: list[Region]) -> list[str]:
    labels = [region.label for region in regions]
    split = [label for label in labelled if labels.count(label) > 1]
    return [
        f"region {label!r} was measured in {labels.count(label)} parts, as its slices are far apart; parts of a "
        "region count as one tumour in the intervals"
        for label in split
    ]


def _range(region: Region) -> range:
    """Slices that the region takes."""
    return range(region.slices.start, region.slices.stop)


def cut_out(hu: dict[int, np.ndarray], region: Region, settings: RadiomicSettings) -> tuple[np.ndarray, np.ndarray]:
    """HU and mask around a region, wide enough that the features are those of the whole image."""
    box = []
    for axis in (1, 2):
        inside = np.flatnonzero(region.mask.any(axis=(0, 3 - axis)))
        box.append(slice(max(int(inside[0]) - settings.margin, 0), int(inside[-1]) + settings.margin + 1))
    image = np.stack([hu[i][tuple(box)] for i in _range(region)])
    return image, region.mask[(slice(None), *box)]


def _find_sample_files(
    folders: Sequence[PathLike], candidates: list[str], series: dict[str, Series], needed: dict[str, list[int]]
) -> dict[str, dict[int, Path]]:
    """Candidate -> index of each slice that it needs -> file of its samples; candidates without samples are left out.

    Raises:
        ValueError: A folder belongs to no candidate, or lacks a slice of its candidate; naming them.
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
                raise ValueError(f'samples "{folder}" are of "{series[name].folder}", whose samples are given already')
            if missing:
                raise ValueError(
                    f'samples "{folder}" lack {len(missing)} of the {len(paths)} slices of '
                    f'"{series[name].folder}" that the regions need: there are none of "{missing[0]}"'
                )
            owner, result[name] = name, {i: found[uid] for i, uid in zip(needed[name], uids)}
        if owner is None:
            both = ", ".join(f'"{series[name].folder}"' for name in candidates)
            raise ValueError(
                f'samples "{folder}" are not of the slices that the regions need of {both}: no '
                "SOPInstanceUID agrees. They were made in another run than the candidate"
            )
    return result


def _sample_tasks(
    files: dict[str, dict[int, Path]],
    regions: Sequence[Region],
    places: dict[str, np.ndarray],
    geometry: Geometry,
    settings: RadiomicSettings,
) -> Iterator[Task]:
    """Every region of every sample, in the order of the samples for each region."""
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
    """Samples (K, rows, columns) of a file, checked against the grid of the standard."""
    record = SliceSamples.read(path)
    rows, columns = record.samples.shape[1:]
    apart = abs(record.spacing_mm - geometry.spacing_mm)
    if (rows, columns) != geometry.shape[1:] or apart > SAME_SPACING * geometry.spacing_mm:
        raise ValueError(
            f'"{path}" has another geometry, {rows} x {columns} pixels of {record.spacing_mm:.4g} mm, '
            f"than the standard:\n  {geometry}"
        )
    try:
        require_samples(len(record.samples))
    except ValueError as error:
        raise ValueError(f'"{path}": {error}') from None
    return record.samples
