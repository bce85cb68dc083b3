"""The report of a study: Table 1 in both readings, Figures 4 and 5, the cost, and notes on how to read it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from ...evaluation.report import after_combat
from ...metrics.agreement import ALL, ClassAgreement, agreement_by_class
from ...radiomics import FEATURE_CLASSES, duplicate_features, feature_names
from ...reporting.plots import plot_accuracy_and_seconds, plot_panel, plot_reproducible_features, save_figure
from ...reporting.tables import Table, table1
from ...simulation.tumour_pairs import SOURCE, TARGET
from ...utils.files import write_whole
from ...utils.version import __version__
from ..training.rivals import LITERAL, RIVALS
from .any_to_any import plot_any_to_any
from .measuring import Measured
from .options import StudyOptions
from .rows import INPUT, LEAKED, LEAKY, ORACLE, REPEAT_SCAN, ROWS
from .test_sets import TestSet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESAMPLES = 1000  # the 2.5 % quantile then rests on 25 of them
OURS, ADAPTED = "DiffusionCT", "DiffusionCT, adapted"
NO_RIVALS = (INPUT, ORACLE, REPEAT_SCAN, LEAKY)  # rows that are not methods of standardization
# Figure 4 shows the paper's rows, two that it lacks, and the bound for all systems.
FIGURE4 = (
    INPUT, "linear filter, power", "conditional Gaussian", "U-Net, L1", "GANai", "STAN-CT", "RadiomicGAN", "encoder-decoder",
    "DDPM", "DiffusionCT (literal)", OURS, ADAPTED, REPEAT_SCAN,
)  # fmt: skip
BOX_PIXELS = 32  # of Figure 5's inset


@dataclass(frozen=True, eq=False)
class StudyResult:
    """Everything that a study measured.

    Attributes:
        options: Options of the study.
        test_sets: The test sets.
        targets: Test set -> features of the target itself.
        rows: Test set -> row -> measurements, in the order of `ROWS`.
        unfinished: Test set -> rows that were not finished in time.
        parameters: Row -> number of weights of its networks.
        training_seconds: Row -> duration of its training.
        grids: Result of `any_to_any`, or None.
    """

    options: StudyOptions
    test_sets: list[TestSet]
    targets: dict[str, Measured]
    rows: dict[str, dict[str, Measured]]
    unfinished: dict[str, list[str]]
    parameters: dict[str, int]
    training_seconds: dict[str, float]
    grids: dict[str, np.ndarray] | None

    def agreement(self, name: str) -> dict[str, dict[str, ClassAgreement]]:
        """Compute row -> class -> agreement on a test set, with intervals over tumours."""
        target = self.targets[name].features
        return {
            row: agreement_by_class(measured.features, target, feature_names(), resamples=RESAMPLES)
            for row, measured in self.rows[name].items()
        }


def write_study(result: StudyResult, folder: Path) -> None:
    """Write report.md, tables (.csv, .md, .tex), features of every region (.csv) and figures into a folder."""
    text = [*_head(result)]
    for test_set in result.test_sets:
        text += _section(result, test_set, folder)
    if result.grids is not None:
        save_figure(plot_any_to_any(result.grids), folder / "any_to_any.png")
        text += _any_to_any(result.grids, result.options.any_to_any)
    text += _notes()
    write_whole(folder / "report.md", "\n".join(text))


def verdicts(agreements: dict[str, dict[str, ClassAgreement]], ours: str = OURS) -> Table:
    """State whether ours is first, or tied with the first within intervals, in every class and in the count of features.

    Raises:
        ValueError: if there is no rival.
    """
    rivals = rivals_in(agreements)
    if not rivals:
        raise ValueError("`agreements` must hold at least one rival, got none.")
    rows = []
    for cls in (*FEATURE_CLASSES, ALL):
        value, interval = ("ccc_mean", "ccc_mean_interval") if cls != ALL else ("reproducible", "reproducible_interval")
        mine = agreements[ours][cls]
        best = max(rivals, key=lambda name: np.nan_to_num(getattr(agreements[name][cls], value), nan=-np.inf))
        theirs = agreements[best][cls]
        if getattr(mine, value) >= getattr(theirs, value):
            verdict = "first"
        else:
            verdict = "tied" if _overlap(getattr(mine, interval), getattr(theirs, interval)) else "behind"
        title = f"CCC of {cls}" if cls != ALL else "features within .15"
        form = ".2f" if cls != ALL else ".0f"
        rows.append(
            (title, _cell(mine, value, interval, form), f"{best}: {_cell(theirs, value, interval, form)}", verdict)
        )
    return Table(f"{ours} against the best of the others", ("", ours, "best of the others", "verdict"), tuple(rows))


def rivals_in(names: Iterable[str]) -> list[str]:
    """Return the rows that compete: neither ours nor input, repeat scan, oracle and leaky split."""
    return [name for name in names if name == LITERAL or (name not in NO_RIVALS and not name.startswith(OURS))]


def _cell(row: ClassAgreement, value: str, interval: str, form: str) -> str:
    found = getattr(row, interval)
    return f"{getattr(row, value):{form}}" + ("" if found is None else f" [{found[0]:{form}}, {found[1]:{form}}]")


def _overlap(a: tuple[float, float] | None, b: tuple[float, float] | None) -> bool:
    return a is not None and b is not None and a[1] >= b[0] and b[1] >= a[0]


def _section(result: StudyResult, test_set: TestSet, folder: Path) -> list[str]:
    """Write the files of one test set; return its part of the text."""
    name, stem = test_set.name, test_set.stem
    rows, agreements = result.rows[name], result.agreement(name)
    regions, slices = len(result.targets[name].features), sum(len(case.source) for case in test_set.cases)
    text = [f"## {name}\n", f"{test_set.about[0].upper()}{test_set.about[1:]}. {regions} regions, {slices} slices.\n"]
    if unfinished := result.unfinished[name]:
        text.append(f"Not finished: {'; '.join(unfinished)}.\n")
    if not rows:
        return text
    # 1. Table 1, both readings.
    for suffix, pooled in (("", False), ("_pooled", True)):
        table = table1(agreements, pooled=pooled, input_name=INPUT)
        table.write(folder, f"table1_{stem}{suffix}")
        text.append(table.markdown())
    for ours, suffix in ((OURS, ""), (ADAPTED, "_adapted")):
        if ours in agreements and rivals_in(agreements):
            table = verdicts(agreements, ours)
            table.write(folder, f"verdicts{suffix}_{stem}")
            text.append(table.markdown())
    # 2. Images, and what they cost.
    table = images_table(result, name)
    write_whole(folder / f"images_{stem}.csv", table.csv())
    text.append(table.markdown())
    table = combat_table(result, name)
    if table.rows:
        table.write(folder, f"combat_{stem}")
        text.append(table.markdown())
    _write_features(result, name, folder / f"features_{stem}.csv")
    # 3. Figures.
    target = result.targets[name].features
    shown = {row: rows[row].features for row in FIGURE4 if row in rows}
    figures = {
        f"figure4_{stem}.png": ("Features within a relative error (Figure 4)",
                                plot_reproducible_features(shown, target, input_name=INPUT, emphasized=(OURS, ADAPTED))),
        f"seconds_{stem}.png": ("Features within .15 against seconds per slice", _seconds_figure(result, name, agreements)),
    }  # fmt: skip
    if test_set.shown:
        figures[f"figure5_{stem}.png"] = ("The first case (Figure 5)", _panel(result, name, agreements))
    for file, (caption, figure) in figures.items():
        save_figure(figure, folder / file)
        text.append(f"![{caption}]({file})\n\n{caption}.\n")
    return text


def images_table(result: StudyResult, name: str) -> Table:
    """Tabulate weights, seconds and errors of whole images on a test set."""
    rows = []
    for row, measured in result.rows[name].items():
        weights, trained = result.parameters[row], result.training_seconds.get(row)
        rows.append((
            row, f"{weights / 1e6:.1f} M" if weights else "–", "–" if trained is None else f"{trained:.0f}",
            f"{np.median(measured.seconds):.2f}", f"{np.sqrt(np.mean(measured.rmse_hu**2)):.0f}",
            f"{measured.bias_hu.mean():+.1f}", _number(measured.noise_db, ".1f"),
        ))  # fmt: skip
    columns = ("System", "weights", "training (s)", "s per slice", "RMSE (HU)", "bias (HU)", "noise power (dB)")
    return Table(
        "Whole slices: weights, seconds, error and mean distance of the noise power spectra", columns, tuple(rows)
    )


def combat_table(result: StudyResult, name: str) -> Table:
    """Tabulate rows after ComBat of their features and the target's. It corrects features, not images, by the tested regions."""
    names = feature_names()
    distinct = np.array([feature not in duplicate_features() for feature in names])
    rows = []
    for row in (INPUT, "linear filter, least squares", OURS):
        if row not in result.rows[name]:
            continue
        try:
            source, target = after_combat(result.rows[name][row].features, result.targets[name].features, distinct)
        except ValueError:  # there are too few regions
            continue
        agreement = agreement_by_class(source, target, names)
        cells = [f"{agreement[cls].ccc_mean:.2f}" for cls in FEATURE_CLASSES]
        defined = np.isfinite(source).all(0).sum()
        rows.append((f"{row} + ComBat", *cells, f"{agreement[ALL].reproducible:.0f} of {defined}"))
    columns = ("System", *FEATURE_CLASSES, "RE < .15")
    return Table(
        "After ComBat, distinct features that vary (listed apart, as ComBat produces no images)", columns, tuple(rows)
    )


def _seconds_figure(result: StudyResult, name: str, agreements: dict[str, dict[str, ClassAgreement]]) -> Figure:
    share = {row: classes[ALL].reproducible / classes[ALL].features for row, classes in agreements.items()}
    points = {
        row: (max(float(np.median(measured.seconds)), 1e-3), share[row])
        for row, measured in result.rows[name].items()
        if row not in NO_RIVALS
    }
    return plot_accuracy_and_seconds(points, ylabel="share of features within .15", best=share.get(REPEAT_SCAN))


def _panel(result: StudyResult, name: str, agreements: dict[str, dict[str, ClassAgreement]]) -> Figure:
    images = {row: measured.shown for row, measured in result.rows[name].items()} | {
        "target": result.targets[name].shown
    }
    scores = {row: f"CCC of GLCM {classes['GLCM'].ccc_mean:.2f}" for row, classes in agreements.items()}
    height, width = images["target"].shape
    box = ((height - BOX_PIXELS) // 2, (width - BOX_PIXELS) // 2, BOX_PIXELS, BOX_PIXELS)
    return plot_panel(images, box, scores=scores, columns=6)


def _write_features(result: StudyResult, name: str, path: Path) -> None:
    """Write one line per row and region with 1,401 columns; undefined cells are empty."""
    names = feature_names()
    lines = [",".join(["system", "region", *(f'"{feature}"' for feature in names)])]
    for row, measured in ({"target": result.targets[name]} | result.rows[name]).items():
        for number, values in enumerate(measured.features):
            cells = ("" if np.isnan(value) else f"{value:.8g}" for value in values)
            lines.append(",".join([f'"{row}"', str(number), *cells]))
    write_whole(path, "\n".join(lines) + "\n")


def _head(result: StudyResult) -> list[str]:
    options = result.options
    absent = [
        name for name in ROWS if name not in result.parameters and (not options.systems or name in options.systems)
    ]
    lines = [
        "# The comparison of Selim et al. 2023, repeated\n",
        f"- DiffusionCT {__version__}, torch {torch.__version__}, {os.cpu_count()} CPU cores ({platform.machine()}), "
        f"{'a GPU' if torch.cuda.is_available() else 'no GPU'}.",
        f"- At most {options.tumours} tumours per simulated set, each in a phantom of its own that was used neither for "
        f"training nor for any choice; at most {options.slices} slices of each; images of {options.size} pixels. One seed.",
        f"- {len(feature_names()):,} features of every region in three dimensions. Intervals: 95 %, bootstrap over regions.",
        "- Systems without training are fitted on scans of training phantoms under the same protocol, or, for a real pair, "
        "on the slice farthest away.",
    ]
    rivals = sorted(seconds for row, seconds in result.training_seconds.items() if row in RIVALS)
    if rivals:
        ours = (
            f", the embedded checkpoint for {result.training_seconds[OURS]:.0f} s"
            if OURS in result.training_seconds
            else ""
        )
        lines.append(f"- Rivals were trained for {rivals[0]:.0f} to {rivals[-1]:.0f} s each{ours}.")
    if absent:
        lines.append(f"- Not available: {'; '.join(absent)}.")
    return [*lines, ""]


def _any_to_any(grids: dict[str, np.ndarray], tumours: int) -> list[str]:
    grid, before = grids["within"], grids["within before"]
    off = ~np.eye(len(grid), dtype=bool)
    return [
        "## Any kernel to any\n",
        f"One checkpoint; the reference is one slice of each of four scans of other phantoms at the same dose. "
        f"{tumours} tumours, ten texture figures: between different kernels {grid[off].mean():.0%} are within "
        f"15 % ({before[off].mean():.0%} before; worst pair {grid[off].min():.0%}), and {grid[~off].mean():.0%} where source and "
        "target are the same kernel.\n",
        "![Any kernel to any](any_to_any.png)\n",
    ]


def _notes() -> list[str]:
    return [
        "## How to read this\n",
        "- An undefined feature counts as not reproducible and is left out of the concordance: GLCM3 spans up to 7 slices, "
        "and some tumours have fewer.",
        f'- "{REPEAT_SCAN}" is the same tumour under the target\'s kernel with other noise: no system can be expected to come '
        "closer in what the source does not contain. Where source and target come from one noisy sinogram, a system can, as "
        "far as the noise is still in the source.",
        f'- "{OURS}" does not know the source\'s kernel: one checkpoint serves all. Trained systems are trained for {SOURCE} '
        f'to {TARGET}, and those without training are fitted on pairs of the kernels in question. "{ADAPTED}" is our '
        f'counterpart, which gets these pairs. "{OURS}, reference" gets only their targets, whose dose it takes over with the '
        "kernel.",
        f'- "{ORACLE}" is given the target itself.',
        f'- "{LEAKY}" is "{LEAKED}" trained on slices of the tested phantoms instead of others, as the paper splits its data: '
        "the gain is memorization. Everything else was learnt from phantoms and patients that are in no test.",
        "- Table 1 averages the concordance of each feature over a class. The other reading pools a class (Eq. 2 taken "
        "literally): the features with the largest numbers dominate it.",
        "- Published figures are of other data, for reference.\n",
    ]


def _number(values: np.ndarray, form: str) -> str:
    finite = values[np.isfinite(values)]
    return f"{finite.mean():{form}}" if len(finite) else "–"
