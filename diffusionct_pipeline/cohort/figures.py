"""Draw the figures of a cohort for a paper. See `reporting.plots` for colours and lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ..metrics.agreement import REPRODUCIBLE, relative_error
from ..reporting.plots import COLOURS, line_of, new_figure
from ..utils.optional import import_optional
from .feature_agreement import FEWEST_PATIENTS, THRESHOLDS, Robustness
from .telling import Told

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .comparison import Pairs

RESAMPLES = 500
SHOWN_RATIOS = (0.25, 0.5, 1.0, 2.0, 4.0)  # of spreads, ticks of the axis


def plot_reproducible_with_bands(pairs: Mapping[str, Pairs], *, maximum: float = 1.0, seed: int = 0) -> Figure:
    """Draw the paper's Figure 4: features within a relative error, with 95 % bands over resampled patients.

    Args:
        pairs: Name -> regions in both images.
        maximum: End of the relative error axis.
        seed: Seed of the resampling.
    """
    figure, axes = new_figure(6.4, 4.4)
    thresholds = np.linspace(0, maximum, 101)
    for i, (name, pair) in enumerate(pairs.items()):
        error = np.sort(relative_error(pair.source, pair.target), axis=1)  # NaN is last, so never within
        count = np.array([np.searchsorted(row, thresholds) for row in error])  # [regions, thresholds]
        line = line_of(i)
        axes.plot(thresholds, count.mean(0), label=name, **line)
        patients, index = np.unique(pair.patients, return_inverse=True)
        if len(patients) >= FEWEST_PATIENTS:
            chance = np.full(len(patients), 1 / len(patients))
            weights = np.random.default_rng(seed).multinomial(len(patients), chance, RESAMPLES)[:, index]
            low, high = np.quantile(weights @ count / weights.sum(1, keepdims=True), [0.025, 0.975], axis=0)
            axes.fill_between(thresholds, low, high, color=line["color"], alpha=0.15, linewidth=0)
        attainable = (~np.isnan(error)).sum(1).mean()
        axes.axhline(attainable, color=line["color"], linestyle=":", linewidth=0.8)
    axes.axvline(REPRODUCIBLE, color="0.6", linewidth=0.8)
    axes.set(
        xlabel="relative error",
        ylabel="features within it (dotted: with a defined one)",
        xlim=(0, maximum),
        ylim=(0, None),
    )
    axes.legend(fontsize=7)
    return figure


def plot_ccc_curves(rows: Mapping[str, Robustness]) -> Figure:
    """Draw how many features have a concordance above a value, against that value; bars mark intervals at thresholds."""
    figure, axes = new_figure(6.4, 4.4)
    at = np.linspace(0, 1, 201)
    for i, (name, row) in enumerate(rows.items()):
        values = np.sort(row.values["ccc"][~np.isnan(row.values["ccc"])])
        line = line_of(i)
        axes.plot(at, len(values) - np.searchsorted(values, at, side="right"), label=name, **line)
        axes.axhline(len(values), color=line["color"], linestyle=":", linewidth=0.8)
        for threshold in THRESHOLDS:
            count, interval = row.count("ccc", threshold)
            if interval is not None:
                axes.plot([threshold] * 2, interval, color=line["color"], linewidth=3, alpha=0.3)
            axes.plot(threshold, count, "o", color=line["color"], markersize=3)
    axes.set(xlabel="CCC", ylabel="features above it (dotted: with a defined one)", xlim=(0, 1), ylim=(0, None))
    axes.legend(fontsize=7)
    return figure


def plot_spread(pairs: Mapping[str, Pairs]) -> Figure:
    """Draw the spread of each feature over the regions, relative to the standard's; below 1 regions became more alike.

    Over-correction shows here: a correction that removes differences between patients agrees on average but loses
    information. The line is the median, boxes hold half of the features, whiskers span 5 to 95 %.
    """
    to_rgb = import_optional("matplotlib.colors").to_rgb
    figure, axes = new_figure(6.4, 0.9 + 0.45 * len(pairs))
    boxes = []
    for pair in pairs.values():
        defined = np.isfinite(pair.source).all(0) & np.isfinite(pair.target).all(0)
        of_source, of_target = pair.source[:, defined].std(0), pair.target[:, defined].std(0)
        usable = (of_target > 0) & (of_source > 0)
        boxes.append(of_source[usable] / of_target[usable])
    drawn = axes.boxplot(
        boxes, orientation="horizontal", whis=(5, 95), showfliers=False, patch_artist=True, widths=0.6,
        medianprops=dict(color="black"),
    )  # fmt: skip
    for i, box in enumerate(drawn["boxes"]):
        box.set_facecolor((*to_rgb(line_of(i)["color"]), 0.35))
    axes.axvline(1, color="0.6", linewidth=0.8, zorder=0)
    axes.set_yticks(np.arange(1, len(pairs) + 1), list(pairs), fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="spread over the regions, relative to the standard's", xscale="log", xlim=(0.2, 5))
    axes.set_xticks(SHOWN_RATIOS, [f"{ratio:g}" for ratio in SHOWN_RATIOS])
    axes.set_xticks([], minor=True)
    return figure


def plot_told(told: Mapping[str, Told]) -> Figure:
    """Draw the balanced accuracy of classifying kinds of images, with 95 % intervals; the line is chance."""
    figure, axes = new_figure(6.4, 0.9 + 0.35 * len(told))
    for i, row in enumerate(told.values()):
        axes.plot(row.interval, [i, i], color=COLOURS[2], linewidth=1.2)
        axes.plot(row.accuracy, i, "o", color=COLOURS[2], markersize=5)
    chance = {1 / len(row.kinds) for row in told.values()}
    for value in chance:
        axes.axvline(value, color="0.6", linewidth=0.8)
    axes.set_yticks(range(len(told)), list(told), fontsize=8)
    axes.set(xlabel="balanced accuracy (line: chance)", xlim=(-0.02, 1.02), ylim=(len(told) - 0.5, -0.5))
    return figure
