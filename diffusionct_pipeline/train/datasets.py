"""Training objects: noise-free phantom slices and real sharp slices, kept as int16 HU in memory."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..dicom import read_slice, scan_folder
from ..simulation import ChestPhantom

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingObject:
    """One slice: `hu` (H, W) int16 tensor, square pixels of `spacing_mm`."""

    hu: torch.Tensor
    spacing_mm: float


def load_objects(paths):
    """Read objects from folders of DICOM CT or packs (.npz) written by `save_objects`.

    Raises:
        ValueError: if a path holds no readable CT slice.
    """
    objects = []
    for path in map(Path, paths):
        found = _read_pack(path) if path.suffix == ".npz" else _read_folder(path)
        if not found:
            raise ValueError(f'"{path}" holds no CT slice to train on; legal are folders of CT and .npz packs.')
        objects.extend(found)
    return objects


def phantom_objects(slices, seed, slices_per_phantom=8):
    """Noise-free slices of `ChestPhantom`s of both styles, seeds `seed`, `seed + 1`, ..."""
    objects = []
    generator = torch.Generator().manual_seed(seed)
    while len(objects) < slices:
        index = len(objects) // slices_per_phantom
        phantom = ChestPhantom(seed + index, style="human" if index % 3 else "lungman")
        low, high = phantom.z_range_mm
        for _ in range(min(slices_per_phantom, slices - len(objects))):
            z = low + (high - low) * torch.rand(1, generator=generator).item()
            objects.append(TrainingObject(phantom.slice_hu(z).round().to(torch.int16).cpu(), phantom.spacing_mm))
    return objects


def save_objects(objects, path):
    """Write objects of one size to a compressed pack: `hu` int16 (N, H, W), `spacing_mm` (N,)."""
    hu = np.stack([item.hu.numpy() for item in objects])
    np.savez_compressed(path, hu=hu, spacing_mm=np.array([item.spacing_mm for item in objects], np.float32))


def _read_pack(path):
    with np.load(path) as pack:
        return [TrainingObject(torch.from_numpy(hu), float(mm)) for hu, mm in zip(pack["hu"], pack["spacing_mm"])]


def _read_folder(folder):
    scan = scan_folder(folder)
    for skipped in scan.skipped:
        logger.warning('skipped "%s": %s', skipped.path, skipped.reason)
    slices = [read_slice(path) for series in scan.series for path in series.paths]
    clipped = [(item, np.clip(np.rint(item.hu), -1024, 3071).astype(np.int16)) for item in slices]
    return [TrainingObject(torch.from_numpy(hu), item.spacing_mm) for item, hu in clipped]
