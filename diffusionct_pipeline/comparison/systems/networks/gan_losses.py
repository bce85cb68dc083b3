"""The losses of discriminators and generators, and the Gram matrix of features."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce

import torch
import torch.nn.functional as F


def least_squares(scores: torch.Tensor, real: bool) -> torch.Tensor:
    """Return the LSGAN loss (Mao et al. 2017, eq. 9 with a = 0, b = c = 1), mean (score - label)^2 over patches, a scalar."""
    return (scores.float() - float(real)).square().mean()


def logistic(scores: torch.Tensor, real: bool) -> torch.Tensor:
    """Return the loss of the first GAN (Goodfellow et al. 2014), binary cross-entropy of logits: -log D if `real`, a scalar."""
    scores = scores.float()
    return F.softplus(-scores if real else scores).mean()


def total(losses: Iterable[torch.Tensor]) -> torch.Tensor:
    """Add up losses."""
    return reduce(torch.add, losses)


def is_real(scores: torch.Tensor) -> torch.Tensor:
    """Return the mean probability over patches, 0 to 1, that a discriminator of logits assigns to "real"; a scalar."""
    return torch.sigmoid(scores.detach().float()).mean()


def gram(features: torch.Tensor) -> torch.Tensor:
    """Return Gram matrices (B, C, C) of features (B, C, H, W), per element (Gatys et al. 2016, eq. 3)."""
    flat = features.float().flatten(2)
    return flat @ flat.transpose(1, 2) / flat[0].numel()
