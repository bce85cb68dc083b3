"""Figures of `characterise_folder`: curves and points, but no images. They need the extra "plots"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..reporting.plots import COLOURS, plot_mtf, plot_noise_power
from ..utils.optional import import_optional

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .result import Characterisation

MOST_CURVES = 28  # in a figure: as many lines can be told apart
MARKERS = "osD^vP*X"
SHOWN_LP_CM = np.linspace(0, 15, 301)


def plot_overview(found: Characterisation, names: Sequence[str]) -> Figure | None:
    """Plot noise in soft tissue against MTF50, a point for each series; None where no series has both."""
    if not any(item.mtf50 and "soft tissue" in item.noise_hu for item in found.measured):
        return None
    figure = import_optional("matplotlib.figure").Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.subplots()
    farthest = (0.0, 0.0)
    for name, item, group in zip(names, found.measured, found.groups):
        if item.mtf50 is None or "soft tissue" not in item.noise_hu:
            continue
        turn, colour = divmod(group - 1, len(COLOURS))
        x, y = item.mtf50, item.noise_hu["soft tissue"]
        axes.plot(x, y, MARKERS[turn % len(MARKERS)], color=COLOURS[colour], markersize=7)
        if len(names) <= MOST_CURVES:
            axes.annotate(name, (x, y), (5, 4), textcoords="offset points", fontsize=7)
        farthest = max(farthest[0], x), max(farthest[1], y)
    axes.set(
        xlabel="MTF50 (lp/cm)",
        ylabel="noise in soft tissue (HU)",
        xlim=(0, 1.2 * farthest[0]),
        ylim=(0, 1.1 * farthest[1]),
    )
    return figure


def plot_resolution(found: Characterisation, names: Sequence[str]) -> Figure | None:
    """Plot the estimated MTF of up to `MOST_CURVES` series; None where none is known."""
    curves = {
        name: (SHOWN_LP_CM, item.kernel.mtf(SHOWN_LP_CM))
        for name, item in zip(names, found.measured)
        if item.kernel is not None
    }
    if not curves:
        return None
    return plot_mtf(dict(list(curves.items())[:MOST_CURVES]))


def plot_spectra(found: Characterisation, names: Sequence[str]) -> Figure | None:
    """Plot the noise power in soft tissue of up to `MOST_CURVES` series; None where none is known."""
    curves = {
        name: (item.noise["soft tissue"].frequency, item.noise["soft tissue"].power)
        for name, item in zip(names, found.measured)
        if "soft tissue" in item.noise
    }
    return plot_noise_power(dict(list(curves.items())[:MOST_CURVES])) if curves else None
