"""Assign ranges of seeds to their uses: a phantom, its scan and its noise belong to one split only.

All seeds of phantoms come from here; tests/simulation/test_splits.py checks that no two ranges overlap.
"""

from __future__ import annotations

IMAGE_PAIRS = range(0, 500)  # training: phantoms whose noise-free slices are given kernels in the image domain
SCANS = range(500, 50_000)  # training: phantoms, kernels, doses and noise of scans in the projection domain
VALIDATION = range(50_000, 60_000)  # choice of checkpoints and settings
DEMO = range(80_000, 80_100)  # the scan of `diffusionct demo`
EXAMPLES = range(80_100, 80_200)  # examples/
TEST = range(90_000, 100_000)  # reported figures, and tests of the embedded checkpoint

SPLITS = {
    "image pairs": IMAGE_PAIRS,
    "scans": SCANS,
    "validation": VALIDATION,
    "demo": DEMO,
    "examples": EXAMPLES,
    "test": TEST,
}


def take(split: range, count: int, offset: int = 0) -> range:
    """Return `count` seeds of a split, from its `offset`-th on.

    Raises:
        ValueError: if the split has fewer, so that seeds of another split would be drawn.
    """
    if offset < 0 or count < 0 or offset + count > len(split):
        name = next((name for name, seeds in SPLITS.items() if seeds == split), "this split")
        raise ValueError(f"`offset` + `count` must be at most {len(split)} for {name!r}, got {offset} + {count}.")
    return split[offset : offset + count]
