"""Grow branching trees (arteries, veins, bronchi, liver vessels) that fill a cloud of target points."""

from __future__ import annotations

import torch


def grow_tree(
    root_mm: torch.Tensor,
    targets_mm: torch.Tensor,
    leaf_radius_mm: float,
    exponent: float,
    max_radius_mm: float,
    generator: torch.Generator,
    bend: float = 0.06,
) -> torch.Tensor:
    """Grow a binary tree from a root to every target.

    Each branch runs about half way to the centroid of its targets and passes them to two children, split across
    their longest axis. Radii follow Murray's law, parent^k = sum of children^k, so r = leaf * n^(1/k) for n targets.

    Args:
        root_mm: (3,) start. targets_mm: (N, 3) end points.
        leaf_radius_mm: Radius of the last branch. max_radius_mm: Cap for the trunk.
        exponent: k of Murray's law (3 in theory, 2.5 to 2.8 in lungs).
        generator: CPU generator.
        bend: Lateral deviation of a branch's middle, as a share of its length.

    Returns:
        Capsules (n, 8): x0 y0 z0 x1 y1 z1 r0 r1 in mm, on the CPU.
    """
    owner = torch.zeros(len(targets_mm), dtype=torch.long)  # the branch each target belongs to
    tip, tip_radius = root_mm[None].clone(), None
    segments = []
    while len(targets_mm):
        # 1. One branch per group of targets.
        count = torch.bincount(owner, minlength=len(tip)).float()
        centroid = torch.zeros_like(tip).index_add_(0, owner, targets_mm) / count[:, None]
        radius = (leaf_radius_mm * count ** (1 / exponent)).clamp(max=max_radius_mm)
        tip_radius = radius if tip_radius is None else tip_radius
        share = torch.where(count == 1, 1.0, 0.42 + 0.16 * torch.rand(len(tip), generator=generator))
        end = tip + share[:, None] * (centroid - tip)
        length = (end - tip).norm(dim=1, keepdim=True)
        middle = (tip + end) / 2 + bend * length * torch.randn(len(tip), 3, generator=generator)
        segments.append(torch.cat([tip, middle, tip_radius[:, None], radius[:, None]], 1))
        segments.append(torch.cat([middle, end, radius[:, None], radius[:, None]], 1))
        # 2. Groups of one are done; the others split across their longest axis.
        going = count[owner] > 1
        owner, targets_mm = owner[going], targets_mm[going]
        if len(owner) == 0:
            break
        offset = targets_mm - centroid[owner]
        spread = torch.zeros(len(tip), 3, 3).index_add_(0, owner, offset[:, :, None] * offset[:, None, :])
        axis = torch.linalg.eigh(spread)[1][:, :, 2]
        axis = axis * torch.where(axis.sum(1, keepdim=True) < 0, -1, 1)  # LAPACKs differ in the sign
        along = (offset * axis[owner]).sum(1)
        order = torch.argsort(along, stable=True)
        order = order[torch.argsort(owner[order], stable=True)]
        owner, targets_mm = owner[order], targets_mm[order]
        first_of_group = torch.cumsum(count * (count > 1), 0) - count * (count > 1)
        rank = torch.arange(len(owner)) - first_of_group[owner].long()
        cut = (count * (0.35 + 0.3 * torch.rand(len(tip), generator=generator))).floor()
        cut = torch.minimum(cut.clamp(min=1), count - 1)
        child = 2 * owner + (rank >= cut[owner]).long()
        parents, owner = torch.unique(child, return_inverse=True)
        tip, tip_radius = end[parents // 2], radius[parents // 2]
    return torch.cat(segments)
