"""Plot comparisons. Every function returns a matplotlib figure; `save_figure` writes the same bytes each time.

Colours are Okabe and Ito's (colour-blind safe); line styles change with them, so that a grey print is readable, too.
The extra "plots" is required.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from ..metrics.agreement import REPRODUCIBLE, feature_ccc, reproducible_fraction
from ..radiomics import FEATURE_CLASSES, feature_class
from ..utils.files import whole_file
from ..utils.optional import import_optional
from .tables import PUBLISHED_GAIN

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

Curves: TypeAlias = Mapping[str, tuple[np.ndarray, np.ndarray]]  # name -> x and y

COLOURS = ("#000000", "#E69F00", "#0072B2", "#009E73", "#D55E00", "#56B4E9", "#CC79A7")  # Okabe-Ito, without yellow
LINE_STYLES = ("-", "--", "-.", ":")
SHOWN_WINDOW_HU = (-800.0, 600.0)  # the paper's Figure 5
FIGURE_SUFFIXES = (".png", ".pdf", ".svg")
LIMITS_STD = 1.96  # standard deviations from the bias to a limit of agreement: 95 % of normal differences
RESOLUTION_DPI = 200  # readable in print in one column


def save_figure(figure: Figure, path: str | os.PathLike) -> Path:
    """Write a figure as PNG, PDF or SVG by the path's suffix, without dates; the file appears when it is complete."""
    matplotlib = import_optional("matplotlib")
    path = Path(path)
    dateless = {".png": {"Software": None}, ".pdf": {"CreationDate": None, "Producer": None}, ".svg": {"Date": None}}
    if path.suffix not in dateless:
        raise ValueError(f'`path` must end in .png, .pdf or .svg, got "{path}"')
    with whole_file(path) as part, matplotlib.rc_context({"svg.hashsalt": "diffusionct"}):
        figure.savefig(part, dpi=RESOLUTION_DPI, metadata=dateless[path.suffix], format=path.suffix[1:])
    return path


def save_figures(figure: Figure, path: str | os.PathLike, suffixes: Sequence[str] = FIGURE_SUFFIXES) -> list[Path]:
    """Write a figure once for each suffix, in the same folder."""
    return [save_figure(figure, Path(path).with_suffix(suffix)) for suffix in suffixes]


def plot_reproducible_features(
    systems: Mapping[str, np.ndarray],
    target: np.ndarray,
    *,
    input_name: str = "Input",
    published: bool = True,
    maximum: float = 1.0,
    emphasized: Sequence[str] = (),
) -> Figure:
    """Plot the paper's Figure 4: the number of features within a relative error, against that error; one line per system.

    Args:
        systems: name -> (samples, features) values of its images.
        target: (samples, features) values of the standard images.
        input_name: The unconverted image among `systems`, to which published gains refer.
        published: Whether to mark the paper's gains over the input at .15, relative to the input given here.
        maximum: End of the axis of relative error.
        emphasized: Systems with a thick line.
    """
    figure, axes = new_figure(6.4, 4.4)
    errors = np.linspace(0, maximum, 201)
    features = np.shape(target)[1]
    for i, (name, values) in enumerate(systems.items()):
        line = line_of(i) | ({"linewidth": 3.0} if name in emphasized else {})
        axes.plot(errors, features * reproducible_fraction(values, target, errors), label=name, **line)
    if published and input_name in systems:
        base = features * reproducible_fraction(systems[input_name], target)
        counts = [base * (1 + gain) for gain in PUBLISHED_GAIN.values()]
        label = "published gains over the input (other data)"
        axes.plot([REPRODUCIBLE] * len(counts), counts, "x", color="0.4", markersize=5, linestyle="none", label=label)
        for name, count in zip(PUBLISHED_GAIN, counts):
            axes.annotate(
                name, (REPRODUCIBLE, count), (3, 0), textcoords="offset points", va="center", fontsize=6, color="0.4"
            )
    axes.axvline(REPRODUCIBLE, color="0.6", linewidth=0.8)
    axes.set(xlabel="relative error", ylabel=f"features within it, of {features:,}", xlim=(0, maximum), ylim=(0, None))
    axes.legend(fontsize=7)
    return figure


def plot_panel(
    images: Mapping[str, np.ndarray],
    box: tuple[int, int, int, int],
    *,
    scores: Mapping[str, str] | None = None,
    columns: int = 4,
    window_hu: tuple[float, float] = SHOWN_WINDOW_HU,
) -> Figure:
    """Plot the paper's Figure 5: one slice per system in one window, the tumour magnified in a corner, a score below.

    Args:
        images: name -> (rows, columns) HU, all of one shape.
        box: (row, column, height, width) of the tumour in pixels.
        scores: name -> text below the image, e.g. the CCC of GLCM features.
        columns: Images per line.
        window_hu: HU of black and white.
    """
    lines = -(-len(images) // columns)
    columns = min(columns, len(images))
    figure, grid = _grid_of_axes(2.2 * columns, 2.5 * lines, lines, columns)
    row, column, height, width = box
    cells = np.ravel(grid)
    for axes in cells:
        axes.set_axis_off()
    for axes, (name, hu) in zip(cells, images.items()):
        shades = dict(cmap="gray", vmin=window_hu[0], vmax=window_hu[1], interpolation="nearest")
        axes.imshow(hu, **shades)
        axes.add_patch(_rectangle(column, row, width, height))
        inset = axes.inset_axes([0.58, 0.0, 0.42, 0.42])
        inset.imshow(np.asarray(hu)[row : row + height, column : column + width], **shades)
        inset.set(xticks=[], yticks=[])
        for side in inset.spines.values():
            side.set_color(COLOURS[1])
        axes.set_title(name, fontsize=8)
        if scores and name in scores:
            axes.text(0.5, -0.02, scores[name], transform=axes.transAxes, ha="center", va="top", fontsize=7)
    return figure


def plot_bland_altman(
    source: ArrayLike,
    target: ArrayLike,
    *,
    label: str,
    unit: str = "",
    names: tuple[str, str] = ("image", "standard"),
    logarithmic: bool = False,
    limits: tuple[tuple[float, float], tuple[float, float]] | None = None,
) -> Figure:
    """Plot the difference against the mean of one feature over samples, with bias and limits of agreement (1.96 std).

    Bands are 95 % confidence intervals of the three lines (Bland and Altman, Lancet 327, 1986); a thin line marks 0.

    Args:
        source, target: (samples,) values; undefined pairs are left out.
        label: Name of the feature.
        unit: Its unit, for the axes.
        names: Names of source and target.
        logarithmic: Whether to plot ratios instead of differences on logarithmic axes, for features above 0 that span
            decades.
        limits: Limits of both axes, to make several figures comparable; None for those of the values.

    Raises:
        ValueError: for fewer than two defined pairs, or values of 0 or less on logarithmic axes.
    """
    x, y = np.asarray(source, float), np.asarray(target, float)
    defined = ~(np.isnan(x) | np.isnan(y))
    x, y = x[defined], y[defined]
    if len(x) < 2:
        raise ValueError(f"{label}: limits of agreement need at least 2 defined pairs, got {len(x)}")
    if logarithmic:
        if min(x.min(), y.min()) <= 0:
            raise ValueError(f"{label}: values must be above 0 on logarithmic axes, got {min(x.min(), y.min()):g}")
        x, y = np.log(x), np.log(y)

    def shown(value: float) -> float:
        return float(np.exp(value)) if logarithmic else float(value)

    difference, mean = x - y, (x + y) / 2
    figure, axes = new_figure(5.0, 3.6)
    axes.axhline(shown(0.0), color="0.6", linewidth=0.8)
    points = (np.exp(mean), np.exp(difference)) if logarithmic else (mean, difference)
    axes.plot(*points, "o", color=COLOURS[2], markersize=4)
    for value, error, style in limits_of_agreement(difference):
        axes.axhline(shown(value), color=COLOURS[0], linestyle=style, linewidth=0.9)
        axes.axhspan(shown(value - error), shown(value + error), color=COLOURS[5], alpha=0.25, linewidth=0)
        axes.annotate(
            f"{shown(value):.3g}", (1.01, shown(value)), xycoords=("axes fraction", "data"), fontsize=7, va="center"
        )
    unit = f" ({unit})" if unit and not logarithmic else ""
    between = "/" if logarithmic else "−"
    mean_of = "geometric mean of" if logarithmic else "mean of"
    axes.set(xlabel=f"{mean_of} {names[0]} and {names[1]}{unit}", ylabel=f"{names[0]} {between} {names[1]}{unit}")
    if logarithmic:
        axes.set(xscale="log", yscale="log")
    if limits is not None:
        axes.set(xlim=limits[0], ylim=limits[1])
    axes.set_title(label, fontsize=9)
    return figure


def limits_of_agreement(difference: np.ndarray) -> list[tuple[float, float, str]]:
    """Return bias, lower and upper limit of (samples,) differences: value, half of its 95 % interval, style of its line."""
    n, bias, spread = len(difference), difference.mean(), difference.std(ddof=1)
    t = stats.t.ppf(0.975, n - 1)
    of_limit = t * spread * np.sqrt(1 / n + LIMITS_STD**2 / (2 * (n - 1)))
    rows = [(bias, t * spread / np.sqrt(n), "-")]
    return rows + [(bias + sign * LIMITS_STD * spread, of_limit, "--") for sign in (-1, 1)]


def plot_class_boxes(systems: Mapping[str, np.ndarray], target: np.ndarray, names: Sequence[str]) -> Figure:
    """Plot boxes of the concordance of each feature, by class and system; the line is the median, whiskers 5 to 95 %.

    Args:
        systems: name -> (samples, features).
        target: (samples, features) of the standard.
        names: Names of the features; classes without a defined concordance stay empty.
    """
    figure, axes = new_figure(7.2, 3.8)
    classes = np.array([feature_class(name) for name in names])
    present = [c for c in FEATURE_CLASSES if (classes == c).any()]
    width = 0.8 / len(systems)
    handles = []
    for i, (_name, values) in enumerate(systems.items()):
        each = feature_ccc(values, target)
        boxes = [each[(classes == c) & ~np.isnan(each)] for c in present]
        at = np.arange(len(present)) + (i - (len(systems) - 1) / 2) * width
        drawn = axes.boxplot(
            boxes, positions=at, widths=0.85 * width, whis=(5, 95), showfliers=False, patch_artist=True,
            medianprops=dict(color="white"), boxprops=dict(facecolor=COLOURS[i % len(COLOURS)]),
        )  # fmt: skip
        handles.append(drawn["boxes"][0])
    axes.set_xticks(np.arange(len(present)), present)
    axes.set(ylabel="CCC with the standard", ylim=(None, 1.02))
    figure.legend(handles, systems, fontsize=7, loc="outside upper center", ncols=min(len(systems), 5))
    return figure


def plot_grids(
    grids: Mapping[str, np.ndarray], names: Sequence[str], label: str, *, rows: str = "source", columns: str = "target"
) -> Figure:
    """Plot tables of shares as colours, side by side.

    Args:
        grids: title -> (len(names), len(names)), 0 to 1.
        names: Names of rows and columns.
        label: Quantity that is shown.
        rows, columns: Labels of the axes.
    """
    figure, cells = _grid_of_axes(4.0 * len(grids) + 0.6, 3.9, 1, len(grids))
    for axes, (title, grid) in zip(np.ravel(cells), grids.items()):
        drawn = axes.imshow(grid, vmin=0, vmax=1, cmap="viridis")
        for (i, j), value in np.ndenumerate(grid):
            dark = value < 0.6  # of viridis
            axes.text(j, i, f"{value:.0%}", ha="center", va="center", fontsize=7, color="white" if dark else "black")
        axes.set_xticks(range(len(names)), names, fontsize=7)
        axes.set_yticks(range(len(names)), names, fontsize=7)
        axes.set(xlabel=columns, ylabel=rows)
        axes.set_title(title, fontsize=9)
    figure.colorbar(drawn, ax=cells, label=label, shrink=0.8)
    return figure


def plot_accuracy_and_seconds(
    rows: Mapping[str, tuple[float, float]], *, ylabel: str, best: float | None = None
) -> Figure:
    """Plot value against cost of systems: name -> (seconds per slice, value); `best` is a line that none can exceed."""
    figure, axes = new_figure(6.4, 4.4)
    for i, (name, (seconds, value)) in enumerate(rows.items()):
        colour = COLOURS[i % len(COLOURS)]
        axes.plot(seconds, value, "o", color=colour, markersize=4)
        axes.annotate(name, (seconds, value), (4, 2), textcoords="offset points", fontsize=6, color=colour)
    if best is not None:
        axes.axhline(best, color="0.6", linewidth=0.8)
        axes.annotate("repeat scan", (1, best), (-2, 2), xycoords=("axes fraction", "data"), textcoords="offset points",
                      fontsize=6, ha="right")  # fmt: skip
    axes.set(xlabel="seconds per slice", ylabel=ylabel, xscale="log", ylim=(0, 1))
    axes.margins(x=0.15)
    return figure


def plot_noise_power(spectra: Curves) -> Figure:
    """Plot noise power spectra: name -> (frequency in lp/cm, power in HU^2 mm^2), see `noise_power_spectrum`."""
    return _plot_curves(spectra, "noise power (HU² mm²)", logarithmic=True)


def plot_mtf(transfers: Curves) -> Figure:
    """Plot modulation transfer functions: name -> (frequency in lp/cm, mtf), see `edge_mtf`; lines at 50 and 10 %."""
    figure = _plot_curves(transfers, "modulation transfer")
    for value in (0.5, 0.1):
        figure.axes[0].axhline(value, color="0.6", linewidth=0.8, zorder=0)
    figure.axes[0].set_ylim(0, None)
    return figure


def _plot_curves(curves: Curves, ylabel: str, logarithmic: bool = False) -> Figure:
    figure, axes = new_figure(5.6, 3.8)
    for i, (name, (frequency, value)) in enumerate(curves.items()):
        axes.plot(frequency, value, label=name, **line_of(i))
    axes.set(xlabel="spatial frequency (lp/cm)", ylabel=ylabel, xlim=(0, None))
    if logarithmic:
        axes.set_yscale("log")
    axes.legend(fontsize=7)
    return figure


def line_of(i: int) -> dict:
    """Return colour and style of the i-th line; 28 lines differ."""
    turn, colour = divmod(i, len(COLOURS))
    return dict(color=COLOURS[colour], linestyle=LINE_STYLES[(colour + turn) % len(LINE_STYLES)], linewidth=1.4)


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure with one pair of axes, size in inches."""
    figure, grid = _grid_of_axes(width, height, 1, 1)
    return figure, grid[0, 0]


def _grid_of_axes(width: float, height: float, rows: int, columns: int) -> tuple[Figure, np.ndarray]:
    """Return a figure outside pyplot's global state, size in inches, and its axes (rows, columns)."""
    figure = import_optional("matplotlib.figure").Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def _rectangle(x: float, y: float, width: float, height: float) -> Rectangle:
    patches = import_optional("matplotlib.patches")
    return patches.Rectangle((x - 0.5, y - 0.5), width, height, fill=False, edgecolor=COLOURS[1], linewidth=1)
