"""Scans of training phantoms in the projection domain: too slow for every step, enough to tune the target style."""

import torch

from ..simulation import KERNELS, ChestPhantom, Kernel, Scanner, ScanOptions, simulate_pair

SCAN_SEED = 500  # phantoms from here on; image-domain pairs take theirs from 0, validation from 50,000, tests from 90,000
SLICES = 2  # of each scan: one gives the other a reference
TABLE_KERNELS, RANDOM_KERNELS = 3, 3  # beside the standard
THICKNESS_MM = (1.0, 1.5, 2.0, 3.0, 5.0)
LOWEST_HU = (-1024.0, -2048.0)  # by vendor
MAX_SMOOTHING = 0.7


def scan_groups(count, standard_kernel, size=512, seed=SCAN_SEED):
    """Groups of two scans, of a phantom each, under the same kernels but at other doses, pixels and slice thicknesses.

    Args:
        count: Number of groups.
        standard_kernel: Name of the kernel that every group has; it is never smoothed, the others are in half of them.
        size: Side of a slice in pixels.
        seed: Seed of the first phantom; group i has the phantoms `seed + 2 * i` and `seed + 2 * i + 1`.

    Yields:
        Lists of two scans, each a list of two `SimulatedPair`s far apart, with seven kernels from one noisy sinogram:
        20 to 300 mAs, 1 to 5 mm, pixels of 0.5 to 0.9 mm.
    """
    scanner = Scanner()
    for first in range(seed, seed + 2 * count, 2):
        generator = torch.Generator().manual_seed(first)
        kernels = _kernels(standard_kernel, generator)
        strengths = MAX_SMOOTHING * torch.rand(len(kernels), generator=generator) * _coin(generator)
        smoothing = {kernel.name: s for kernel, s in zip(kernels, strengths.tolist()) if kernel.name != standard_kernel}
        lowest_hu = LOWEST_HU[_coin(generator)]
        yield [_scan(phantom_seed, kernels, smoothing, lowest_hu, size, scanner) for phantom_seed in (first, first + 1)]


def _scan(seed, kernels, smoothing, lowest_hu, size, scanner):
    generator = torch.Generator().manual_seed(seed)
    dose, spacing, thickness, height = torch.rand(4, generator=generator).tolist()
    phantom = ChestPhantom(seed, style="human" if seed % 3 else "lungman")
    options = ScanOptions(
        kernels=tuple(kernels),
        mas=20 * 15**dose,
        size=size,
        spacing_mm=round(0.5 + 0.4 * spacing, 3),
        thickness_mm=THICKNESS_MM[int(thickness * len(THICKNESS_MM))],
        smoothing=smoothing,
        lowest_hu=lowest_hu,
    )
    low, high = phantom.z_range_mm
    heights = [low + (high - low) * (0.1 + 0.4 * height + 0.4 * index) for index in range(SLICES)]
    return [simulate_pair(phantom, z, options, seed=SLICES * seed + i, scanner=scanner) for i, z in enumerate(heights)]


def _kernels(standard_kernel, generator):
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


def _coin(generator):
    return int(torch.rand(1, generator=generator) < 0.5)
