"""Run the comparison: rivals, test sets, measurements, report; what is there already is not done again."""

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
from .contenders import LEAKED, LEAKY, ROWS, TARGET_ROW, ScanOfCase, contenders
from .measuring import Measured, measure
from .options import StudyOptions
from .report import StudyResult, write_study
from .test_sets import Progress, ScanStore, make_test_sets, tested_slices

KEPT = "kept"  # folder in OUT of scans and measurements
LEAKY_FOLDER = "leaky"  # of that of the rivals: trained on what is tested


def run_study(out: str | Path, options: StudyOptions | None = None, progress: Progress | None = None) -> StudyResult:
    """Compare every system on every test set and write tables, figures and report.md.

    A study that was interrupted goes on: scans and measurements are kept in `OUT/kept`, named by the hash of all that
    they depend on, so that another call measures only what is new.

    Args:
        out: Folder.
        options: None takes the defaults.
        progress: Called as progress(what, done, total).

    Returns:
        StudyResult.

    Raises:
        ValueError, OSError: naming what cannot be used.
        ImportError: without matplotlib.
    """
    options, out = options or StudyOptions(), Path(out)
    tell = progress or (lambda what, done, total: None)
    import_optional("matplotlib")  # now: the figures come last
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
        targets = {test_set.name: measure(ScanOfCase(TARGET_ROW), test_set, folder) for test_set in test_sets}
        rows: dict[str, dict[str, Measured]] = {test_set.name: {} for test_set in test_sets}
        unfinished: dict[str, list[str]] = {test_set.name: [] for test_set in test_sets}
        parameters, seconds = {}, {name: entry["seconds"] for name, entry in record.items()}
        for contender in contenders(options, {name: trained / entry["folder"] for name, entry in record.items()}):
            for test_set in filter(contender.can, test_sets):
                done = 0

                def tell_case(
                    name: str = f"{contender.name}, {test_set.name}", total: int = len(test_set.cases)
                ) -> None:
                    nonlocal done
                    done += 1
                    tell(name, done, total)

                measured = measure(contender, test_set, folder, tell_case, until)
                if measured is None:
                    unfinished[test_set.name].append(contender.name)
                else:
                    rows[test_set.name][contender.name] = measured
            parameters[contender.name] = contender.parameters
            if contender.trained_seconds:
                seconds[contender.name] = contender.trained_seconds
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
    """Train the rivals that are asked for and not there."""

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
