"""The files of `characterise_folder`: tables as CSV, figures, and report.md. None of them names a patient, a path or a date."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..dicom.deriving import KERNEL_MARKS
from ..estimation.noise import SIDE_MM, TISSUES
from ..method.reached import BAND_LP_CM, TOLERANCE
from ..method.slices import CHECKED_SLICES
from ..reporting.plots import save_figure
from ..reporting.tables import Table
from ..standardize.likeness import FAR
from ..utils.files import write_whole
from ..utils.version import __version__
from .advice import advice_text
from .figures import plot_overview, plot_resolution, plot_spectra
from .measure import MeasuredSeries
from .styles import TISSUE

if TYPE_CHECKING:
    from .result import Characterisation

Cell = str | float | int | None
PAIR_COLUMNS = ("first", "second", "kernel_first", "kernel_second", "slices", "noise_correlation", "use")

NOTES = """\
Kernel and noise are estimated as by `diffusionct standardize`, from the same slices: one curve that explains the edge between
skin and air, the noise of soft tissue and fat, and the kernel name in the header if the table contains it. "Told by" lists which
of these were available. MTF50 lies between the two figures beside it with a probability of 90 %. Whitening, in cm^2, is the rise
of this kernel's noise power due to the correction of the scanner's own blur (its logarithm at low frequency f is this number
times f^2). Noise is the standard deviation in homogeneous squares of {side:g} mm; in the lung it includes fine structure. Grain is
the centre of the noise power spectrum of soft tissue. `benchmarks/characterise.py` measures the accuracy of all of these against
simulated truth.

Prior: the difference of the patient's mean noise power from that of the training data, at the frequency where it is largest, in
standard deviations of single positions; differences above {far:g} are remarked on. A small difference is no guarantee: it covers
noise power, not anatomy or artefacts.

Trial: up to {checked} slices of each series were standardized to the checkpoint's standard with the dose kept, and measured as the
source was. `diffusionct standardize` does the same, with the same result, and names its files after the expected kernel. This is
"uncertain" unless both the MTF50 of the results and their MTF from {low:g} to {high:g} lp/cm can be measured and are within
{tolerance:.0%} of those of the standard.
"""


def write_report(found: Characterisation, folder: Path) -> None:
    """Write series.csv, noise_power.csv, pairs.csv, report.md and the figures.

    Args:
        found: The measurements.
        folder: An existing folder.
    """
    write_whole(folder / "series.csv", as_csv([series_row(found, i) for i in range(len(found.measured))]))
    write_whole(folder / "noise_power.csv", as_csv(noise_power_rows(found.measured)))
    write_whole(folder / "pairs.csv", as_csv(pair_rows(found), PAIR_COLUMNS))
    figures = write_figures(found, folder)
    write_whole(folder / "report.md", "\n".join(report_text(found, figures)))


def series_row(found: Characterisation, index: int) -> dict[str, Cell]:
    """Return the row of a series in series.csv."""
    item = found.measured[index]
    protocol, kernel, where = item.protocol, item.kernel, item.likeness
    low, high = kernel.mtf50_interval() if kernel else (None, None)
    row: dict[str, Cell] = {
        "series": index + 1,
        "series_uid": item.series.uid,
        "slices": len(item.series.paths),
        "measured": item.measured,
        "vendor": protocol.vendor,
        "model": protocol.model,
        "kernel": protocol.kernel,
        "iterative": protocol.iterative,
        "thickness_mm": protocol.thickness_mm,
        "increment_mm": protocol.increment_mm,
        "pixel_mm": protocol.spacing_mm,
        "kvp": protocol.kvp,
        "exposure_mas": protocol.exposure_mas,
        "current_ma": protocol.current_ma,
        "family": item.family,
        "mtf50_lp_cm": item.mtf50,
        "mtf50_low_lp_cm": low,
        "mtf50_high_lp_cm": high,
        "mtf10_lp_cm": kernel.mtf10 if kernel else None,
        "told_by": kernel.told_by if kernel else "nothing",
        "whitening_cm2": kernel.whitening if kernel else None,
        "smoothed": kernel.smoothed if kernel else None,
    }
    for tissue in TISSUES:
        row[f"noise_{tissue.replace(' ', '_')}_hu"] = item.noise_hu.get(tissue)
    row |= {
        "grain_lp_cm": item.noise[TISSUE].mean_frequency if TISSUE in item.noise else None,
        "group": found.groups[index],
        "prior_deviations": where.deviations if where else None,
        "prior_at_lp_cm": where.at_lp_cm if where else None,
    }
    reached = item.trial.reached if item.trial else None
    row |= {
        "expected_kernel": reached.label if reached else None,
        "expected_mtf50_lp_cm": reached.mtf50[1] if reached else None,
        "expected_noise_hu": reached.noise_hu[1] if reached else None,
        "expected_remarks": "; ".join(item.trial.remarks) if item.trial else None,
        "seconds": item.seconds,
        "remarks": "; ".join(item.remarks),
    }
    return row


def noise_power_rows(measured: Sequence[MeasuredSeries]) -> list[dict[str, Cell]]:
    """Return the rows of noise_power.csv: one for each series, tissue and frequency."""
    return [
        {"series": number, "tissue": tissue, "frequency_lp_cm": float(f), "power_hu2_mm2": float(p)}
        for number, item in enumerate(measured, 1)
        for tissue, noise in item.noise.items()
        for f, p in zip(noise.frequency, noise.power)
    ]


def pair_rows(found: Characterisation) -> list[dict[str, Cell]]:
    """Return the rows of pairs.csv, with `PAIR_COLUMNS`: series of one acquisition."""
    kernels = [item.protocol.kernel or "" for item in found.measured]
    rows: list[dict[str, Cell]] = []
    for pair in found.same_scans:
        ends = sorted((pair.first, pair.second), key=lambda i: found.measured[i].mtf50 or 0.0)  # the softer one first
        use = "pair of kernels" if pair.kernels_differ else "same kernel: a second copy, or smoothed"
        if any(kernels[i].endswith(KERNEL_MARKS) for i in ends):
            use = "one is standardized: not suitable for training or testing"
        numbers, named = (end + 1 for end in ends), (kernels[end] for end in ends)
        rows.append(dict(zip(PAIR_COLUMNS, (*numbers, *named, pair.slices, pair.correlation, use))))
    return rows


def as_csv(rows: Sequence[dict[str, Cell]], columns: Sequence[str] = ()) -> str:
    """Format rows as CSV with numbers to four digits; without rows only the columns, if they are given."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    if rows or columns:
        writer.writerow(columns or rows[0])
    writer.writerows([_cell(value) for value in row.values()] for row in rows)
    return out.getvalue()


def write_figures(found: Characterisation, folder: Path) -> dict[str, str]:
    """Draw the figures that have data; return captions by file name."""
    figures = {}
    names = [label(i, item) for i, item in enumerate(found.measured)]
    drawn = {
        "overview.png": (plot_overview(found, names), "Resolution and noise in soft tissue; colours are groups"),
        "resolution.png": (plot_resolution(found, names), "Modulation transfer by series"),
        "noise_power.png": (plot_spectra(found, names), "Noise power in soft tissue"),
    }
    for name, (figure, caption) in drawn.items():
        if figure is not None:
            save_figure(figure, folder / name)
            figures[name] = caption
    return figures


def label(index: int, item: MeasuredSeries) -> str:
    """Return the label of a series in figures."""
    return f"{index + 1} {item.protocol.kernel or 'unknown kernel'}"


def report_text(found: Characterisation, figures: dict[str, str]) -> list[str]:
    """Return the parts of report.md."""
    rows = [series_row(found, i) for i in range(len(found.measured))]
    text = [
        "# CT series\n",
        f"Series: {len(rows)}; groups of similar style: {len(set(found.groups))}; pairs of one acquisition: "
        f"{len(found.same_scans)}. DiffusionCT {__version__}; research use only.\n",
    ]
    if found.failures:
        text.append(
            f"Series or files that could not be measured: {len(found.failures)}; they were listed on the screen.\n"
        )
    text += [
        _table("Protocol", rows, ("series", "slices", "vendor", "model", "kernel", "iterative", "thickness_mm",
                                  "increment_mm", "pixel_mm", "kvp", "exposure_mas", "current_ma")),
        _table("Kernel", rows, ("series", "kernel", "family", "mtf50_lp_cm", "mtf50_low_lp_cm", "mtf50_high_lp_cm", "mtf10_lp_cm",
                                "told_by", "whitening_cm2", "smoothed")),
        _table("Noise", rows, ("series", "kernel", "noise_lung_hu", "noise_fat_hu", "noise_soft_tissue_hu", "grain_lp_cm", "group",
                               "prior_deviations", "prior_at_lp_cm")),
        *_listed("Unlike training", rows, "remarks"),
    ]  # fmt: skip
    if any(item.trial for item in found.measured):
        text += [
            _table(f"Trial: to the checkpoint's standard, {found.standard_name}, with the dose kept", rows,
                   ("series", "kernel", "expected_kernel", "mtf50_lp_cm", "expected_mtf50_lp_cm", "noise_soft_tissue_hu",
                    "expected_noise_hu")),
            *_listed("What the trial did not reach", rows, "expected_remarks"),
        ]  # fmt: skip
    if found.advice is not None:
        text += ["**Suggested targets**\n", *advice_text(found.advice, len(rows), found.standard_name)]
    pairs = pair_rows(found)
    if pairs:
        text.append(_table("Series of one acquisition: pairs for training and testing", pairs, tuple(pairs[0])))
    text += [f"![{caption}]({name})\n\n{caption}.\n" for name, caption in figures.items()]
    low, high = BAND_LP_CM
    notes = NOTES.format(side=SIDE_MM, far=FAR, checked=CHECKED_SLICES, tolerance=TOLERANCE, low=low, high=high)
    return [*text, "## How to read this report\n", notes]


def _listed(title: str, rows: Sequence[dict[str, Cell]], column: str) -> list[str]:
    """List the text of a column by series."""
    said = [f"- series {row['series']}: {row[column]}" for row in rows if row[column]]
    return [f"**{title}**\n", *(said or ["none"]), ""]


def _table(title: str, rows: Sequence[dict[str, Cell]], columns: tuple[str, ...]) -> str:
    heads = tuple(column.replace("_", " ") for column in columns)
    return Table(title, heads, tuple(tuple(_short(row[column]) for column in columns) for row in rows)).markdown()


def _cell(value: Cell) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _short(value: Cell) -> str:
    return f"{value:.3g}" if isinstance(value, float) and math.isfinite(value) else _cell(value)
