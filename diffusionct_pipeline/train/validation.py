"""Simulated pairs for validation and test: the projection domain, phantoms that no training sees."""

import numpy as np
import torch

from ..evaluation.texture import square_regions, texture_figures
from ..simulation import ChestPhantom, Scanner, ScanOptions, simulate_pair

VALIDATION_SEED = 50_000  # phantoms from here on choose between checkpoints; training uses seeds below 1,000
TEST_SEED = 90_000  # phantoms from here on are for the figures that are reported
REGION_PIXELS = 32


def tumour_pairs(count, seed, smoothing=0.0):
    """Br40/Bl64 pairs through the tumours of phantoms `seed`, `seed + 1`, ..., one tumour each in turn.

    Args:
        count: Number of pairs.
        seed: Seed of the first phantom; also of dose, pixel spacing and noise.
        smoothing: Strength 0 to 1 of the edge-preserving smoothing of the Br40 image.

    Yields:
        `SimulatedPair`s: 1 mm slices at 20 to 150 mAs, log-uniform, with pixels of 0.55 to 0.85 mm.
    """
    scanner = Scanner()
    for index in range(count):
        generator = torch.Generator().manual_seed(seed + index)
        dose, spacing = torch.rand(2, generator=generator).tolist()
        phantom = ChestPhantom(seed + index, style="human" if index % 3 else "lungman")
        tumour = phantom.tumours[index % len(phantom.tumours)]
        options = ScanOptions(
            kernels=("Br40", "Bl64"),
            mas=20.0 * 7.5**dose,
            spacing_mm=round(0.55 + 0.3 * spacing, 3),
            smoothing={"Br40": smoothing} if smoothing else {},
        )
        yield simulate_pair(phantom, tumour.centre_mm[2], options, seed=seed + index, scanner=scanner)


def regions(pair, squares=6):
    """Masks of the tumours of at least 64 pixels, and of some squares in the patient, evenly spread."""
    masks = [pair.mask == label for label in np.unique(pair.mask) if label and (pair.mask == label).sum() >= 64]
    grid = square_regions(pair.hu["Br40"], REGION_PIXELS)
    return masks + grid[:: max(1, len(grid) // squares)][:squares]


class ValidationSet:
    """`count` pairs, half of them with an edge-preservingly smoothed Br40 image."""

    def __init__(self, count):
        half = count // 2
        self.pairs = [*tumour_pairs(count - half, VALIDATION_SEED), *tumour_pairs(half, VALIDATION_SEED + 500, 0.6)]

    def score(self, standardize):
        """Score `standardize(hu, spacing_mm, target_hu) -> hu` over all regions.

        Returns:
            Dict: root mean square error in HU, and the share of texture figures within 15 % of the target's.
        """
        squared, errors = [], []
        for pair in self.pairs:
            target = pair.hu["Bl64"]
            output = standardize(pair.hu["Br40"], pair.spacing_mm, target)
            squared.append(np.mean((output - target) ** 2))
            for mask in regions(pair):
                ours, theirs = texture_figures(output, mask), texture_figures(target, mask)
                errors += [abs(ours[name] - theirs[name]) / abs(theirs[name]) for name in ours]
        return {"rmse_hu": float(np.sqrt(np.mean(squared))), "within_15_percent": float(np.mean(np.array(errors) < 0.15))}
