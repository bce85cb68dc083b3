"""Scans of training phantoms in the projection domain: too slow for every step, enough to tune the target style."""

import torch

from ..simulation import ChestPhantom, Scanner, ScanOptions, simulate_pair

SCAN_SEED = 500  # phantoms from here on; image-domain pairs take theirs from 0, validation from 50,000, tests from 90,000
SOURCES = ("Br36", "Br40", "Br44", "B30f", "GE_STANDARD", "D45", "B70f")
SOURCES_A_SLICE = 4
THICKNESS_MM = (1.0, 1.5, 3.0)


def scanned_slices(count, standard_kernel, size=512):
    """Slices of `count` phantoms, each under the standard kernel and four others, from one noisy sinogram.

    Yields:
        `SimulatedPair`s at 20 to 150 mAs, 1 to 3 mm, pixels of 0.5 to 0.9 mm; in half of them the four are smoothed.
    """
    scanner = Scanner()
    for seed in range(SCAN_SEED, SCAN_SEED + count):
        generator = torch.Generator().manual_seed(seed)
        dose, spacing, thickness, height, smooth = torch.rand(5, generator=generator).tolist()
        phantom = ChestPhantom(seed, style="human" if seed % 3 else "lungman")
        low, high = phantom.z_range_mm
        sources = [name for name in SOURCES if name != standard_kernel]
        sources = [sources[i] for i in torch.randperm(len(sources), generator=generator)[:SOURCES_A_SLICE].tolist()]
        strength = 0.7 * max(0.0, 2 * smooth - 1)
        options = ScanOptions(
            kernels=(*sources, standard_kernel),
            mas=20 * 7.5**dose,
            size=size,
            spacing_mm=round(0.5 + 0.4 * spacing, 3),
            thickness_mm=THICKNESS_MM[int(thickness * len(THICKNESS_MM))],
            smoothing=dict.fromkeys(sources, strength) if strength else {},
        )
        yield simulate_pair(phantom, low + (high - low) * (0.1 + 0.8 * height), options, seed=seed, scanner=scanner)
