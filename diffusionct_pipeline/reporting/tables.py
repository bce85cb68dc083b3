"""Make tables of comparisons as CSV, Markdown and LaTeX; `table1` has the layout of the paper's Table 1, and its rows."""

from __future__ import annotations

import csv
import io
import os
from dataclasses import dataclass
from pathlib import Path

from ..metrics.agreement import ALL, REPRODUCIBLE, ClassAgreement
from ..radiomics import FEATURE_CLASSES
from ..utils.files import write_whole

# Selim et al. 2023, Table 1: CCC of GOH, GLCM, GLRLM, ID, IH, NID. On other scans: for reference, not as a benchmark.
PUBLISHED_CCC = {
    "Input": (0.90, 0.20, 0.59, 0.33, 0.35, 0.28),
    "GANai": (0.95, 0.50, 0.63, 0.59, 0.44, 0.65),
    "STAN-CT": (0.95, 0.70, 0.72, 0.75, 0.61, 0.71),
    "RadiomicGAN": (1.00, 0.80, 0.75, 0.82, 0.72, 0.73),
    "Encoder-decoder": (1.00, 0.38, 0.61, 0.52, 0.39, 0.33),
    "DDPM": (1.00, 0.81, 0.80, 0.85, 0.77, 0.82),
    "DiffusionCT": (1.00, 0.85, 0.79, 0.89, 0.41, 0.86),
}
# The same paper, Figure 4: relative gain in features within a relative error of .15 over the input.
PUBLISHED_GAIN = {"GANai": 0.20, "STAN-CT": 0.32, "RadiomicGAN": 0.51, "DDPM": 0.58, "DiffusionCT": 0.64}


@dataclass(frozen=True)
class Table:
    """Hold a table of text cells; every row has as many cells as `columns`."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"row {row!r} must have {len(self.columns)} cells, one per column, got {len(row)}")

    def csv(self) -> str:
        """Return columns and rows as CSV, without the title."""
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows([self.columns, *self.rows])
        return out.getvalue()

    def markdown(self) -> str:
        """Return a pipe table under its title in bold."""
        lines = [self.columns, ["---"] + ["---:"] * (len(self.columns) - 1), *self.rows]
        body = ("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)
        return f"**{self.title}**\n\n" + "\n".join(body) + "\n"

    def latex(self) -> str:
        """Return a `table` environment, which needs the package booktabs."""
        head, *body = (" & ".join(map(_latex, line)) + r" \\" for line in (self.columns, *self.rows))
        lines = [
            r"\begin{table}",
            rf"\caption{{{_latex(self.title)}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(self.columns) - 1)}}}",
            r"\toprule",
            head,
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
        return "\n".join(lines) + "\n"

    def write(self, folder: str | os.PathLike, stem: str) -> list[Path]:
        """Write stem.csv, stem.md and stem.tex to a folder, each completely or not at all.

        Returns:
            Their paths.

        Raises:
            OSError: if a file cannot be written.
        """
        texts = {"csv": self.csv(), "md": self.markdown(), "tex": self.latex()}
        paths = [Path(folder) / f"{stem}.{suffix}" for suffix in texts]
        for path, text in zip(paths, texts.values()):
            write_whole(path, text)
        return paths


def table1(
    systems: dict[str, dict[str, ClassAgreement]],
    *,
    pooled: bool = False,
    input_name: str = "Input",
    published: bool = True,
) -> Table:
    """Return CCC by class and reproducible features of every system, in the layout of the paper's Table 1.

    Args:
        systems: name -> the result of `agreement_by_class`; `input_name` is the unconverted image.
        pooled: Whether to take Eq. 2 literally (one pool per class), not mean and standard deviation over the features.
        input_name: The row to which gains in reproducible features refer.
        published: Whether to append the paper's rows.

    Returns:
        The table, with bootstrap intervals in brackets where the systems have them. Counts are of the features that have
        a relative error, mean per sample.
    """
    reading = "all features of a class in one pool" if pooled else "per feature, mean ± std over the class"
    columns = ("System", *FEATURE_CLASSES, f"RE < {REPRODUCIBLE:g}".replace("0.", "."), "gain over input", "undefined")
    reference = systems[input_name][ALL].reproducible if input_name in systems else None
    rows = []
    for name, classes in systems.items():
        everything = classes[ALL]
        cells = [_ccc_cell(classes.get(c), pooled) for c in FEATURE_CLASSES]
        gain = "–" if name == input_name or not reference else f"{everything.reproducible / reference - 1:+.0%}"
        rows.append((name, *cells, count_cell(everything), gain, f"{everything.undefined_pairs:.1%}"))
    if published:
        for name, values in PUBLISHED_CCC.items():
            gain = f"{PUBLISHED_GAIN[name]:+.0%}" if name in PUBLISHED_GAIN else "–"
            rows.append((f"{name} (published, other data)", *(f"{v:.2f}" for v in values), "–", gain, "–"))
    return Table(f"Concordance with the standard by feature class ({reading})", columns, tuple(rows))


def class_table(classes: dict[str, ClassAgreement], title: str) -> Table:
    """Return all figures of one system, one row per class and one for all: both readings of CCC and the counts."""
    columns = (
        "Class", "features", "CCC mean ± std", "CCC pooled", "reproducible", "no CCC", "undefined pairs", "zero targets"
    )  # fmt: skip
    rows = tuple(
        (
            name,
            f"{row.features}",
            _ccc_cell(row, pooled=False),
            _ccc_cell(row, pooled=True),
            count_cell(row, ".1f"),
            f"{row.undefined_features}",
            f"{row.undefined_pairs:.1%}",
            f"{row.zero_targets:.1%}",
        )
        for name, row in classes.items()
    )
    return Table(title, columns, rows)


def count_cell(row: ClassAgreement, form: str = ".0f") -> str:
    """Return the number of reproducible features of those that could be: "512 [498, 530] of 1240"."""
    return f"{row.reproducible:{form}}{_brackets(row.reproducible_interval, form)} of {row.attainable:{form}}"


def _ccc_cell(row: ClassAgreement | None, pooled: bool) -> str:
    if row is None:
        return "–"
    if pooled:
        return f"{row.ccc_pooled:.2f}{_brackets(row.ccc_pooled_interval, '.2f')}"
    return f"{row.ccc_mean:.2f} ± {row.ccc_std:.2f}{_brackets(row.ccc_mean_interval, '.2f')}"


def _brackets(interval: tuple[float, float] | None, form: str) -> str:
    return "" if interval is None else f" [{interval[0]:{form}}, {interval[1]:{form}}]"


def _latex(text: str) -> str:
    for character in "&%#_":
        text = text.replace(character, "\\" + character)
    return text.replace("±", r"$\pm$").replace("–", "--").replace("<", "$<$")
