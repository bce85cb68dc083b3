"""Write the report of `evaluate_series`: tables as CSV and Markdown, figures, and notes on how to read them."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Sequence
from dataclasses import astuple, fields
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from scipy.ndimage import binary_fill_holes

from ..metrics.agreement import (
    ALL,
    REPRODUCIBLE,
    ClassAgreement,
    agreement_by_class,
    feature_ccc,
    relative_error,
    reproducible_fraction,
)
from ..metrics.combat import combat
from ..metrics.image_metrics import SCORED_WINDOW_HU, bias_hu, noise_power_spectrum, nps_distance, psnr, rmse_hu, ssim
from ..metrics.uncertainty import LEVEL, WIDENING, coverage_by_class, covers, relative_width, sample_intervals
from ..radiomics import (
    CT_NUMBER_OF_WATER,
    FEATURE_CLASSES,
    duplicate_features,
    feature_class,
    feature_names,
    least_value,
)
from ..reporting.plots import (
    plot_bland_altman,
    plot_class_boxes,
    plot_noise_power,
    plot_panel,
    plot_reproducible_features,
    save_figures,
)
from ..reporting.tables import Table, class_table, count_cell, table1
from ..utils.version import __version__

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .result import Evaluation

Agreements: TypeAlias = dict[str, dict[str, dict[str, ClassAgreement]]]  # "all" or "distinct" -> system -> class
Spectra: TypeAlias = dict[str, tuple[np.ndarray, np.ndarray]]  # system -> frequency in lp/cm, power in HU^2 mm^2

FEWEST_FOR_CCC = 3  # regions: one has no spread, and two always lie on a line
FEW = 10  # tumours up to which bootstrap intervals are too low (see ClassAgreement)
RESAMPLES = 1000  # so that the 2.5 % quantile is based on 25 of them
BODY_HU = -500.0  # between lung and soft tissue: the patient is above it, or enclosed by what is
BOX_MARGIN = 12  # pixels around the tumour in the panel
BLAND_ALTMAN = ("ID/GlobalMean", "ID/GlobalStd", "GLCM25/Contrast/d=1/dir=sum/bins={levels}")


def write_report(
    evaluation: Evaluation,
    folder: str | os.PathLike,
    *,
    mask: str | os.PathLike = "",
    use_combat: bool = False,
    use_images: bool = True,
    formats: Sequence[str] = (".png",),
) -> None:
    """Write features.csv, agreement.csv, report.md and the figures, and intervals.csv if there are samples.

    Args:
        evaluation: From `compare_series`.
        folder: An existing folder.
        mask: Name of the mask's file, for the report.
        use_combat: Whether to report every system also after ComBat, see `after_combat`.
        use_images: Whether to compare the images, too: their error, noise power and a picture.
        formats: Suffixes of the figures.
    """
    folder = Path(folder)
    names = feature_names(evaluation.settings)
    distinct = np.array([name not in duplicate_features(evaluation.settings) for name in names])
    labels = [region.label for region in evaluation.regions]
    target = evaluation.features[evaluation.standard]

    # 1. Agreement of every system; after ComBat, with the standard that ComBat returned.
    pairs = {name: (values, target) for name, values in evaluation.systems.items()}
    combat_remarks = []
    if use_combat:
        for name, values in evaluation.systems.items():
            try:
                pairs[f"{name} + ComBat"] = after_combat(values, target, distinct)
            except ValueError as error:
                combat_remarks.append(f"ComBat of {name} was not possible: {error}")
    resamples = RESAMPLES if len(set(labels)) >= FEWEST_FOR_CCC else 0
    agreements: Agreements = {"all": {}, "distinct": {}}
    for name, (source, standard) in pairs.items():
        for title, chosen in (("all", np.ones(len(names), bool)), ("distinct", distinct)):
            if title == "all" and name not in evaluation.systems:
                continue  # ComBat uses distinct features only
            agreements[title][name] = agreement_by_class(
                source[:, chosen], standard[:, chosen], [n for n, c in zip(names, chosen) if c],
                tumours=labels, resamples=resamples,
            )  # fmt: skip
    has_ccc = len(evaluation.regions) >= FEWEST_FOR_CCC
    # 2. Files.
    write_features(evaluation, folder / "features.csv")
    write_agreement(agreements, folder / "agreement.csv", has_ccc)
    if evaluation.samples:
        write_intervals(evaluation, folder / "intervals.csv")
    metrics, spectra, remarks = image_table(evaluation) if use_images else (None, {}, [])
    figures = write_figures(evaluation, folder, spectra, has_ccc, use_images=use_images, formats=formats)
    # 3. The text.
    text = [
        *_head(evaluation, mask),
        "## Relative error\n",
        *_relative_errors(evaluation, pairs, agreements),
        "## Concordance\n",
        *_concordance(evaluation, agreements, has_ccc, len(set(labels))),
        *_uncertainty(evaluation),
        "## Undefined and duplicate features\n",
        *_undefined(evaluation, distinct),
        *(["## Images\n", metrics.markdown()] if metrics is not None else ["## Figures\n"]),
        *(f"![{caption}]({name})\n\n{caption}.\n" for name, caption in figures.items()),
        *_notes([*evaluation.remarks, *combat_remarks, *remarks], use_combat),
    ]
    if has_ccc:
        text.append("## Every class\n")
        text += [class_table(rows, f"{name}: all features").markdown() for name, rows in agreements["all"].items()]
    (folder / "report.md").write_text("\n".join(text), encoding="utf-8")


def after_combat(source: np.ndarray, target: np.ndarray, distinct: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Move features (regions, F) of a system and of the standard to their common mean and spread by ComBat.

    This is possible only for distinct features that are defined and vary in both; the others become NaN.

    Raises:
        ValueError: for too few regions or features.
    """
    both = np.concatenate([source, target])
    usable = distinct & np.isfinite(both).all(0)
    for part in (source, target):
        spread = np.ptp(np.where(usable, part, 0), axis=0)
        usable &= spread > 1e-9 * np.abs(np.where(usable, part, 0)).max(0)
    if len(source) < FEWEST_FOR_CCC or usable.sum() < 2:
        raise ValueError(
            f"it needs at least {FEWEST_FOR_CCC} regions and 2 features that vary, got {len(source)} and "
            f"{int(usable.sum())}"
        )
    corrected = np.full(both.shape, np.nan)
    corrected[:, usable] = combat(both[:, usable], np.repeat([0, 1], [len(source), len(target)]))
    return corrected[: len(source)], corrected[len(source) :]


def write_features(evaluation: Evaluation, path: Path) -> None:
    """Write one row per region and feature: values, relative errors, why a value is undefined. Undefined cells are empty."""
    names = feature_names(evaluation.settings)
    twins = duplicate_features(evaluation.settings)
    target = evaluation.features[evaluation.standard]
    errors = {name: relative_error(values, target) for name, values in evaluation.systems.items()}
    with open(path, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["region", "voxels", "slices", "class", "feature", "same_as", *evaluation.features,
                       *(f"relative error {name}" for name in errors), "undefined"])  # fmt: skip
        for k, region in enumerate(evaluation.regions):
            head = [region.name, int(region.mask.sum()), region.slices.stop - region.slices.start]
            for j, name in enumerate(names):
                reasons = {reasons[k][name] for reasons in evaluation.undefined.values() if name in reasons[k]}
                rows.writerow([
                    *head, feature_class(name), name, twins.get(name, ""),
                    *(_cell(values[k, j]) for values in evaluation.features.values()),
                    *(_cell(error[k, j]) for error in errors.values()), "; ".join(sorted(reasons)),
                ])  # fmt: skip


def write_agreement(agreements: Agreements, path: Path, has_ccc: bool) -> None:
    """Write one row per system, set of features (all, distinct) and class; the columns are those of `ClassAgreement`."""
    columns, numbers = [], [f.name for f in fields(ClassAgreement)]
    for name in numbers:
        columns += [f"{name}_low", f"{name}_high"] if name.endswith("_interval") else [name]
    with open(path, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["system", "set", "class", *columns])
        for title, systems in agreements.items():
            for system, classes in systems.items():
                for name, row in classes.items():
                    cells: list[str] = []
                    for number, value in zip(numbers, astuple(row)):
                        value = None if number.startswith("ccc") and not has_ccc else value
                        if number.endswith("_interval"):
                            cells += ["", ""] if value is None else map(_cell, value)
                        else:
                            cells.append("" if value is None else _cell(value))
                    rows.writerow([system, title, name, *cells])


def write_intervals(evaluation: Evaluation, path: Path) -> None:
    """Write one row per candidate with samples, region and feature: the interval over samples and the standard's value."""
    names = feature_names(evaluation.settings)
    target = evaluation.features[evaluation.standard]
    with open(path, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["system", "region", "class", "feature", "standard", "first_sample", "low", "high", "covered",
                       "relative_width", "samples"])  # fmt: skip
        for system, samples in evaluation.samples.items():
            low, high = _intervals(samples, names)
            held, width = covers(low, high, target), relative_width(low, high, target)
            for k, region in enumerate(evaluation.regions):
                for j, name in enumerate(names):
                    numbers = (target[k, j], samples[0, k, j], low[k, j], high[k, j])
                    has_both = np.isfinite([target[k, j], low[k, j], high[k, j]]).all()
                    rows.writerow([
                        system, region.name, feature_class(name), name, *map(_cell, numbers),
                        int(held[k, j]) if has_both else "", _cell(width[k, j]), len(samples),
                    ])  # fmt: skip


def image_table(evaluation: Evaluation) -> tuple[Table, Spectra, list[str]]:
    """Compute image metrics on the slices that hold a region: the table, the noise power spectra and remarks."""
    reference = evaluation.images[evaluation.standard]
    spacing_mm = evaluation.series[evaluation.standard].geometry.spacing_mm
    body = np.stack([binary_fill_holes(hu > BODY_HU) for hu in reference])
    spectra, remarks, rows = {}, [], []
    try:
        spectra = {name: noise_power_spectrum(hu, spacing_mm, body) for name, hu in evaluation.images.items()}
    except ValueError as error:
        remarks.append(f"noise power is left out: {error}")
    for name in evaluation.systems:
        hu = evaluation.images[name]
        distance = "–"
        if spectra:
            try:
                distance = f"{nps_distance(hu, reference, spacing_mm, body):.2f}"
            except ValueError as error:
                remarks.append(f"{name}: distance of noise power is left out: {error}")
        rows.append((
            name,
            f"{rmse_hu(hu, reference, evaluation.inside):.1f}",
            f"{bias_hu(hu, reference, evaluation.inside):+.1f}",
            f"{psnr(hu, reference):.2f}",
            f"{np.mean([ssim(a, b) for a, b in zip(hu, reference)]):.4f}",
            distance,
        ))  # fmt: skip
    title = (
        f"Images: error within the regions in HU; PSNR and SSIM of the whole slices at {SCORED_WINDOW_HU[0]:g} to "
        f"{SCORED_WINDOW_HU[1]:g} HU; mean distance of the noise power spectra in dB"
    )
    columns = ("System", "RMSE (HU)", "bias (HU)", "PSNR (dB)", "SSIM", "noise power (dB)")
    return Table(title, columns, tuple(rows)), spectra, remarks


def write_figures(
    evaluation: Evaluation,
    folder: Path,
    spectra: Spectra,
    has_ccc: bool,
    *,
    use_images: bool = True,
    formats: Sequence[str] = (".png",),
) -> dict[str, str]:
    """Write the figures in every format, and return the name of the file in the first one -> caption."""
    names = feature_names(evaluation.settings)
    target = evaluation.features[evaluation.standard]
    systems = evaluation.systems
    figures = {}

    def add(name: str, caption: str, figure: Figure) -> None:
        figures[save_figures(figure, folder / name, formats)[0].name] = caption

    figure = plot_reproducible_features(systems, target, input_name=evaluation.baseline or "", published=False)
    add("reproducible_features.png", "Features within a relative error, mean over the regions", figure)
    if use_images:
        add("panel.png", "The slice with the largest section of a region", _panel(evaluation, has_ccc))
    if spectra:
        caption = "Noise power within the patient (it includes the anatomy, which all systems share)"
        add("noise_power.png", caption, plot_noise_power(spectra))
    if has_ccc:
        add("class_boxes.png", "Concordance of each feature by class: median, quartiles, 5 to 95 %",
            plot_class_boxes(systems, target, names))  # fmt: skip
        for number, (name, values) in enumerate(systems.items(), start=1):
            for short, feature in zip(("mean", "std", "contrast"), BLAND_ALTMAN):
                feature = feature.format(levels=evaluation.settings.levels)
                column = names.index(feature)
                unit = "CT number" if feature.startswith("ID/") else ""
                figure = plot_bland_altman(values[:, column], target[:, column], label=f"{name}: {feature}", unit=unit)
                add(f"bland_altman_{number}_{short}.png", f"Bland and Altman, {name}: {feature}", figure)
    return figures


def _panel(evaluation: Evaluation, has_ccc: bool) -> Figure:
    """Plot the paper's Figure 5 for the slice with the largest section."""
    areas = evaluation.inside.sum((1, 2))
    index = int(areas.argmax())
    shown = sorted({i for g in evaluation.regions for i in range(g.slices.start, g.slices.stop)})
    sections = [g.mask[shown[index] - g.slices.start] for g in evaluation.regions
                if g.slices.start <= shown[index] < g.slices.stop]  # fmt: skip
    largest = max(sections, key=np.count_nonzero)
    (top, bottom), (left, right) = (
        (max(places.min() - BOX_MARGIN, 0), min(places.max() + BOX_MARGIN + 1, size))
        for places, size in zip(np.nonzero(largest), largest.shape)
    )
    names = feature_names(evaluation.settings)
    glcm = np.array([feature_class(name) == "GLCM" for name in names])
    target, scores = evaluation.features[evaluation.standard][:, glcm], {}
    for name, values in evaluation.systems.items():
        if has_ccc:
            scores[name] = f"CCC of GLCM {np.nanmean(feature_ccc(values[:, glcm], target)):.2f}"
        else:
            share = reproducible_fraction(values[:, glcm], target)
            scores[name] = f"GLCM within RE {REPRODUCIBLE:g}: {share:.0%}"
    images = {name: images[index] for name, images in evaluation.images.items()}
    order = [*evaluation.systems, evaluation.standard]
    titles = {name: f"{name} (standard)" if name == evaluation.standard else name for name in order}
    scores = {titles[name]: text for name, text in scores.items()}
    return plot_panel({titles[n]: images[n] for n in order}, (top, left, bottom - top, right - left), scores=scores)


def _head(evaluation: Evaluation, mask: str | os.PathLike) -> list[str]:
    """Return the lines on what was compared."""
    geometry = evaluation.series[evaluation.standard].geometry
    regions, labels = evaluation.regions, {region.label for region in evaluation.regions}
    rows = []
    for name, series in evaluation.series.items():
        role = {evaluation.standard: "standard", evaluation.baseline: "baseline"}.get(name, "candidate")
        rows.append((name, role, series.kernel or "–", str(series.geometry.shape[0])))
    voxels = [int(region.mask.sum()) for region in regions]
    size = f"{min(voxels):,}" + (f" to {max(voxels):,}" if max(voxels) > min(voxels) else "")
    single = sum(region.slices.stop - region.slices.start == 1 for region in regions)
    flat = f", {single} of them in a single slice" if single else ""
    s = evaluation.settings
    limits = f"CT numbers {s.grey_limits[0]:g} to {s.grey_limits[1]:g}" if s.grey_limits else "each region's own range"
    return [
        "# Agreement of radiomic features\n",
        Table("Series", ("Name", "role", "kernel", "slices"), tuple(rows)).markdown(),
        f"- Regions: {len(regions)}, of {len(labels)} tumours (labels) in `{Path(mask).name}`{flat}; {size} voxels.",
        f"- Grid of the standard: {geometry}.",
        f"- {len(feature_names(s)):,} features in six classes, {s.levels} grey levels over {limits}. DiffusionCT "
        f"{__version__}. Research use, not a medical device.\n",
    ]


def _relative_errors(
    evaluation: Evaluation, pairs: dict[str, tuple[np.ndarray, np.ndarray]], agreements: Agreements
) -> list[str]:
    """Return the table of relative errors, which needs no minimum of regions."""
    names = feature_names(evaluation.settings)
    classes = np.array([feature_class(name) for name in names])
    base = agreements["all"][evaluation.baseline][ALL].reproducible if evaluation.baseline else None
    rows = []
    for name, (source, target) in pairs.items():
        error = relative_error(source, target)
        cells = []
        for c in FEATURE_CLASSES:
            of_class = error[:, classes == c]
            defined = of_class[~np.isnan(of_class)]
            cells.append(f"{np.median(defined):.3f} ({np.mean(defined < REPRODUCIBLE):.0%})" if len(defined) else "–")
        every, gain = "–", "–"
        if name in agreements["all"]:
            row = agreements["all"][name][ALL]
            every = count_cell(row)
            gain = "–" if not base or name == evaluation.baseline else f"{row.reproducible / base - 1:+.0%}"
        rows.append((name, *cells, every, count_cell(agreements["distinct"][name][ALL]), gain))
    title = (
        f"Relative error: median, and share below {REPRODUCIBLE:g}, by class; counts per region, of the features that have "
        "one, whose number is given, too"
    )
    columns = ("System", *FEATURE_CLASSES, f"below {REPRODUCIBLE:g}", "distinct ones", "gain over baseline")
    return [Table(title, columns, tuple(rows)).markdown()]


def _concordance(evaluation: Evaluation, agreements: Agreements, has_ccc: bool, tumours: int) -> list[str]:
    if not has_ccc:
        count = len(evaluation.regions)
        return [
            f"Concordance (CCC) describes how features vary across tumours. With {count} region{'s' * (count > 1)} it "
            f"is not meaningful and therefore not given; it needs {FEWEST_FOR_CCC}, and is of little value with fewer "
            f"than {FEW}. The relative error above applies to {'this tumour' if count == 1 else 'these tumours'} "
            "only.\n"
        ]
    lines = []
    for which, systems in agreements.items():
        table = table1(systems, published=False, input_name=evaluation.baseline or "")
        lines.append(Table(f"{table.title}: {which} features", table.columns, table.rows).markdown())
    if 1 < tumours <= FEW:
        lines.append(
            f"With {tumours} tumours the concordance is imprecise, and its intervals (95 %, bootstrap over "
            "tumours) are too low.\n"
        )
    return lines


def _uncertainty(evaluation: Evaluation) -> list[str]:
    """Return the lines on intervals over samples; none without samples."""
    if not evaluation.samples:
        return []
    names = feature_names(evaluation.settings)
    lines = ["## Uncertainty\n"]
    for system, samples in evaluation.samples.items():
        classes = coverage_by_class(*_intervals(samples, names), evaluation.features[evaluation.standard], names)
        rows = tuple(
            (name, f"{row.pairs:,}", _share(row.covered), _share(row.median_width), f"{row.undefined:.1%}")
            for name, row in classes.items()
        )
        title = (
            f"{system}: {LEVEL:.0%} intervals of each feature of each region over {len(samples)} samples, against "
            "the standard's value"
        )
        columns = ("Class", "pairs", "standard within", "median width, relative", "undefined pairs")
        lines.append(Table(title, columns, rows).markdown())
    lines.append(
        f"Intervals are the 5th to 95th percentiles of the samples, {WIDENING} times as far from the median, so that "
        f"{LEVEL:.0%} of them cover the truth on simulated tumours. A smaller share means that the model is overconfident "
        "here, or biased; a larger one that it is underconfident. Features of one region are not "
        "independent. Percentiles are at rank p (K + 1) of K samples (Weibull); all numbers are in intervals.csv.\n"
    )
    return lines


def _intervals(samples: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return both ends (regions, F) of the intervals over samples (K, regions, F)."""
    return sample_intervals(samples, widening=WIDENING, least=[least_value(name) for name in names])


def _undefined(evaluation: Evaluation, distinct: np.ndarray) -> list[str]:
    """Return the lines on how many features have no value, why, and how many are copies."""
    total = len(evaluation.regions) * len(distinct)
    counts: dict[str, int] = {}
    for reasons in evaluation.undefined[evaluation.standard]:
        for reason in reasons.values():
            reason = re.sub(r"\b\d+(\.\d+)? %", "a share", reason)  # the same reason with different numbers
            counts[reason] = counts.get(reason, 0) + 1
    lines = [
        f"- {int((~distinct).sum())} of the {len(distinct):,} features repeat another by construction (in-plane GLCM3 "
        "and GLCM25, Variance and ClusterTendency, quantiles and percentiles): `same_as` in features.csv. The distinct ones count "
        "every measurement once.",
        f"- Undefined in the standard: {sum(counts.values()):,} of {total:,} values"
        + ("." if not counts else ": " + "; ".join(f"{n:,} {reason}" for reason, n in counts.items()) + "."),
    ]
    for name, values in evaluation.features.items():
        finite = np.isfinite(values).mean()
        lines.append(f"- Finite share in {name}: {finite:.2%}.")
    return [*lines, ""]


def _notes(remarks: list[str], use_combat: bool) -> list[str]:
    notes = [
        "Relative error is |value - standard| / |standard|; the published work divides by the signed value. It is not "
        "defined for a standard of 0.",
        "A feature without a relative error (undefined in either, or 0 in the standard) counts neither as reproducible nor "
        "as irreproducible, and is left out of shares, medians and counts. One that is undefined in more than half of the "
        "pairs has no concordance.",
        f"{REPRODUCIBLE:.0%} of an intensity feature are {REPRODUCIBLE:.0%} of a CT number, which is HU + "
        f"{CT_NUMBER_OF_WATER:g}: {REPRODUCIBLE * 936:.0f} HU for the mean of a tumour at -64 HU, CT number 936. So the "
        "agreement of such features means little.",
        "CCC is computed for each feature across regions and then averaged over the class. Eq. 2 of the published work "
        "pools a class instead: the features with the largest numbers dominate it, and it is near 1 for almost any "
        "input. It is given in the detailed tables only.",
        "InverseDiffMomentNorm, InverseDiffNorm and the range of GOH agree almost always; InformationMeasureCorr1, "
        "ClusterShade, Skewness, the correlation at long offsets and local minima almost never do.",
    ]
    if use_combat:
        notes.append(
            "ComBat moves a system and the standard to a common mean and spread, feature by feature, with the "
            "same regions that are then compared; it makes no image. Its rows compare both after it, and their "
            "counts leave out features that are undefined, constant or duplicates."
        )
    if remarks:
        remarks = ["## Remarks on this run\n", *(f"- {remark}" for remark in remarks), ""]
    return [*remarks, "## How to read this\n", *(f"- {note}" for note in notes), ""]


def _share(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.0%}"


def _cell(value: float) -> str:
    """Return a number for a CSV file: all digits, empty where undefined."""
    return str(value) if isinstance(value, int) else "" if np.isnan(value) else f"{value:.10g}"
