"""The trained rivals at sizes of milliseconds, and slices to give them."""

import numpy as np
import torch

from diffusionct_pipeline.systems import TRAINABLE

RESNET = {"latent_channels": 8, "block_out_channels": [8, 8, 8, 8, 16], "decoder_channels": [8] * 5}
TINY = {
    "U-Net, L1": RESNET,
    "pix2pix": {"downs": 4, "base_channels": 4},
    "CycleGAN": {"base_channels": 4, "blocks": 1},
    "GANai": {"downs": 4, "base_channels": 4},
    "STAN-CT": {"downs": 4, "base_channels": 4},
    "RadiomicGAN": {"vgg_channels": 4, "base_channels": 4},
    "CVH-CT": {"base_channels": 8, "blocks": 1, "vgg_channels": 4},
    "UDA-CT": RESNET | {"base_channels": 4},
    "DDPM": {"block_out_channels": [4, 8], "norm_groups": 2, "num_inference_steps": 2},
}


def tiny_system(name):
    """With the same random weights at every call."""
    torch.manual_seed(0)
    return TRAINABLE[name](**TINY[name]).eval()


def noise_hu(seed, shape=(50, 97)):
    """White noise of 100 HU."""
    return np.random.default_rng(seed).normal(0, 100, shape).astype(np.float32)
