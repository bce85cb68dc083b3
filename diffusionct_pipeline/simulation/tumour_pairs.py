"""Simulate pairs through tumours for validation and test, in the projection domain, of phantoms outside all training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from ..metrics.regions import every_nth, square_regions, tumour_masks
from . import ChestPhantom, Scanner, ScanOptions, SimulatedPair, simulate_pair
from .degradation import smooth
from .tumours import Tumour

SOURCE, TARGET = "Br40", "Bl64"
FEWEST_PIXELS = 64  # of a tumour: smaller ones hardly have texture
SQUARE_PIXELS, SQUARES = 32, 6
NEXT_SCAN = 1_000_000  # added to the seed of the noise, which takes it beyond every split


def phantom_and_tumour(seed: int, index: int) -> tuple[ChestPhantom, Tumour]:
    """Return the phantom of a seed, every third one a Lungman, and one of its tumours in turn."""
    phantom = ChestPhantom(seed, style="human" if index % 3 else "lungman")
    return phantom, phantom.tumours[index % len(phantom.tumours)]


def tumour_pairs(seeds: range, repeat: int = 0) -> Iterator[SimulatedPair]:
    """Yield Br40/Bl64 pairs through the tumours of phantoms, one tumour each in turn.

    Args:
        seeds: Seeds of the phantoms (see splits.py), and of dose, pixel spacing and noise.
        repeat: Number of the scan, of the same patient and protocol with other noise.

    Yields:
        `SimulatedPair`s: 1 mm slices at 20 to 150 mAs, log-uniform, with pixels of 0.55 to 0.85 mm.
    """
    scanner = Scanner()
    for index, seed in enumerate(seeds):
        generator = torch.Generator().manual_seed(seed)
        dose, spacing = torch.rand(2, generator=generator).tolist()
        phantom, tumour = phantom_and_tumour(seed, index)
        options = ScanOptions(kernels=(SOURCE, TARGET), mas=20.0 * 7.5**dose, spacing_mm=round(0.55 + 0.3 * spacing, 3))
        yield simulate_pair(phantom, tumour.centre_mm[2], options, seed=seed + NEXT_SCAN * repeat, scanner=scanner)


def with_smoothed_source(pair: SimulatedPair, family: str, strength: float) -> SimulatedPair:
    """Return a pair whose Br40 image is smoothed, see `smooth`, and rounded to whole HU."""
    smoothed = smooth(torch.from_numpy(pair.hu[SOURCE]), family, strength).round().numpy()
    return replace(pair, hu={**pair.hu, SOURCE: smoothed})


def measured_regions(pair: SimulatedPair) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return where the texture of a pair is measured: (H, W) masks of its tumours, and of some squares of other tissue."""
    squares = square_regions(pair.hu[SOURCE], SQUARE_PIXELS)
    return tumour_masks(pair.mask, FEWEST_PIXELS), every_nth(squares, SQUARES)
