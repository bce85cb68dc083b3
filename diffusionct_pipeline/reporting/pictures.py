"""Draw pictures for viewing, not for measuring: fixed windows, a scale bar, a colour bar; the same bytes every time."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ..image_processor import PREVIEW_WINDOW_HU
from ..metrics.image_metrics import noise_power_spectrum
from ..utils.optional import import_optional
from .crops import CROP_PIXELS, CropKind, find_crops

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

DIFFERENCE_HU = 300.0  # sharp minus soft noise has a standard deviation of 50 to 100 HU
SPREAD_HU = 100.0  # of samples: the noise of a sharp kernel if all of it is synthesized
BAR_MM = (100, 50, 20, 10, 5)  # lengths of a scale bar; the longest that takes up to a third of the width
INK, PAPER = "#e8e8e8", "#101014"
ACCENT, ALARM = "#ffb000", "#ff7a6b"
LINES = ("#7fb3d5", "#ffb000", "#e8e8e8")  # input, output, target
CROP_COLOURS = {"lung": ACCENT, "soft tissue": "#7fb3d5"}
CROP_SCALE = 3  # pixels of the picture along a pixel of a crop
DPI = 120
SPECTRUM_PATCH = 32  # pixels: rings of .4 lp/cm at .7 mm, and small enough for the region around a tumour
PADDING = {"w_pad": 0.05, "h_pad": 0.05, "wspace": 0.01, "hspace": 0.01}  # of panels


def preview_png(
    before_hu: np.ndarray,
    after_hu: np.ndarray,
    spacing_mm: float,
    title: str = "",
    spread_hu: np.ndarray | None = None,
    warning: str = "",
) -> bytes:
    """Draw input, output and their difference side by side, the spread of samples of the output, and crops without resampling.

    Args:
        before_hu, after_hu: (H, W) arrays in HU.
        spacing_mm: Side of a pixel.
        title: Line above the panels.
        spread_hu: (H, W) standard deviation over samples of the output, in HU; None for no such panel.
        warning: What is wrong with the output, shown under the title; "" for nothing.

    Returns:
        Bytes of a PNG. Below the panels are the squares of `find_crops` before and after, each of their pixels
        `CROP_SCALE` pixels wide and high.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    height, width = before_hu.shape
    figure, axes = panels(1, 3 if spread_hu is None else 4, aspect=0.92 * height / width, title=title, warning=warning)
    crops = find_crops(before_hu)
    show_crops(figure, crops, before_hu, after_hu, spacing_mm)
    for kind, (top, left) in crops:
        outline(axes[0][0], (top, top + CROP_PIXELS, left, left + CROP_PIXELS), CROP_COLOURS[kind.name])
    show(axes[0][0], before_hu, "input", spacing_mm)
    grey = show(axes[0][1], after_hu, "output")
    change = show_difference(axes[0][2], after_hu - before_hu, "output - input")
    colour_bar(figure, axes[0][:2], grey, "HU")
    colour_bar(figure, axes[0][2:3], change, "HU")
    if spread_hu is not None:
        spread = axes[0][3].imshow(spread_hu, cmap="inferno", vmin=0, vmax=SPREAD_HU, interpolation="nearest")
        bare(axes[0][3], "spread of the samples")
        colour_bar(figure, axes[0][3:], spread, "HU standard deviation")
    return png(figure)


def comparison_png(
    images: dict[str, np.ndarray], box: tuple[int, int, int, int], spacing_mm: float, title: str = ""
) -> bytes:
    """Draw whole slices above one magnified region, with its difference from the target and its spectra below.

    Args:
        images: Dict of name -> (H, W) array in HU: input, output and target.
        box: (top, bottom, left, right) of the region in pixels, at least `SPECTRUM_PATCH` wide.
        spacing_mm: Side of a pixel.
        title: Line above the panels.

    Returns:
        Bytes of a PNG.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    top, bottom, left, right = box
    target = list(images.values())[-1]
    figure, axes = panels(3, len(images), title=title)
    for column, (name, hu) in enumerate(images.items()):
        grey = show(axes[0][column], hu, name, spacing_mm if column == 0 else None)
        outline(axes[0][column], box, ACCENT)
        show(axes[1][column], hu[top:bottom, left:right], "", spacing_mm if column == 0 else None, frame=ACCENT)
        if hu is not target:
            change = (hu - target)[top:bottom, left:right]
            coloured = show_difference(axes[2][column], change, f"{name.split(':')[0]} - target")
    colour_bar(figure, axes[0], grey, "HU")
    colour_bar(figure, axes[1], grey, "HU")
    colour_bar(figure, axes[2], coloured, "HU difference")
    show_spectra(axes[2][-1], {name: hu[top:bottom, left:right] for name, hu in images.items()}, spacing_mm)
    return png(figure)


def panels(
    rows: int, columns: int, aspect: float = 1.0, title: str = "", warning: str = ""
) -> tuple[Figure, np.ndarray]:
    """Return a dark figure with a grid of empty panels, and its (rows, columns) array of axes.

    Args:
        rows, columns: Size of the grid.
        aspect: Height of a panel over its width.
        title: Line above the panels.
        warning: Text below the title, which changes the colour of both, wrapped to the width of the figure.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    new_figure = import_optional(
        "matplotlib.figure"
    ).Figure  # not by pyplot, which has global state and a window system
    side = 3.6  # inches
    size = (side * columns + 0.7, side * rows * aspect + 0.7)
    lines = textwrap.wrap(warning, int(9 * size[0]))  # letters of this font are under a ninth of an inch wide
    size = (size[0], size[1] + 0.2 * len(lines))
    figure = new_figure(figsize=size, dpi=DPI, facecolor=PAPER, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    figure.set_layout_engine("constrained", **PADDING)
    if title or lines:
        figure.suptitle("\n".join([title, *lines]), color=ALARM if lines else INK, fontsize=11)
    return figure, axes


def show(
    axis: Axes, hu: np.ndarray, title: str, scale_spacing_mm: float | None = None, frame: str | None = None
) -> AxesImage:
    """Show a slice in the lung window, with a scale bar if its pixel size is given."""
    low, high = PREVIEW_WINDOW_HU
    image = axis.imshow(hu, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    bare(axis, title, frame)
    if scale_spacing_mm is not None:
        height, width = hu.shape
        length_mm = next((mm for mm in BAR_MM if mm <= width * scale_spacing_mm / 3), BAR_MM[-1])
        start, pixels, row = 0.05 * width, length_mm / scale_spacing_mm, 0.95 * height
        axis.plot([start, start + pixels], [row, row], color=INK, linewidth=2.5, solid_capstyle="butt")
        label = f"{length_mm / 10:g} cm" if length_mm >= 10 else f"{length_mm} mm"
        axis.text(start + pixels / 2, row - 0.02 * height, label, color=INK, fontsize=8, ha="center", va="bottom")
    return image


def outline(axis: Axes, box: tuple[int, int, int, int], colour: str) -> None:
    """Draw the border of a region of an image; (top, bottom, left, right) in pixels."""
    top, bottom, left, right = box
    corners = ([left, right, right, left, left], [top, top, bottom, bottom, top])
    axis.plot(*(np.array(side) - 0.5 for side in corners), color=colour, linewidth=1.2)


def show_crops(
    figure: Figure,
    crops: list[tuple[CropKind, tuple[int, int]]],
    before_hu: np.ndarray,
    after_hu: np.ndarray,
    spacing_mm: float,
) -> None:
    """Show squares before and after side by side below the panels, extending the figure.

    Args:
        figure: The figure with its panels.
        crops: From `find_crops`.
        before_hu, after_hu, spacing_mm: As in `preview_png`.
    """
    if not crops:
        return
    side, near, far, above, below = CROP_PIXELS * CROP_SCALE, 10, 48, 62, 18  # pixels of the picture
    width, panels_height = (round(inches * DPI) for inches in figure.get_size_inches())
    height = panels_height + above + side + below
    figure.set_size_inches(width / DPI, height / DPI)
    figure.set_layout_engine("constrained", rect=(0, 1 - panels_height / height, 1, panels_height / height), **PADDING)
    left = (width - len(crops) * (2 * side + near) - (len(crops) - 1) * far) // 2
    for kind, (row, column) in crops:
        low, high = kind.window_hu
        window = f"{kind.name}, level {(low + high) / 2:g}, width {high - low:g} HU"
        note = f"{window}; {CROP_PIXELS * spacing_mm:.0f} mm wide, enlarged {CROP_SCALE} times"
        figure.text(
            (left + side + near / 2) / width, (below + side + 34) / height, note, color=CROP_COLOURS[kind.name],
            fontsize=10, ha="center",
        )  # fmt: skip
        for name, hu in (("input", before_hu), ("output", after_hu)):
            crop = hu[row : row + CROP_PIXELS, column : column + CROP_PIXELS]
            # imshow would place edges between pixels of the picture.
            pixels = crop.repeat(CROP_SCALE, 0).repeat(CROP_SCALE, 1)
            figure.figimage(pixels, left, below, cmap="gray", vmin=low, vmax=high, origin="upper")
            frame = ((left - 2) / width, (below - 2) / height, (side + 4) / width, (side + 4) / height)
            bare(figure.add_axes(frame, facecolor="none"), name, CROP_COLOURS[kind.name])
            left += side + near
        left += far - near


def show_difference(axis: Axes, difference_hu: np.ndarray, title: str) -> AxesImage:
    """Show a difference in HU, white at 0."""
    image = axis.imshow(difference_hu, cmap="RdBu_r", vmin=-DIFFERENCE_HU, vmax=DIFFERENCE_HU, interpolation="nearest")
    bare(axis, title)
    return image


def show_spectra(axis: Axes, images: dict[str, np.ndarray], spacing_mm: float) -> None:
    """Plot power over frequency, an overview of the texture."""
    for (name, hu), colour in zip(images.items(), LINES):
        frequency, power = noise_power_spectrum(hu, spacing_mm, patch=SPECTRUM_PATCH)
        axis.semilogy(frequency, power, color=colour, linewidth=2, label=name, linestyle="-" if colour != INK else "--")
    axis.set_title("power of the region over lp/cm, one line per decade", color=INK, fontsize=10)
    axis.grid(axis="y", color=INK, alpha=0.15)
    axis.tick_params(axis="y", which="both", left=False, labelleft=False)  # labels would push the columns apart
    axis.set_facecolor(PAPER)
    axis.set_box_aspect(1)
    axis.tick_params(colors=INK, labelsize=8)
    axis.legend(fontsize=8, facecolor=PAPER, edgecolor=PAPER, labelcolor=INK)
    for spine in axis.spines.values():
        spine.set_color(INK)


def bare(axis: Axes, title: str, frame: str | None = None) -> None:
    """Remove the ticks, set a title, and draw a frame if its colour is given."""
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_title(title, color=INK, fontsize=10)
    for spine in axis.spines.values():
        spine.set_visible(frame is not None)
        spine.set_color(frame or PAPER)
        spine.set_linewidth(1.5)


def colour_bar(figure: Figure, axes: Iterable[Axes], image: AxesImage, unit: str) -> None:
    """Draw a colour bar to the right of some panels."""
    bar = figure.colorbar(image, ax=list(axes), shrink=0.8, pad=0.01, aspect=30)
    bar.set_label(unit, color=INK, fontsize=8)
    bar.ax.tick_params(colors=INK, labelsize=8)
    bar.outline.set_visible(False)


def png(figure: Figure) -> bytes:
    """Return a figure as a PNG, without the version that matplotlib would write into it."""
    drawn, file = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=DPI, facecolor=PAPER, pil_kwargs={"compress_level": 0})
    # Nothing is transparent, and without alpha the file is a tenth smaller.
    Image.open(drawn).convert("RGB").save(file, format="PNG", dpi=(DPI, DPI))
    return file.getvalue()
