"""Run the comparison: rivals, test sets, measurements, report. Finished parts are not repeated."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...train.data.objects import save_objects
from ...utils.files import locked_folder, remove_temporaries
from ...utils.optional import import_optional
from ..training.rivals import RIVALS, RivalsOptions, train_rivals, trained_systems
from .any_to_any import SIX_KERNELS, any_to_any
from .measuring import Measured, OutOfTime, measure
from .options import StudyOptions
from .report import StudyResult, write_study
from .rows import LEAKED, LEAKY, ROWS, TARGET_ROW, ScanRow, make_rows
from .test_sets import Progress, ScanStore, make_test_sets, tested_slices

KEPT = "kept"  # subfolder of OUT for scans and measurements
LEAKY_FOLDER = "leaky"  # subfolder of the rivals for the one that is trained on the tested phantoms


def run_study(out: str | Path, options: StudyOptions | None = None, progress: Progress | None = None) -> StudyResult:
    """Compare every system on every test set and write tables, figures and report.md.

    An interrupted study continues: scans and measurements are kept in `OUT/kept`, named by the hash of everything that
    they depend on, so that another call measures only what is new.

    Args:
        out: Output folder.
        options: None takes the defaults.
        progress: Called as progress(what, done, total).

    Returns:
        StudyResult.

    Raises:
        ValueError, OSError: naming what cannot be used.
        ImportError: if matplotlib is not installed.
    """
    options, out = options or StudyOptions(), Path(out)
    tell = progress or (lambda what, done, total: None)
    import_optional("matplotlib")  # checked now, as the figures come last
    with locked_folder(out):
        remove_temporaries(out)
        # 1. Rivals.
        trained = options.trained or out / "systems"
        if options.budget_seconds:
            _train(options, trained)
        record = trained_systems(trained)
        if LEAKED in (leaked := trained_systems(trained / LEAKY_FOLDER)):
            record[LEAKY] = leaked[LEAKED] | {"folder": f"{LEAKY_FOLDER}/{leaked[LEAKED]['folder']}"}
        # 2. Test sets.
        store = ScanStore(out / KEPT / "scans")
        test_sets = list(make_test_sets(options, store, tell))
        # 3. Every row on every set.
        folder, until = out / KEPT / "measured", time.monotonic() + options.max_seconds
        targets = {test_set.name: measure(ScanRow(TARGET_ROW), test_set, folder) for test_set in test_sets}
        rows: dict[str, dict[str, Measured]] = {test_set.name: {} for test_set in test_sets}
        unfinished: dict[str, list[str]] = {test_set.name: [] for test_set in test_sets}
        parameters: dict[str, int] = {}
        seconds = {name: entry["seconds"] for name, entry in record.items()}
        for row in make_rows(options, {name: trained / entry["folder"] for name, entry in record.items()}):
            for test_set in filter(row.can, test_sets):
                done = 0

                def tell_case(name: str = f"{row.name}, {test_set.name}", total: int = len(test_set.cases)) -> None:
                    nonlocal done
                    done += 1
                    tell(name, done, total)

                try:
                    rows[test_set.name][row.name] = measure(row, test_set, folder, tell_case, until)
                except OutOfTime:
                    unfinished[test_set.name].append(row.name)
            parameters[row.name] = row.parameters
            if row.trained_seconds:
                seconds[row.name] = row.trained_seconds
        rows = {
            name: dict(sorted(measured.items(), key=lambda item: ROWS.index(item[0])))
            for name, measured in rows.items()
        }
        # 4. Any kernel to any.
        grids, pairs_done = None, 0
        if options.any_to_any:

            def tell_pair() -> None:
                nonlocal pairs_done
                pairs_done += 1
                tell("any kernel to any", pairs_done, len(SIX_KERNELS) ** 2)

            grids = any_to_any(options, store, tell_pair)
        # 5. The report.
        result = StudyResult(options, test_sets, targets, rows, unfinished, parameters, seconds, grids)
        write_study(result, out)
    return result


def _train(options: StudyOptions, trained: Path) -> None:
    """Train the requested rivals that are missing."""

    def train(systems: Sequence[str], output: Path, **settings: Any) -> None:
        shared = {"budget_seconds": options.budget_seconds, "size": options.network_size, "seed": options.seed}
        chosen = {"output": str(output), "systems": list(systems), **shared, **options.training, **settings}
        train_rivals(RivalsOptions(**chosen))

    wanted = [name for name in RIVALS if not options.systems or name in options.systems]
    if wanted:
        train(wanted, trained, objects=list(options.objects))
    if not options.systems or LEAKY in options.systems:
        pack = trained / LEAKY_FOLDER / "tested_phantoms.npz"
        pack.parent.mkdir(parents=True, exist_ok=True)
        save_objects(tested_slices(options.tumours), pack)
        train([LEAKED], pack.parent, objects=[str(pack)], phantom_slices=0)
