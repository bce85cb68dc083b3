"""Measure the features of many regions in several processes, and keep them on disk until the report is written."""

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

ALONE = 32  # regions of all series, 20 to 40 ms each, up to which starting processes takes longer than it saves


@contextlib.contextmanager
def kept_until_done(out: Path) -> Iterator[Path]:
    """Yield a hidden folder beside `out` for measured features, locked for one process at a time.

    It is removed at the end and after an error; an interrupted or killed process leaves it, so that it can be resumed.

    Raises:
        OSError: naming the folder, if it cannot be created or another process has locked it.
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
    """Keep features on disk, one file per region, named by the hash of everything that they depend on.

    Args:
        folder: The folder, created with the first file. None: nothing is kept or found.
        settings: Settings of the features.
        spacing_mm: Spacing of slices, rows and columns.
        ibsi: Settings of the features of IBSI, where they are measured, too.
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

    def file_name(self, hu: np.ndarray, mask: np.ndarray) -> str:
        """Return the name of the file with the features of a region (slices, rows, columns)."""
        digest = self.code.copy()
        for array in (hu, mask):
            digest.update(f"{array.dtype} {array.shape}".encode() + array.tobytes())
        return f"{digest.hexdigest()}.json"

    def read(self, hu: np.ndarray, mask: np.ndarray) -> Features | None:
        """Return the kept features of a region, None if there are none or their file is damaged."""
        if self.folder is None:
            return None
        try:
            stored = json.loads((self.folder / self.file_name(hu, mask)).read_text())
            values = dict(zip(self.names, map(float, stored["values"]), strict=True))
            features = Features(values, dict(stored["undefined"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if {name for name, value in values.items() if math.isnan(value)} != set(features.undefined):
            return None
        self.found += 1
        return features

    def write(self, hu: np.ndarray, mask: np.ndarray, features: Features) -> None:
        """Keep the features of a region."""
        if self.folder is not None:
            stored = {"values": list(map(float, features.values())), "undefined": features.undefined}
            write_whole(self.folder / self.file_name(hu, mask), json.dumps(stored))


def measure_all(
    tasks: list[Task],
    settings: RadiomicSettings,
    spacing_mm: Spacing,
    workers: int | None = None,
    progress: Progress | None = None,
    kept: MeasuredFeatures | None = None,
) -> Iterator[tuple[Source, int, Features]]:
    """Yield (source, region, features) of all tasks, in the order in which they are done.

    Args:
        tasks: The tasks.
        settings: Settings of the features.
        spacing_mm: Spacing of slices, rows and columns.
        workers: Number of processes; None: one per core.
        progress: Called as progress(done, total) after each task.
        kept: Features that an interrupted run has measured, which are not measured again.
    """
    kept = kept or MeasuredFeatures(None, settings, spacing_mm)
    total, done = len(tasks), 0

    def tell() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    # 1. Those that are kept.
    missing = []
    for source, k, hu, mask in tasks:
        known = kept.read(hu, mask)
        if known is None:
            missing.append((source, k, hu, mask))
        else:
            yield source, k, known
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
            features = future.result()
            kept.write(hu, mask, features)
            yield source, k, features
            tell()
    finally:
        pool.shutdown(cancel_futures=True)
