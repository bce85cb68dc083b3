"""Encoded slices and which of them are pairs: what phase two learns from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from itertools import permutations, product

import torch
from tqdm import tqdm

from ..image_processor import to_model
from ..simulation import SimulatedPair
from .image_pairs import PairGenerator, other_of_group
from .scans import SLICES

STORED_AT_ONCE = 4  # pairs: as fast as any number on a CPU, and a GPU needs no store

Encode = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # (B, 1, H, W) model range, (B,) mm -> (B, C, L)


@dataclass(frozen=True)
class LatentPairs:
    """M pairs of encoded slices: indices (M,) of source, target and reference.

    Attributes:
        source, target: One slice under two kernels.
        reference: Another slice under the target's kernel; not used where `to_standard`.
        to_standard: (M,) bool, whether the target has the standard kernel.
    """

    source: torch.Tensor
    target: torch.Tensor
    reference: torch.Tensor
    to_standard: torch.Tensor

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, chosen: torch.Tensor) -> LatentPairs:
        """Those of an index or mask."""
        return LatentPairs(*(getattr(self, item.name)[chosen] for item in fields(self)))

    def moved(self, offset: int) -> LatentPairs:
        """The same pairs where the slices begin at `offset`."""
        return LatentPairs(self.source + offset, self.target + offset, self.reference + offset, self.to_standard)


@dataclass(frozen=True)
class Latents:
    """Encoded slices, and pairs of them.

    Attributes:
        latents: (N, C, L), not normalized.
        spacing: (N,) in mm.
        pairs: M of them.
    """

    latents: torch.Tensor
    spacing: torch.Tensor
    pairs: LatentPairs

    def draw(self, count: int, standard_share: float, generator: torch.Generator) -> Latents:
        """The same with `count` of its pairs, at random: the standard in `standard_share` of them, where it can be."""
        standard = self.pairs.to_standard
        weights = torch.where(standard, standard_share / standard.sum(), (1 - standard_share) / (~standard).sum())
        drawn = torch.multinomial(weights, count, replacement=True, generator=generator)
        return Latents(self.latents, self.spacing, self.pairs[drawn])


def encoded_pairs(pair_generator: PairGenerator, count: int, encode: Encode, generator: torch.Generator) -> Latents:
    """`count` pairs of the image domain, each used both ways; the reference is another object under the same kernel.

    Args:
        pair_generator: Makes them.
        count: Even.
        encode: See `Encode`.
        generator: On the device of the pairs.
    """
    pairs = pair_generator(count, generator)
    spacing = pairs.spacing.repeat(2)  # [2B]
    latents = encode(torch.cat([pairs.a, pairs.b]), spacing)
    source = torch.arange(2 * count, device=latents.device)
    target = source.roll(count)
    to_standard = torch.cat([pairs.standard, torch.zeros_like(pairs.standard)])
    return Latents(latents, spacing, LatentPairs(source, target, other_of_group(target), to_standard))


def stored_pairs(pair_generator: PairGenerator, count: int, encode: Encode, generator: torch.Generator) -> Latents:
    """`encoded_pairs` made once, to draw from."""
    made = tqdm(range(0, count, STORED_AT_ONCE), desc="pairs", unit_scale=STORED_AT_ONCE)
    return _joined([encoded_pairs(pair_generator, STORED_AT_ONCE, encode, generator) for _ in made])


def stored_scans(groups: Iterable[list[list[SimulatedPair]]], encode: Encode, device: torch.device | str) -> Latents:
    """Groups as of `phantom_groups`, encoded: any kernel to any other and to the standard, which is the first.

    The reference is the other slice of the same scan, or a slice of the group's other scan.
    """
    return _joined([_encoded_group(group, encode, device) for group in groups])


def _encoded_group(group: list[list[SimulatedPair]], encode: Encode, device: torch.device | str) -> Latents:
    # 1. Every slice under every kernel.
    latents, spacing = [], []
    for scan in group:
        for pair in scan:
            millimetres = torch.tensor([pair.spacing_mm], device=device)
            for hu in pair.hu.values():
                latents.append(encode(to_model(torch.from_numpy(hu).to(device)[None, None]), millimetres))
                spacing.append(millimetres)
    at = torch.arange(len(latents)).view(len(group), SLICES, -1)  # [scan,slice,kernel] -> index
    # 2. Which of them are pairs; of two scans and two slices, the other one is 1 - this one.
    pairs = []
    for scan, height, (a, b) in product((0, 1), (0, 1), permutations(range(at.shape[-1]), 2)):
        source, target = at[scan, height, a], at[scan, height, b]
        for reference in (at[scan, 1 - height, b], at[1 - scan, height, b]):
            pairs.append((source, target, reference, False))
        if b == 0:  # the standard
            pairs.append((source, target, target, True))
    columns = [torch.tensor(column, device=device) for column in zip(*pairs)]
    return Latents(torch.cat(latents), torch.cat(spacing), LatentPairs(*columns))


def _joined(parts: list[Latents]) -> Latents:
    pairs, offset = [], 0
    for part in parts:
        pairs.append(part.pairs.moved(offset))
        offset += len(part.latents)
    columns = [torch.cat([getattr(part, item.name) for part in pairs]) for item in fields(LatentPairs)]
    return Latents(
        torch.cat([part.latents for part in parts]), torch.cat([part.spacing for part in parts]), LatentPairs(*columns)
    )
