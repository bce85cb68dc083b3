"""`diffusionct evaluate --cohort`: how well features of a cohort agree with a standard, and whether kernels still show.

OUT/report.md        what was compared, counts, classes, and how well the kernel is told
OUT/robustness.csv   one row per candidate and feature
OUT/told.csv         how well kinds of images are told apart
OUT/features_*.csv   what was measured here
OUT/*.png, .pdf, .svg
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..evaluation.measuring import kept_until_done
from ..metrics.combat import ReferenceComBat
from ..utils.files import require_writable, whole_folder
from ..utils.optional import import_optional
from ..utils.stages import stage
from ..utils.usage import UsageError, require_new_folder
from .comparison import COMBAT, CohortEvaluation, Pairs
from .feature_agreement import robustness
from .rows import Rows, matched, read_scans, read_sources
from .settings import CohortSettings
from .tables import SUFFIXES, write_table
from .telling import Told, tell_apart

FEWEST_TO_FIT = 3  # regions of other patients, to fit ComBat on
_STILL = 1e-9  # spread relative to the magnitude of a feature that ComBat cannot use


def evaluate_cohort(
    out: Path,
    sources: Mapping[str, Path] | None = None,
    *,
    scans: Path | None = None,
    masks: Path | None = None,
    settings: CohortSettings | None = None,
    id_columns: Sequence[str] | None = None,
    starts: Sequence[str] | None = None,
    batch: str = "kernel",
    use_combat: bool = True,
    plotted: Sequence[str] = (),
    resamples: int = 1000,
    workers: int = 1,
) -> CohortEvaluation:
    """Compare tables of features with the first one, and write a report into a new folder.

    Args:
        out: The folder.
        sources: Name -> table (.csv, .parquet, this package's or another extractor's), or folder of images to measure;
            the first is the standard.
        scans: A table of scans instead, see `read_scans`; its first role is the standard, or the one named "standard".
        masks: Of the folders in `sources`.
        settings: How to measure them.
        id_columns: Columns that identify a row, the patient first; None: patient, region and part, as far as they are.
        starts: Beginnings of the names of features; None: those that are known.
        batch: Column whose values are to be told from the features, in every table.
        use_combat: Also judge every candidate after ComBat that other patients are fitted on.
        plotted: Features for Bland-Altman figures; none: three of the usual ones.
        resamples: Of the bootstrap over patients.
        workers: Processes to measure with.

    Raises:
        UsageError: `out` exists, or an argument or table is wrong.
        ValueError: nothing could be measured.
        ImportError: a package of the extras "cohorts" or "plots" is missing.
    """
    from .report import write_report

    require_new_folder("out", out)
    require_writable(out.parent)
    import_optional("matplotlib")
    import_optional("pandas")
    settings = settings or CohortSettings()
    if (sources is None) == (scans is None):
        raise UsageError("give either sources or a table of scans")
    with kept_until_done(out) as kept:
        if scans is not None:
            tables, remarks = read_scans(scans, kept, settings, workers)
            tables = dict(sorted(tables.items(), key=lambda item: item[0] != "standard"))
        else:
            tables, remarks = read_sources(sources, masks, kept, settings, workers)
        rows, features = matched(tables, id_columns, starts)
        evaluation = compare_rows(rows, features, batch=batch, use_combat=use_combat, resamples=resamples)
        evaluation.remarks[:0] = remarks
        with whole_folder(out, temporaries=kept) as part:
            for name, table in tables.items():
                if sources is None or sources[name].suffix.lower() not in SUFFIXES:
                    write_table(table, part / f"features_{_file_name(name)}.csv")
            stage("drawing the figures")
            write_report(evaluation, part, plotted)
    return evaluation


def compare_rows(
    rows: dict[str, Rows], features: list[str], *, batch: str = "kernel", use_combat: bool = True, resamples: int = 1000
) -> CohortEvaluation:
    """Compare rows with those of the first name; arguments as in `evaluate_cohort`.

    Raises:
        UsageError: a candidate shares no region with the standard.
    """
    standard, *candidates = rows
    remarks: list[str] = []
    pairs: dict[str, Pairs] = {}
    for name in candidates:
        known = set(rows[name].keys)
        shared = [key for key in rows[standard].keys if key in known]
        if not shared:
            example = rows[standard].keys[0], rows[name].keys[0]
            raise UsageError(f"{name} and {standard} share no region: one has {example[1]}, the other {example[0]}")
        alone = len(rows[standard].keys) + len(known) - 2 * len(shared)
        if alone:
            remarks.append(f"{name}: {alone} regions are in one of it and {standard} only, and were not compared")
        pairs[name] = Pairs(rows[name].at(shared), rows[standard].at(shared), [key[0] for key in shared])
        if use_combat:
            try:
                pairs[name + COMBAT] = after_combat(pairs[name])
            except ValueError as error:
                remarks.append(f"ComBat of {name} was not possible: {error}")
    agreement = {
        name: robustness(pair.source, pair.target, features, pair.patients, resamples=resamples)
        for name, pair in pairs.items()
    }
    told: dict[tuple[str, str], Told | str] = {}
    for name, pair in pairs.items():
        kinds = [name] * len(pair.source) + [standard] * len(pair.target)
        told[name, "from the standard"] = _told(np.concatenate([pair.source, pair.target]), kinds, pair.patients * 2)
    kind_of = _kinds(rows, batch)
    for name, table in rows.items() if kind_of else ():
        known = [key for key in table.keys if key in kind_of]
        told[name, f"by {batch}"] = _told(table.at(known), [kind_of[key] for key in known], [key[0] for key in known])
    return CohortEvaluation(
        standard, features, rows, pairs, agreement, told, batch if kind_of else "", remarks
    )  # fmt: skip


def after_combat(pairs: Pairs) -> Pairs:
    """The pairs with the source moved to the standard by ComBat, each patient by a fit on all others.

    Features that are undefined or do not vary among those others become NaN. The standard stays as it is.

    Raises:
        ValueError: too few patients or features.
    """
    patients = np.asarray(pairs.patients)
    names = np.unique(patients)
    moved = np.full(pairs.source.shape, np.nan)
    for name in names:
        own, others = patients == name, patients != name
        if others.sum() < FEWEST_TO_FIT:
            raise ValueError(f"it is fitted on {int(others.sum())} regions of other patients; it needs {FEWEST_TO_FIT}")
        source, target = pairs.source[others], pairs.target[others]
        usable = np.isfinite(source).all(0) & np.isfinite(target).all(0)
        for part in (source, target):
            still = np.ptp(np.where(usable, part, 0), axis=0) <= _STILL * np.abs(np.where(usable, part, 0)).max(0)
            usable &= ~still
        if usable.sum() < 2:
            raise ValueError("fewer than two features are defined and vary in all regions")
        model = ReferenceComBat.fit(source[:, usable], target[:, usable])
        moved[np.ix_(own, usable)] = model.transform(pairs.source[np.ix_(own, usable)])
    return Pairs(moved, pairs.target, pairs.patients)


def _told(values: np.ndarray, kinds: list[str], patients: list[str]) -> Told | str:
    try:
        return tell_apart(values, kinds, patients)
    except ValueError as error:
        return str(error)


def _kinds(rows: dict[str, Rows], batch: str) -> dict[tuple[str, ...], str]:
    """Key -> kind, of the first table in which the column varies: what was standardized has one kernel, say."""
    for table in rows.values():
        kinds = table.columns.get(batch)
        if kinds is not None and len(set(kinds)) > 1:
            return dict(zip(table.keys, kinds.tolist()))
    return {}


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)
