"""Encoded slices and which of them are pairs: what phase two learns from."""

from dataclasses import dataclass
from itertools import chain, permutations, product

import numpy as np
import torch
from tqdm import tqdm

from ..image_processor import HU_CENTRE, HU_SCALE
from .scans import SLICES

STORED_AT_ONCE = 4  # pairs: as fast as any number on a CPU, and a GPU needs no store


@dataclass
class Latents:
    """Encoded slices, and pairs of them.

    Attributes:
        latents: (N, C, L), not standardized. spacing: (N,) in mm.
        pairs: (M, 4) indices of source, target and reference, and 1 where the target is the standard, else 0; the
            reference of the standard is not used.
    """

    latents: torch.Tensor
    spacing: torch.Tensor
    pairs: torch.Tensor

    def draw(self, count, standard_share, generator):
        """The same with `count` of its pairs, at random: the standard in `standard_share` of them, where it can be."""
        standard = self.pairs[:, 3] == 1
        weights = torch.where(standard, standard_share / standard.sum(), (1 - standard_share) / (~standard).sum())
        drawn = torch.multinomial(weights, count, replacement=True, generator=generator)
        return Latents(self.latents, self.spacing, self.pairs[drawn])


def encoded_pairs(generator_of_pairs, count, encode, generator):
    """`count` pairs of the image domain, each used both ways; the reference is another object under the same kernel.

    Args:
        generator_of_pairs: A `PairGenerator`.
        encode: (B, 1, H, W) in model range, (B,) in mm -> (B, C, L).
        generator: `torch.Generator` on the device of the pairs.
    """
    pairs = generator_of_pairs(count, generator)
    spacing = pairs.spacing.repeat(2)  # [2B]
    latents = encode(torch.cat([pairs.a, pairs.b]), spacing)
    a = torch.arange(2 * count, device=latents.device)
    b = a.roll(count)
    standard = torch.cat([pairs.standard, torch.zeros_like(pairs.standard)]).long()
    return Latents(latents, spacing, torch.stack([a, b, b ^ 1, standard], 1))  # 2k and 2k + 1: equal kernels


def stored_pairs(generator_of_pairs, count, encode, generator):
    """`encoded_pairs` made once, to draw from."""
    made = tqdm(range(0, count, STORED_AT_ONCE), desc="pairs", unit_scale=STORED_AT_ONCE)
    return _joined([encoded_pairs(generator_of_pairs, STORED_AT_ONCE, encode, generator) for _ in made])


def stored_scans(groups, encode, device):
    """Groups as of `phantom_groups`, encoded: any kernel to any other and to the standard, which is the first.

    The reference is the other slice of the same scan, or a slice of the group's other scan.
    """
    return _joined([_encoded_group(group, encode, device) for group in groups])


def _encoded_group(group, encode, device):
    latents, spacing = [], []
    for pair in chain(*group):
        millimetres = torch.tensor([pair.spacing_mm], device=device)
        for hu in pair.hu.values():
            sample = (torch.from_numpy(hu).to(device)[None, None] - HU_CENTRE) / HU_SCALE
            latents.append(encode(sample, millimetres))
            spacing.append(millimetres)
    at = torch.arange(len(latents)).view(len(group), SLICES, -1)  # [scan,slice,kernel]
    pairs = []
    for scan, height, (a, b) in product((0, 1), (0, 1), permutations(range(at.shape[-1]), 2)):
        source, target = at[scan, height, a], at[scan, height, b]
        for reference in (at[scan, 1 - height, b], at[1 - scan, height, b]):
            pairs.append((source, target, reference, 0))
        if b == 0:  # the standard
            pairs.append((source, target, target, 1))
    return Latents(torch.cat(latents), torch.cat(spacing), torch.tensor(pairs, device=device))


def _joined(parts):
    offsets = np.cumsum([0, *(len(part.latents) for part in parts)])
    pairs = [part.pairs + part.pairs.new_tensor([*[offset] * 3, 0]) for part, offset in zip(parts, offsets)]
    return Latents(
        torch.cat([part.latents for part in parts]), torch.cat([part.spacing for part in parts]), torch.cat(pairs)
    )
