"""Figures of `characterise_folder`: curves and points, no pixels. Needs the extra "plots"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..evaluation.series.plots import COLOURS, plot_mtf, plot_noise_power
from ..optional import import_optional

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .folder import Characterisation

MOST_CURVES = 28  # of a figure: so many lines differ
MARKERS = "osD^vP*X"


def plot_overview(found: Characterisation, names: Sequence[str]) -> Figure | None:
    """Noise in soft tissue against MTF50, a point for each series; None where no series has both."""
    if not any(item.resolution and "soft tissue" in item.noise for item in found.measured):
        return None
    figure = import_optional("matplotlib.figure").Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.subplots()
    farthest = (0.0, 0.0)
    for name, item, group in zip(names, found.measured, found.groups):
        if item.resolution is None or "soft tissue" not in item.noise:
            continue
        turn, colour = divmod(group - 1, len(COLOURS))
        x, y = item.resolution.mtf50, item.noise["soft tissue"].noise_hu
        axes.plot(x, y, MARKERS[turn % len(MARKERS)], color=COLOURS[colour], markersize=7)
        if len(names) <= MOST_CURVES:
            axes.annotate(name, (x, y), (5, 4), textcoords="offset points", fontsize=7)
        farthest = max(farthest[0], x), max(farthest[1], y)
    axes.set(xlabel="MTF50 (lp/cm)", ylabel="noise in soft tissue (HU)", xlim=(0, 1.2 * farthest[0]), ylim=(0, 1.1 * farthest[1]))
    return figure


def plot_resolution(found: Characterisation, names: Sequence[str]) -> Figure | None:
    """MTF up to 15 lp/cm of up to `MOST_CURVES` series; None where none is known."""
    curves = {
        name: (item.resolution.frequency, item.resolution.mtf)
        for name, item in zip(names, found.measured)
        if item.resolution is not None
    }
    if not curves:
        return None
    figure = plot_mtf(dict(list(curves.items())[:MOST_CURVES]))
    figure.axes[0].set_xlim(0, 15)
    return figure


def plot_spectra(found: Characterisation, names: Sequence[str]) -> Figure | None:
    """Noise power of soft tissue of up to `MOST_CURVES` series; None where none is known."""
    curves = {
        name: (item.noise["soft tissue"].frequency, item.noise["soft tissue"].power)
        for name, item in zip(names, found.measured)
        if "soft tissue" in item.noise
    }
    return plot_noise_power(dict(list(curves.items())[:MOST_CURVES])) if curves else None


def plot_profiles(found: Characterisation, names: Sequence[str]) -> Figure | None:
    """Median HU against distance from the skin, and the fit, of up to `MOST_CURVES` series, each 300 HU above the last."""
    shown = [(name, item.resolution) for name, item in zip(names, found.measured) if item.resolution is not None]
    if not shown:
        return None
    shown = shown[:MOST_CURVES]
    size = (6.4, 2.4 + 0.5 * len(shown))
    figure = import_optional("matplotlib.figure").Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    for i, (name, resolution) in enumerate(shown):
        colour = COLOURS[i % len(COLOURS)]
        axes.plot(resolution.offset_mm, resolution.profile_hu + 300 * i, ".", color=colour, markersize=3)
        axes.plot(resolution.offset_mm, resolution.fitted_hu + 300 * i, "-", color=colour, linewidth=1, label=name)
    axes.set(xlabel="distance from the skin (mm), outside is positive", ylabel="HU, each series 300 above the last")
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], fontsize=7)
    return figure
