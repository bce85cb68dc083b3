"""The trained rivals at sizes of milliseconds, and slices to give them."""

import numpy as np
import torch

from diffusionct_pipeline.comparison.systems import TRAINABLE
from diffusionct_pipeline.comparison.training.rivals import NETWORKS

TINY = {name: NETWORKS["tiny"][name] for name in TRAINABLE}


def tiny_system(name):
    """With the same random weights at every call."""
    torch.manual_seed(0)
    return TRAINABLE[name](**TINY[name]).eval()


def noise_hu(seed, shape=(50, 97)):
    """White noise of 100 HU."""
    return np.random.default_rng(seed).normal(0, 100, shape).astype(np.float32)
