"""Training objects: noise-free phantom slices and real sharp slices, held in memory as int16 HU."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ...dicom import read_slice, scan_folder
from ...estimation import estimate_kernel_of_series
from ...simulation import ChestPhantom
from ...simulation.splits import IMAGE_PAIRS, take

logger = logging.getLogger(__name__)

SLICES_A_PHANTOM = 8


@dataclass(frozen=True)
class TrainingObject:
    """One slice to train on.

    Attributes:
        hu: (H, W) int16.
        spacing_mm: Side of a pixel.
        law: Estimated MTF50, MTF10, boost and boost peak of its kernel; None where it is not known.
    """

    hu: torch.Tensor
    spacing_mm: float
    law: tuple[float, float, float, float] | None = None


def load_objects(paths: Iterable[str | Path], with_kernels: bool = False) -> list[TrainingObject]:
    """Read objects from folders of DICOM CT or packs (.npz) written by `save_objects`.

    Args:
        paths: Folders and packs.
        with_kernels: Whether to estimate the kernels of the series in folders, which takes seconds each.

    Raises:
        ValueError: if a path holds no readable CT slice.
    """
    objects: list[TrainingObject] = []
    for path in map(Path, paths):
        found = _read_pack(path) if path.suffix == ".npz" else _read_folder(path, with_kernels)
        if not found:
            raise ValueError(
                f'"{path}" must be a folder of CT slices or an .npz pack, but holds no CT slice to train on.'
            )
        objects.extend(found)
    return objects


def phantom_objects(slices: int, seed: int) -> list[TrainingObject]:
    """Return noise-free slices of `ChestPhantom`s of both styles.

    Args:
        slices: Number of slices, eight per phantom.
        seed: Seed of the heights; the phantoms are those of the split `IMAGE_PAIRS` from number `seed` on.

    Raises:
        ValueError: if the split has too few phantoms.
    """
    objects: list[TrainingObject] = []
    generator = torch.Generator().manual_seed(seed)
    for index, phantom_seed in enumerate(take(IMAGE_PAIRS, -(-slices // SLICES_A_PHANTOM), seed)):
        phantom = ChestPhantom(phantom_seed, style="human" if index % 3 else "lungman")
        low, high = phantom.z_range_mm
        for _ in range(min(SLICES_A_PHANTOM, slices - len(objects))):
            z = low + (high - low) * torch.rand(1, generator=generator).item()
            objects.append(TrainingObject(phantom.slice_hu(z).round().to(torch.int16).cpu(), phantom.spacing_mm))
    return objects


def save_objects(objects: Sequence[TrainingObject], path: str | Path) -> None:
    """Write objects of one size to a compressed pack: `hu` int16 (N, H, W), `spacing_mm` (N,)."""
    hu = np.stack([item.hu.numpy() for item in objects])
    np.savez_compressed(path, hu=hu, spacing_mm=np.array([item.spacing_mm for item in objects], np.float32))


def _read_pack(path: Path) -> list[TrainingObject]:
    with np.load(path) as pack:
        return [TrainingObject(torch.from_numpy(hu), float(mm)) for hu, mm in zip(pack["hu"], pack["spacing_mm"])]


def _read_folder(folder: Path, with_kernels: bool) -> list[TrainingObject]:
    scan = scan_folder(folder)
    for skipped in scan.skipped:
        logger.warning('skipped "%s": %s', skipped.path, skipped.reason)
    objects = []
    for series in scan.series:
        kernel = estimate_kernel_of_series(series) if with_kernels else None
        for item in map(read_slice, series.paths):
            hu = torch.from_numpy(np.clip(np.rint(item.hu), -1024, 3071).astype(np.int16))
            objects.append(TrainingObject(hu, item.spacing_mm, None if kernel is None else kernel.law))
    return objects
