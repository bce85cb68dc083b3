"""A complete run on a simulated scan: Br40 is standardized and compared with the Bl64 image of the same scan.

OUT/phantom_80000/       the scan as DICOM, kernels Br40 and Bl64, and its tumour masks
OUT/standardized/        the Br40 series, standardized, as derived DICOM, and run_report.json
OUT/demo.png             before, after and target, with the tumour magnified
OUT/agreement.md         how closely the texture agrees with the target
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .dicom import read_slice, scan_folder
from .metrics.agreement import REPRODUCIBLE, relative_error
from .metrics.regions import Tissue, every_nth, square_mask, tissue_squares, tumour_masks
from .metrics.texture import TEXTURE_FIGURES, texture_table
from .reporting.pictures import comparison_png
from .simulation import SeriesOptions, simulate
from .simulation.splits import DEMO
from .simulation.tumour_pairs import SOURCE, TARGET
from .standardize.folder import standardize_folder
from .utils.files import require_writable, write_whole
from .utils.optional import import_optional

PHANTOM_SEED = DEMO[0]
SLICES, THICKNESS_MM = 5, 3.0  # through the first tumour; well under two minutes on two cores
SQUARE_MM = 20.0  # side of the other regions
SQUARES = 8  # of each tissue in a slice, evenly spaced: measuring all would take longer than standardizing
TISSUES = {"lung": Tissue(-950.0, -600.0), "soft tissue": Tissue(-150.0, 150.0)}
TUMOUR_MARGIN_MM = 15.0


def demo(
    out: str | os.PathLike,
    model: str | os.PathLike | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> str:
    """Run the demo.

    Args:
        out: Output folder. The scan of an earlier run is used again.
        model: Checkpoint folder or Hub name; None for the embedded checkpoint.
        progress: Called as progress(done, total) after each simulated or standardized slice.

    Returns:
        The table and the paths of the results, as Markdown text.

    Raises:
        ValueError, OSError: if the folder cannot be written to or a slice fails.
        ImportError: if matplotlib is not installed.
    """
    out = Path(out)
    import_optional("matplotlib")  # checked now, as the picture comes last
    require_writable(out)

    # 1. Simulate a scan with two kernels, and standardize one of them.
    scan = out / f"phantom_{PHANTOM_SEED}"

    def tell(done: int) -> None:
        if progress is not None:
            progress(done, 2 * SLICES)

    if not scan.exists():
        options = SeriesOptions(
            kernels=(SOURCE, TARGET), thickness_mm=THICKNESS_MM, phantoms=1, seed=PHANTOM_SEED, slices=SLICES
        )
        simulate(out, options, progress=lambda done, _: tell(done))
    report = standardize_folder(
        scan / SOURCE, out / "standardized", model=model, overwrite=True, progress=lambda done, _: tell(SLICES + done)
    )
    if report["failures"] or report["stopped"]:
        raise ValueError(f"the demo could not standardize its own scan: {report}")

    # 2. Measure how closely the texture agrees with the target.
    folders = (scan / SOURCE, scan / TARGET, out / "standardized")
    source, target, output = (read_hu(folder) for folder in folders)  # [N,H,W]
    masks = np.load(scan / "tumours.npz")["mask"]  # [N,H,W]
    spacing_mm = report["series"][0]["spacing_mm"]
    groups = regions(target, masks, spacing_mm)
    figures = {name: [measure(images, where) for images in (source, output, target)] for name, where in groups.items()}

    # 3. Write a picture and a table.
    table = agreement_table(figures)
    middle = SLICES // 2
    label = masks[middle][masks[middle] > 0].min()
    picture = comparison_png(
        {f"input: {SOURCE}": source[middle], "standardized": output[middle], f"target: {TARGET}": target[middle]},
        box_around(masks[middle] == label, TUMOUR_MARGIN_MM / spacing_mm), spacing_mm,
        "Simulated chest: the target is another reconstruction of the same scan, which the model never sees",
    )  # fmt: skip
    write_whole(out / "demo.png", picture)
    write_whole(out / "agreement.md", table)
    seconds = report["series"][0]["seconds_per_slice"]
    return (
        f"{table}\n{report['model_id']}, {seconds} s per slice. Research use, not a medical device.\n"
        f"picture       {out / 'demo.png'}\nDICOM in      {scan / SOURCE}\nDICOM out     {out / 'standardized'}\n"
        f"table         {out / 'agreement.md'}"
    )


def read_hu(folder: Path) -> np.ndarray:
    """Read the only series of a folder as HU (N, H, W) float32, ignoring other files."""
    return np.stack([read_slice(path).hu for path in scan_folder(folder).series[0].paths])


def regions(target_hu: np.ndarray, masks: np.ndarray, spacing_mm: float) -> dict[str, list[tuple[int, np.ndarray]]]:
    """Return the tumours and squares of lung and soft tissue: region group -> list of (slice, (H, W) mask).

    Args:
        target_hu: (N, H, W) array in HU that squares are chosen by.
        masks: (N, H, W) tumour labels.
        spacing_mm: Side of a pixel.
    """
    side = round(SQUARE_MM / spacing_mm)
    groups: dict[str, list[tuple[int, np.ndarray]]] = {"tumour": [], **{name: [] for name in TISSUES}}
    for index, (hu, labels) in enumerate(zip(target_hu, masks)):
        groups["tumour"] += [(index, mask) for mask in tumour_masks(labels)]
        for name, squares in tissue_squares(hu, side, TISSUES, avoid=labels > 0).items():
            groups[name] += [(index, square_mask(square, hu.shape)) for square in every_nth(squares, SQUARES)]
    return {name: where for name, where in groups.items() if where}


def measure(images: np.ndarray, where: list[tuple[int, np.ndarray]]) -> np.ndarray:
    """Measure figures (R, F) of R regions, as `regions` gives them, in images (N, H, W) in HU."""
    return texture_table((images[index], mask) for index, mask in where)


def agreement_table(figures: dict[str, list[np.ndarray]]) -> str:
    """Return a Markdown table: the mean of each figure over the tumours, and mean errors of input and output by region group.

    Args:
        figures: Region group -> figures (R, F) of input, output and target; R of at least 1.
    """
    errors = {
        name: [relative_error(values, target) for values in (source, output)]
        for name, (source, output, target) in figures.items()
    }
    heads = [f"{name}, {len(pair[0])} regions" for name, pair in errors.items()]
    rows = [["texture", f"{SOURCE} input", "output", f"{TARGET} target", *heads]]
    for i, figure in enumerate(TEXTURE_FIGURES):
        means = [f"{values[:, i].mean():.4g}" for values in figures["tumour"]]
        changes = [change(*(error[:, i].mean() for error in pair)) for pair in errors.values()]
        rows.append([figure, *means, *changes])
    within = [change(*((error < REPRODUCIBLE).mean() for error in pair)) for pair in errors.values()]
    rows.append([f"figures within {REPRODUCIBLE:.0%}", "", "", "", *within])
    return (
        "Left: means over the tumours, in HU except glcm_. Right: mean relative error against the target,\n"
        f"input -> output. Last row: share of figures with an error below {REPRODUCIBLE:.0%}.\n\n{markdown(rows)}"
    )


def change(before: float, after: float) -> str:
    """Format two shares of 1 as text."""
    return f"{before:4.0%} -> {after:4.0%}"


def markdown(rows: list[list[str]]) -> str:
    """Format rows of text, the first being the head, as a Markdown table with aligned columns."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines) + "\n"


def box_around(mask: np.ndarray, margin: float) -> tuple[int, int, int, int]:
    """Return (top, bottom, left, right) of a square around a mask, within the image.

    Args:
        mask: (H, W) bool, True somewhere.
        margin: Pixels between the mask and the box.
    """
    rows, columns = np.nonzero(mask)
    half = max(np.ptp(rows), np.ptp(columns)) / 2 + margin

    def ends(places: np.ndarray, size: int) -> tuple[int, int]:
        middle = (places.min() + places.max()) / 2
        return max(int(middle - half), 0), min(int(middle + half) + 1, size)

    return *ends(rows, mask.shape[0]), *ends(columns, mask.shape[1])
