"""Features of many regions, in several processes; those that are measured stay on disk until the report is written."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import TypeAlias

import numpy as np
import scipy

from .. import radiomics
from ..radiomics import Features, RadiomicSettings, extract, feature_names
from ..radiomics.ibsi import IbsiSettings, ibsi_names
from ..utils.files import locked_folder, remove_temporaries, write_whole
from .geometry import Spacing

Progress: TypeAlias = Callable[[int, int], None]  # done, total
Source: TypeAlias = str | tuple[str, int]  # a system, or one of its samples
Task: TypeAlias = tuple[Source, int, np.ndarray, np.ndarray]  # source, region, (slices, rows, columns) HU and mask

ALONE = 32  # regions of all series, 20 to 40 ms each, up to which starting processes costs more than it saves


@contextlib.contextmanager
def kept_until_done(out: Path) -> Iterator[Path]:
    """A hidden folder beside `out` for what is measured, which one process at a time has.

    It is removed at the end and after an error; an interrupted or killed process leaves it, to be resumed.

    Raises:
        OSError: naming the folder, if it cannot be made or another process has it.
    """
    folder = out.with_name(f".{out.name}.measured")
    with locked_folder(folder):
        remove_temporaries(folder)
        try:
            yield folder
        except Exception:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)


class MeasuredFeatures:
    """Features on disk, a file for each region, named by the hash of all that they depend on.

    Args:
        folder: Where; made with the first file. None: nothing is kept or found.
        settings: Of the features.
        spacing_mm: Of slices, rows and columns.
        ibsi: Of IBSI's features, where they are measured, too.
    """

    def __init__(
        self, folder: Path | None, settings: RadiomicSettings, spacing_mm: Spacing, ibsi: IbsiSettings | None = None
    ) -> None:
        self.folder, self.names, self.found = folder, feature_names(settings), 0
        if ibsi is not None:
            self.names += ibsi_names(ibsi.dimensions)
        self.code = hashlib.sha256(f"{settings} {ibsi} {spacing_mm} {np.__version__} {scipy.__version__}".encode())
        for path in sorted(Path(radiomics.__file__).parent.rglob("*.py")):
            self.code.update(path.read_bytes())

    def path(self, hu: np.ndarray, mask: np.ndarray) -> Path:
        """File of the features of a region (slices, rows, columns)."""
        digest = self.code.copy()
        for array in (hu, mask):
            digest.update(f"{array.dtype} {array.shape}".encode() + array.tobytes())
        return self.folder / f"{digest.hexdigest()}.json"

    def read(self, hu: np.ndarray, mask: np.ndarray) -> Features | None:
        """What was measured of a region, None where nothing was or its file is damaged."""
        if self.folder is None:
            return None
        try:
            stored = json.loads(self.path(hu, mask).read_text())
            values = dict(zip(self.names, map(float, stored["values"]), strict=True))
            features = Features(values, dict(stored["undefined"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if {name for name, value in values.items() if math.isnan(value)} != set(features.undefined):
            return None
        self.found += 1
        return features

    def write(self, hu: np.ndarray, mask: np.ndarray, features: Features) -> None:
        """Keep what was measured of a region."""
        if self.folder is not None:
            stored = {"values": list(map(float, features.values())), "undefined": features.undefined}
            write_whole(self.path(hu, mask), json.dumps(stored))


def measure_all(
    tasks: list[Task],
    settings: RadiomicSettings,
    spacing_mm: Spacing,
    workers: int | None = None,
    progress: Progress | None = None,
    kept: MeasuredFeatures | None = None,
) -> Iterator[tuple[Source, int, Features]]:
    """Yield (source, region, features) of all tasks, as they come.

    Args:
        tasks: What to measure.
        settings: Of the features.
        spacing_mm: Of slices, rows and columns.
        workers: Processes; None: one per core.
        progress: Called as progress(done, total) after each.
        kept: What an interrupted run has measured, which is not measured again.
    """
    kept = kept or MeasuredFeatures(None, settings, spacing_mm)
    total, done = len(tasks), 0

    def tell() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    # 1. What is there.
    missing = []
    for source, k, hu, mask in tasks:
        features = kept.read(hu, mask)
        if features is None:
            missing.append((source, k, hu, mask))
        else:
            yield source, k, features
            tell()
    # 2. A few, in this process.
    workers = min(workers or os.cpu_count() or 1, len(missing))
    if workers <= 1 or len(missing) <= ALONE:
        for source, k, hu, mask in missing:
            features = extract(hu, mask, spacing_mm, settings)
            kept.write(hu, mask, features)
            yield source, k, features
            tell()
        return
    # 3. Many, in fresh processes: forking one that has run torch or a thread pool may hang.
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    try:
        waiting = {pool.submit(extract, hu, mask, spacing_mm, settings): (source, k, hu, mask)
                   for source, k, hu, mask in missing}  # fmt: skip
        for future in as_completed(waiting):
            source, k, hu, mask = waiting[future]
            features: Features = future.result()
            kept.write(hu, mask, features)
            yield source, k, features
            tell()
    finally:
        pool.shutdown(cancel_futures=True)
