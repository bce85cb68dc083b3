"""Scans of training phantoms in the projection domain: too slow for every step, enough to tune the target style."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from ..simulation import (
    KERNELS,
    ChestPhantom,
    Kernel,
    Scanner,
    ScanOptions,
    SimulatedPair,
    detectors_needed,
    rekernel_slice,
    simulate_pair,
)
from .objects import TrainingObject
from .splits import SCANS, take

SLICES = 2  # of each scan: one gives the other a reference
TABLE_KERNELS, RANDOM_KERNELS = 3, 3  # beside the standard
THICKNESS_MM = (1.0, 1.5, 2.0, 3.0, 5.0)
LOWEST_HU = (-1024.0, -2048.0)  # by vendor
MAX_SMOOTHING = 0.7
HIGHEST_MAS, HIGHEST_MAS_OF_OBJECTS = 300, 100  # objects have noise of their own, whose spectrum ends early: outdo it


def phantom_groups(
    count: int, standard_kernel: str, size: int = 512, offset: int = 0
) -> Iterator[list[list[SimulatedPair]]]:
    """Groups of two scans, of a phantom each, under the same kernels but at other doses, pixels and slice thicknesses.

    Args:
        count: Number of groups.
        standard_kernel: Name of the kernel that every group has; it is never smoothed, the others are in half of them.
        size: Side of a slice in pixels.
        offset: Group i has the phantoms `offset + 2 * i` and `offset + 2 * i + 1` of the split `SCANS`.

    Yields:
        Lists of two scans, each a list of two `SimulatedPair`s far apart, with seven kernels from one noisy sinogram:
        20 to 300 mAs, 1 to 5 mm, pixels of 0.5 to 0.9 mm.
    """
    scanner = Scanner()
    for first in take(SCANS, 2 * count, offset)[::2]:
        shared = _shared_options(first, standard_kernel, size)
        yield [_scan_phantom(seed, shared, scanner) for seed in (first, first + 1)]


def object_groups(
    count: int, objects: Sequence[TrainingObject], standard_kernel: str, size: int = 512, offset: int = 0
) -> Iterator[list[list[SimulatedPair]]]:
    """As `phantom_groups`, of sharp CT, scanned once more at 20 to 100 mAs and 1 mm; the seeds are those of the kernels.

    Two slices of a scan have the same pixel spacing: so they are of one patient, most likely.
    """
    widest = max(detectors_needed(item.hu, item.spacing_mm) for item in objects)
    scanner = Scanner(n_detectors=max(widest, Scanner().n_detectors))
    for first in take(SCANS, 2 * count, offset)[::2]:
        shared = _shared_options(first, standard_kernel, size)
        yield [_scan_objects(seed, objects, shared, scanner) for seed in (first, first + 1)]


def _scan_phantom(seed: int, shared: dict, scanner: Scanner) -> list[SimulatedPair]:
    generator = torch.Generator().manual_seed(seed)
    options = _options(generator, shared, HIGHEST_MAS)
    options = replace(options, thickness_mm=THICKNESS_MM[int(_uniform(generator) * len(THICKNESS_MM))])
    phantom = ChestPhantom(seed, style="human" if seed % 3 else "lungman")
    low, high = phantom.z_range_mm
    lowest = low + (high - low) * (0.1 + 0.4 * _uniform(generator))
    heights = [lowest, lowest + 0.4 * (high - low)]
    return [simulate_pair(phantom, z, options, seed=SLICES * seed + i, scanner=scanner) for i, z in enumerate(heights)]


def _scan_objects(
    seed: int, objects: Sequence[TrainingObject], shared: dict, scanner: Scanner
) -> list[SimulatedPair]:
    generator = torch.Generator().manual_seed(seed)
    options = _options(generator, shared, HIGHEST_MAS_OF_OBJECTS)
    first = objects[int(_uniform(generator) * len(objects))]
    same = [item for item in objects if item.spacing_mm == first.spacing_mm]
    slices = first, same[int(_uniform(generator) * len(same))]
    return [
        rekernel_slice(item.hu, item.spacing_mm, options, seed=SLICES * seed + i, scanner=scanner)
        for i, item in enumerate(slices)
    ]


def _shared_options(seed: int, standard_kernel: str, size: int) -> dict:
    """What all scans of a group have in common."""
    generator = torch.Generator().manual_seed(seed)
    kernels = _kernels(standard_kernel, generator)
    strengths = MAX_SMOOTHING * torch.rand(len(kernels), generator=generator) * _coin(generator)
    smoothing = {kernel.name: s for kernel, s in zip(kernels, strengths.tolist()) if kernel.name != standard_kernel}
    return {"kernels": tuple(kernels), "smoothing": smoothing, "lowest_hu": LOWEST_HU[_coin(generator)], "size": size}


def _options(generator: torch.Generator, shared: dict, highest_mas: float) -> ScanOptions:
    mas = 20 * (highest_mas / 20) ** _uniform(generator)
    return ScanOptions(mas=mas, spacing_mm=round(0.5 + 0.4 * _uniform(generator), 3), **shared)


def _kernels(standard_kernel: str, generator: torch.Generator) -> list[Kernel]:
    """The standard, kernels of the table up to 4 % off, and kernels of any shape."""
    names = [name for name in KERNELS if name != standard_kernel]
    picked = torch.randperm(len(names), generator=generator)[:TABLE_KERNELS].tolist()
    kernels = [KERNELS[standard_kernel], *(KERNELS[names[i]].jittered(0.04, generator) for i in picked)]
    for index in range(RANDOM_KERNELS):
        sharpness, ratio, boost, peak = torch.rand(4, generator=generator).tolist()
        mtf50 = 2.2 * 5**sharpness
        boost = 1.5 * boost * _coin(generator)
        kernels.append(Kernel(f"random{index}", mtf50, mtf50 * (1.3 + 0.9 * ratio), boost, 1.5 + 4.5 * peak))
    return kernels


def _coin(generator: torch.Generator) -> int:
    return int(_uniform(generator) < 0.5)


def _uniform(generator: torch.Generator) -> float:
    return torch.rand(1, generator=generator).item()
