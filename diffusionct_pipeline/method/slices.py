"""Group the slices of a call by scan and by image, choose those that are checked, and derive their seeds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter

import torch

from ..image_processor import HUSlice
from ..models.texture.power_shift import evenly_spaced_indices
from ..utils.seeds import MAX_SEED, derive_seed

CHECKED_SLICES = 4  # per scan, on whose results the kernel is measured that derived images name


def scans_of(slices: Sequence[HUSlice]) -> list[list[int]]:
    """Return the indices of the slices of each scan, in order of appearance."""
    scans: dict[tuple, list[int]] = {}
    for i, item in enumerate(slices):
        scans.setdefault((item.series_uid, item.spacing_mm), []).append(i)
    return list(scans.values())


def images_of(slices: Sequence[HUSlice], kinds: Sequence[str]) -> list[tuple[int, int]]:
    """Return the first slice of each image and the one after its last: all slices of a volume, or a single one."""
    wholes = [id(item.volume) if kind == "volume" else i for i, (item, kind) in enumerate(zip(slices, kinds))]
    groups = [[i for i, _ in group] for _, group in groupby(enumerate(wholes), key=itemgetter(1))]
    return [(group[0], group[-1] + 1) for group in groups]


def checked_indices(count: int) -> list[int]:
    """Return the indices of the slices of a scan on whose results the kernel is measured."""
    return evenly_spaced_indices(count, CHECKED_SLICES).tolist()


def draw_seed(generator: torch.Generator) -> int:
    """Draw one seed from a generator on any device."""
    return int(torch.randint(MAX_SEED, (1,), generator=generator, device=generator.device))


def sample_seed(seed: int, number: int) -> int:
    """Return the noise seed of a sample of a slice; that of the first is the slice's own."""
    return seed if number == 0 else derive_seed(seed, f"sample {number}")


def step_generator(seed: int, item: HUSlice) -> torch.Generator:
    """Return the generator of the scheduler's own noise, which differs between the slices of a scan."""
    return torch.Generator().manual_seed(derive_seed(seed, f"steps at {item.position_mm:.3f} mm"))
