"""Run `diffusionct evaluate --cohort`: how well do features agree with a standard, and do kernels still show in them?

OUT/report.md        what was compared, counts, classes, and how well kernels can be distinguished
OUT/robustness.csv   one row per candidate and feature
OUT/told.csv         how well kinds of images can be distinguished
OUT/features_*.csv   features that were measured in this run
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
from .rows import Rows, find_scans, find_sources, matched, measured, planned
from .settings import CohortSettings
from .tables import write_table
from .telling import Told, tell_apart

FEWEST_TO_FIT = 3  # regions of other patients, to fit ComBat on
_STILL = 1e-9  # spread of a feature, relative to its magnitude, up to which ComBat cannot use it


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
        scans: A table of scans instead, see `find_scans`; its first role is the standard, or the one named "standard".
        masks: Masks of the folders in `sources`.
        settings: How to measure them.
        id_columns: Columns that identify a row, the patient first; None: those of patient, region and part that exist.
        starts: Prefixes of the names of features; None: the known ones.
        batch: Column whose values are predicted from the features, in every table.
        use_combat: Also judge every candidate after ComBat, which is fitted on the other patients.
        plotted: Features for Bland-Altman figures; none: three of the usual ones.
        resamples: Bootstrap resamples of the patients.
        workers: Processes to measure with.

    Raises:
        UsageError: `out` exists, or an argument or table is wrong. Raised before anything is measured.
        ValueError: Nothing could be measured.
        ImportError: A package of the extras "cohorts" or "plots" is missing.
    """
    from .report import shown_features, write_report

    require_new_folder("out", out)
    require_writable(out.parent)
    import_optional("matplotlib")
    import_optional("pandas")
    settings = settings or CohortSettings()
    if sources is not None and scans is None:
        found = find_sources(sources, masks)
    elif scans is not None and sources is None:
        found = find_scans(scans)
    else:
        raise UsageError("exactly one of `sources` and `scans` must be given.")
    # 1. Check the rows that measuring would give: nothing is lost if they cannot be compared.
    rows, features = matched(planned(found, settings), id_columns, starts)
    standard, *candidates = rows
    for name in candidates:
        if rows[standard].keys and rows[name].keys:  # without any region, measuring says why
            shared_keys(rows, standard, name)
    shown = shown_features(features, plotted)
    # 2. Measure, compare and write.
    with kept_until_done(out) as kept:
        tables, remarks = measured(found, kept, settings, workers)
        rows, features = matched(tables, id_columns, starts)
        evaluation = compare_rows(rows, features, batch=batch, use_combat=use_combat, resamples=resamples)
        evaluation.remarks[:0] = remarks
        with whole_folder(out, temporaries=kept) as part:
            for name, table in tables.items():
                if isinstance(found[name], list):
                    write_table(table, part / f"features_{_file_name(name)}.csv")
            stage("drawing the figures")
            write_report(evaluation, part, shown)
    return evaluation


def compare_rows(
    rows: dict[str, Rows], features: list[str], *, batch: str = "kernel", use_combat: bool = True, resamples: int = 1000
) -> CohortEvaluation:
    """Compare rows with those of the first name; arguments as in `evaluate_cohort`.

    Raises:
        UsageError: A candidate shares no region with the standard.
    """
    standard, *candidates = rows
    remarks: list[str] = []
    pairs: dict[str, Pairs] = {}
    for name in candidates:
        shared = shared_keys(rows, standard, name)
        alone = len(rows[standard].keys) + len(rows[name].keys) - 2 * len(shared)
        if alone:
            remarks.append(f"{name}: {alone} regions are only in {name} or only in {standard}, and were not compared")
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
        keys = [key for key in table.keys if key in kind_of]
        told[name, f"by {batch}"] = _told(table.at(keys), [kind_of[key] for key in keys], [key[0] for key in keys])
    return CohortEvaluation(
        standard, features, rows, pairs, agreement, told, batch if kind_of else "", remarks
    )  # fmt: skip


def shared_keys(rows: Mapping[str, Rows], standard: str, name: str) -> list[tuple[str, ...]]:
    """Return the keys that a candidate shares with the standard, in the standard's order.

    Raises:
        UsageError: There are none.
    """
    known = set(rows[name].keys)
    shared = [key for key in rows[standard].keys if key in known]
    if not shared:
        ours, theirs = (next(iter(rows[table].keys), "no row") for table in (name, standard))
        raise UsageError(f"{name} and {standard} must share regions: {name} has {ours}, {standard} has {theirs}.")
    return shared


def after_combat(pairs: Pairs) -> Pairs:
    """Move the source of pairs to the standard by ComBat, fitted for each patient on all others.

    Features that are undefined or constant among those others become NaN. The standard is not changed.

    Raises:
        ValueError: There are too few patients or features.
    """
    patients = np.asarray(pairs.patients)
    names = np.unique(patients)
    moved = np.full(pairs.source.shape, np.nan)
    for name in names:
        own, others = patients == name, patients != name
        if others.sum() < FEWEST_TO_FIT:
            raise ValueError(f"it needs at least {FEWEST_TO_FIT} regions of other patients, got {int(others.sum())}")
        source, target = pairs.source[others], pairs.target[others]
        usable = np.isfinite(source).all(0) & np.isfinite(target).all(0)
        for part in (source, target):
            still = np.ptp(np.where(usable, part, 0), axis=0) <= _STILL * np.abs(np.where(usable, part, 0)).max(0)
            usable &= ~still
        if usable.sum() < 2:
            raise ValueError(f"it needs at least 2 features that are defined and vary, got {int(usable.sum())}")
        model = ReferenceComBat.fit(source[:, usable], target[:, usable])
        moved[np.ix_(own, usable)] = model.transform(pairs.source[np.ix_(own, usable)])
    return Pairs(moved, pairs.target, pairs.patients)


def _told(values: np.ndarray, kinds: list[str], patients: list[str]) -> Told | str:
    try:
        return tell_apart(values, kinds, patients)
    except ValueError as error:
        return str(error)


def _kinds(rows: dict[str, Rows], batch: str) -> dict[tuple[str, ...], str]:
    """Return key -> kind from the first table in which the column varies; standardized images all have one kernel."""
    for table in rows.values():
        kinds = table.columns.get(batch)
        if kinds is not None and len(set(kinds)) > 1:
            return dict(zip(table.keys, kinds.tolist()))
    return {}


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)
