"""Write the report of a cohort: report.md, robustness.csv, told.csv and figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..metrics.agreement import REPRODUCIBLE, ccc
from ..reporting.plots import LIMITS_STD, plot_bland_altman, save_figures
from ..reporting.tables import Table
from ..utils.files import write_whole
from ..utils.optional import import_optional
from ..utils.usage import UsageError
from ..utils.version import __version__
from .comparison import COMBAT, CohortEvaluation
from .feature_agreement import FEWEST_PATIENTS, THRESHOLDS, Robustness, class_of
from .figures import plot_ccc_curves, plot_reproducible_with_bands, plot_spread, plot_told
from .tables import write_table
from .telling import Told

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FEW = 10  # patients up to which bootstrap intervals are too low: a resample repeats patients, and so spreads less
SHOWN = (
    "ID/GlobalMean",
    "ID/GlobalStd",
    "GLCM25/Contrast/d=1/dir=sum/bins=",
    "IBSI/stat_mean/",
    "IBSI/stat_var/",
    "IBSI/cm_contrast_3D_comb/",
    "IBSI/cm_contrast_2_5D_comb/",
    "original_firstorder_Mean",
    "original_glcm_Contrast",
)
FIGURES = (("ccc", "CCC"), ("icc_a1", "ICC(A,1)"), ("icc_c1", "ICC(C,1)"))


def write_report(evaluation: CohortEvaluation, folder: Path, shown: Sequence[str]) -> None:
    """Write report.md, robustness.csv, told.csv and the figures into a folder.

    Args:
        evaluation: What was found.
        folder: An existing folder.
        shown: Features for Bland-Altman figures, see `shown_features`.
    """
    write_robustness(evaluation, folder / "robustness.csv")
    write_told(evaluation, folder / "told.csv")
    captions = _figures(evaluation, folder, shown)
    text = [*_head(evaluation)]
    if evaluation.robustness:
        text += ["## Features that agree\n", _counts(evaluation).markdown(), _classes(evaluation).markdown()]
    if evaluation.told:
        text += ["## Whether kinds of images can still be distinguished\n", _told(evaluation).markdown()]
    text += [f"![{caption}]({name})\n\n{caption}.\n" for name, caption in captions.items()]
    text += _notes(evaluation)
    write_whole(folder / "report.md", "\n".join(text))


def write_robustness(evaluation: CohortEvaluation, path: Path) -> None:
    """Write one row per candidate and feature; undefined cells are empty."""
    pandas = import_optional("pandas")
    parts = []
    for name, row in evaluation.robustness.items():
        columns: dict[str, object] = {
            "candidate": name, "standard": evaluation.standard, "class": list(map(class_of, row.names)),
            "feature": list(row.names), "pairs": row.pairs, "patients": row.patients,
        }  # fmt: skip
        for figure, _ in FIGURES:
            columns |= {
                figure: row.values[figure],
                f"{figure}_low": row.low[figure],
                f"{figure}_high": row.high[figure],
            }
        low, high = row.limits
        columns |= {
            "bias": row.bias, "limit_low": low, "limit_high": high, "relative_error": row.relative_error,
            "reproducible": row.reproducible,
        }  # fmt: skip
        parts.append(pandas.DataFrame(columns))
    if parts:
        write_table(pandas.concat(parts, ignore_index=True), path)


def write_told(evaluation: CohortEvaluation, path: Path) -> None:
    """Write one row per table and pair of kinds or column that was predicted."""
    pandas = import_optional("pandas")
    rows = [
        {
            "table": name, "told": what, "balanced_accuracy": told.accuracy, "low": told.interval[0],
            "high": told.interval[1], "kinds": "; ".join(f"{k}: {n}" for k, n in told.kinds.items()),
            "features": told.features,
        }
        for (name, what), told in evaluation.told.items()
        if isinstance(told, Told)
    ]  # fmt: skip
    if rows:
        write_table(pandas.DataFrame(rows), path)


def _head(evaluation: CohortEvaluation) -> list[str]:
    rows = []
    for name, table in evaluation.rows.items():
        kernels = sorted(set(table.columns.get("kernel", np.array([""])).tolist()) - {""})
        role = "standard" if name == evaluation.standard else "candidate"
        rows.append((name, role, f"{len(table.keys)}", f"{len(set(table.patients))}", ", ".join(kernels) or "–"))
    return [
        "# Agreement of a cohort's radiomic features\n",
        Table("Tables", ("Name", "role", "regions", "patients", "kernels"), tuple(rows)).markdown(),
        f"{len(evaluation.features):,} features. DiffusionCT {__version__}. Research use, not a medical device.\n",
    ]


def _counts(evaluation: CohortEvaluation) -> Table:
    columns = ["Candidate", "pairs", "patients", *(f"{title} > {t:g}" for _, title in FIGURES for t in THRESHOLDS)]
    columns += ["with a CCC", f"within {REPRODUCIBLE:.0%}"]
    rows = []
    for name, row in evaluation.robustness.items():
        pair = evaluation.pairs[name]
        cells = [_count(row, figure, t) for figure, _ in FIGURES for t in THRESHOLDS]
        defined = int((~np.isnan(row.values["ccc"])).sum())
        share = np.nanmean(row.reproducible) if np.isfinite(row.reproducible).any() else np.nan
        rows.append((
            name, f"{len(pair.patients)}", f"{len(set(pair.patients))}", *cells, f"{defined:,}", _percent(share)
        ))  # fmt: skip
    title = (
        f"Features that agree with {evaluation.standard}: counts, with 95 % intervals over resampled patients; how many have "
        f"a defined CCC; and the fraction of pairs within a relative error of {REPRODUCIBLE:g}, of those with a defined one"
    )
    return Table(title, tuple(columns), tuple(rows))


def _classes(evaluation: CohortEvaluation) -> Table:
    classes = list(dict.fromkeys(map(class_of, evaluation.features)))
    of_feature = np.array(list(map(class_of, evaluation.features)))
    rows = []
    for name, row in evaluation.robustness.items():
        pair, cells = evaluation.pairs[name], []
        for each in classes:
            own = of_feature == each
            values = row.values["ccc"][own]
            values = values[~np.isnan(values)]
            pooled = ccc(pair.source[:, own].ravel(), pair.target[:, own].ravel())
            mean = f"{values.mean():.2f} ± {values.std():.2f}" if len(values) else "–"
            cells.append(f"{mean} ({len(values)}); {pooled:.2f}")
        rows.append((name, *cells))
    title = (
        "CCC by class: mean ± std over the features that have one (how many); then of all values of the class pooled, "
        "which the features with the largest numbers dominate"
    )
    return Table(title, ("Candidate", *classes), tuple(rows))


def _told(evaluation: CohortEvaluation) -> Table:
    rows = []
    for (name, what), told in evaluation.told.items():
        if isinstance(told, str):
            rows.append((name, what, "–", "–", told))
            continue
        low, high = told.interval
        kinds = ", ".join(f"{count} {kind}" for kind, count in told.kinds.items())
        rows.append((name, what, f"{told.accuracy:.2f} [{low:.2f}, {high:.2f}]", f"{told.features:,}", kinds))
    title = "Balanced accuracy of classifying images by their features, leaving out one patient at a time; chance is .5 for two"
    return Table(title, ("Table", "classified", "balanced accuracy", "features", "regions"), tuple(rows))


def _figures(evaluation: CohortEvaluation, folder: Path, shown: Sequence[str]) -> dict[str, str]:
    """Write the figures, with Bland-Altman figures of the features shown; return name of the PNG -> caption."""
    captions = {}

    def add(stem: str, caption: str, figure: Figure) -> None:
        save_figures(figure, folder / stem)
        captions[f"{stem}.png"] = caption

    if evaluation.pairs:
        add("reproducible_features", "Features within a relative error, mean over the regions, with 95 % bands over patients",
            plot_reproducible_with_bands(evaluation.pairs))  # fmt: skip
        add(
            "ccc",
            "Features above a concordance, with 95 % intervals over patients",
            plot_ccc_curves(evaluation.robustness),
        )
        add("spread", "Spread of each feature over the regions, relative to the standard's: below 1, regions became more alike",
            plot_spread(evaluation.pairs))  # fmt: skip
    told = {f"{name}, {what}": row for (name, what), row in evaluation.told.items() if isinstance(row, Told)}
    if told:
        add("told", "How well kinds of images can be distinguished by their features", plot_told(told))
    for feature in shown:
        column = evaluation.features.index(feature)
        pairs = {name: (p.source[:, column], p.target[:, column]) for name, p in evaluation.pairs.items()}
        pairs = {name: both for name, both in pairs.items() if np.isfinite(both).all(0).sum() >= 2}
        limits = _common_limits(pairs) if pairs else None
        for number, (name, both) in enumerate(pairs.items(), start=1):
            stem = f"bland_altman_{number}_" + "".join(c if c.isalnum() else "_" for c in feature).strip("_").lower()
            figure = plot_bland_altman(*both, label=feature, names=(name, evaluation.standard), limits=limits)
            add(stem, f"Bland-Altman plot, {name}: {feature}", figure)
    return captions


def shown_features(features: Sequence[str], plotted: Sequence[str] = ()) -> list[str]:
    """Return the features for Bland-Altman figures: those of `plotted`; without any, three of the usual ones.

    Raises:
        UsageError: One of `plotted` is not among the features.
    """
    unknown = [feature for feature in plotted if feature not in features]
    if unknown:
        raise UsageError(f"a plotted feature must be one of the tables, such as {features[0]!r}, got {unknown[0]!r}.")
    usual = [feature for start in SHOWN for feature in features if feature.startswith(start)]
    return list(plotted) or usual[:3] or list(features[:3])


def _common_limits(
    pairs: dict[str, tuple[np.ndarray, np.ndarray]],
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return axis limits that hold all candidates and their limits of agreement, so that figures are comparable."""
    both = [np.array(pair)[:, np.isfinite(pair).all(0)] for pair in pairs.values()]
    differences = [a - b for a, b in both]
    limits = [d.mean() + sign * LIMITS_STD * d.std(ddof=1) for d in differences for sign in (-1, 1)]
    ends = []
    for values in (np.concatenate([(a + b) / 2 for a, b in both]), np.concatenate([*differences, limits, [0.0]])):
        margin = 0.15 * np.ptp(values) or 1.0
        ends.append((float(values.min() - margin), float(values.max() + margin)))
    return ends[0], ends[1]


def _notes(evaluation: CohortEvaluation) -> list[str]:
    notes = [
        "CCC is Lin's, of each feature across regions. ICC(A,1) is for absolute agreement, ICC(C,1) for consistency, two-way, "
        "single measurements (McGraw and Wong 1996). Features that are undefined in more than half of the pairs have none.",
        "Bias is candidate minus standard; limits of agreement lie 1.96 standard deviations from it (robustness.csv).",
        "Intervals resample patients with all their regions.",
        f"Relative error is |value - standard| / |standard|; for an intensity feature it refers to CT numbers, HU + 1000, so "
        f"that {REPRODUCIBLE:.0%} are about 150 HU in soft tissue.",
        "Kinds are classified by logistic regression on standardized features. A low accuracy means little if the features "
        "became alike for all patients: see the spread. An accuracy far below chance is an artefact of leaving out patients "
        "in a small cohort, not harmony.",
    ]  # fmt: skip
    patients = min((len(set(pair.patients)) for pair in evaluation.pairs.values()), default=0)
    if 0 < patients < FEWEST_PATIENTS:
        notes.append(f"There are {patients} patients: no intervals are given, which need at least {FEWEST_PATIENTS}.")
    elif 0 < patients <= FEW:
        notes.append(f"With {patients} patients the figures are rough, and their intervals tend to be too low.")
    if any(name.endswith(COMBAT) for name in evaluation.pairs):
        notes.append(
            "ComBat moves a candidate to the standard, which is not changed, feature by feature, fitted for each patient on all "
            "others. It makes no image, and leaves out features that are undefined or constant."
        )
    remarks = [f"- {remark}" for remark in evaluation.remarks]
    head = ["## Remarks on this run\n", *remarks, ""] if remarks else []
    return [*head, "## How to read this\n", *(f"- {note}" for note in notes), ""]


def _count(row: Robustness, figure: str, threshold: float) -> str:
    count, interval = row.count(figure, threshold)
    return f"{count}" if interval is None else f"{count} [{interval[0]:.0f}, {interval[1]:.0f}]"


def _percent(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.0%}"
