"""Measurements of the images of a row, kept on disk so that an interrupted study continues."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...metrics.image_metrics import bias_hu, nps_distance, rmse_hu
from ...radiomics import extract, feature_names
from ...utils.files import whole_file

if TYPE_CHECKING:
    from ..systems import FittingPair
    from .rows import Row
    from .test_sets import Case, TestSet

SHOWN_PIXELS = 96  # side of the picture of a tumour's middle slice


@dataclass(frozen=True, eq=False)
class Measured:
    """Measurements of all cases of a test set.

    Attributes:
        features: (R, 1401), NaN where undefined.
        rmse_hu, bias_hu, noise_db: (cases,), errors of whole slices, and distance of their noise power.
        seconds: (cases,), per slice.
        shown: (h, w) HU of the first case.
    """

    features: np.ndarray
    rmse_hu: np.ndarray
    bias_hu: np.ndarray
    noise_db: np.ndarray
    seconds: np.ndarray
    shown: np.ndarray


class OutOfTime(Exception):
    """Time was up before every case was measured."""


def measure(
    row: Row, test_set: TestSet, folder: Path, tell: Callable[[], None] = lambda: None, until: float = math.inf
) -> Measured:
    """Standardize every case and measure it, or read earlier measurements.

    Args:
        row: A row whose `can` accepts the test set.
        test_set: The cases.
        folder: Where measurements are kept, by the hash of everything that they depend on.
        tell: Called after each case.
        until: `time.monotonic()` from which on nothing more is measured.

    Raises:
        OutOfTime: if time is up before the last case.
    """
    parts: list[dict[str, np.ndarray]] = []
    learnt: int | None = None
    for case in test_set.cases:
        known = test_set.fittings[case.fold]
        path = folder / f"{_key(row.identity, known, case)}.npz"
        if not path.exists():
            if time.monotonic() > until:
                raise OutOfTime
            if learnt != case.fold:
                row.learn(known)
                learnt = case.fold
            with whole_file(path) as whole, open(whole, "wb") as file:
                np.savez_compressed(file, **_measure(row, case))  # type: ignore[arg-type]  # numpy takes arrays by any name
        with np.load(path) as stored:
            parts.append({name: stored[name] for name in stored.files})
        tell()
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0] if name != "shown"}
    return Measured(**joined, shown=parts[0]["shown"].astype(np.float32))


def _measure(row: Row, case: Case) -> dict[str, np.ndarray]:
    started = time.perf_counter()
    output = row.standardize(case)
    seconds = (time.perf_counter() - started) / len(output)
    output = output.round().clip(case.target.min())  # as the target's file would store it
    middle = len(output) // 2
    try:
        noise_db = nps_distance(output[middle], case.target[middle], case.spacing_mm)
    except ValueError:  # there is no noise at some frequency
        noise_db = np.nan
    names = feature_names()
    voxel_mm = (case.thickness_mm, case.spacing_mm, case.spacing_mm)
    values = [extract(output, region, voxel_mm) for region in case.regions]
    return {
        "features": np.array([[found[name] for name in names] for found in values]),
        "rmse_hu": np.array([rmse_hu(output, case.target)]),
        "bias_hu": np.array([bias_hu(output, case.target)]),
        "noise_db": np.array([noise_db]),
        "seconds": np.array([seconds]),
        "shown": output[middle][_window(case.regions[0][middle])].astype(np.int16),
    }


def _window(mask: np.ndarray) -> tuple[slice, slice]:
    """Return the rows and columns around a mask (H, W), within the image."""
    bounds: list[slice] = []
    for places, size in zip(np.nonzero(mask), mask.shape):
        side = min(SHOWN_PIXELS, size)
        middle = int(places.mean()) if len(places) else size // 2
        start = min(max(middle - side // 2, 0), size - side)
        bounds.append(slice(start, start + side))
    rows, columns = bounds
    return rows, columns


def _key(identity: str, known: Sequence[FittingPair], case: Case) -> str:
    digest = hashlib.sha256(identity.encode())
    arrays = [array for pair in known for array in (pair.source, pair.target)]
    for array in (*arrays, case.source, case.target, *case.regions, *([] if case.repeat is None else [case.repeat])):
        digest.update(f"{array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    digest.update(repr((case.spacing_mm, case.thickness_mm)).encode())
    return digest.hexdigest()
