"""The U-Net of pix2pix, which GANai and STAN-CT use as well."""

from __future__ import annotations

import torch
from torch import nn

from .padding import reflected_to
from .patch_discriminator import SLOPE, start_small

WIDEST = 8  # times the first width, Isola et al. 2017, section 6.1.1


class UNetGenerator(nn.Module):
    """Encoder-decoder of 4 x 4 convolutions of stride 2 with skips (Isola et al. 2017, section 6.1.1).

    Instance normalization replaces batch normalization, which is the same at the paper's batch size of 1. Dropout is
    left out, so that the result for a CT image is reproducible.

    Args:
        downs: Halvings: 8 for patches of 256 pixels, 7 for 128.
        base_channels: 64 in the paper.
        bounded: Whether the output goes through tanh.
    """

    def __init__(self, downs: int = 8, base_channels: int = 64, bounded: bool = True):
        super().__init__()
        self.multiple = 2**downs
        widths = [base_channels * min(2**level, WIDEST) for level in range(downs)]
        self.down_blocks = nn.ModuleList()
        for level, (into, out) in enumerate(zip([1, *widths], widths)):
            normed = 0 < level < downs - 1  # not the first; the last may be a single pixel, which would become zero
            self.down_blocks.append(
                nn.Sequential(
                    nn.Identity() if level == 0 else nn.LeakyReLU(SLOPE),
                    nn.Conv2d(into, out, 4, 2, 1),
                    nn.InstanceNorm2d(out, affine=True) if normed else nn.Identity(),
                )
            )
        self.up_blocks = nn.ModuleList()
        for level in reversed(range(downs)):
            into = widths[level] * (1 if level == downs - 1 else 2)
            out = widths[level - 1] if level else 1
            last = nn.Identity() if level == 0 else nn.InstanceNorm2d(out, affine=True)
            self.up_blocks.append(nn.Sequential(nn.ReLU(), nn.ConvTranspose2d(into, out, 4, 2, 1), last))
        self.squash = nn.Tanh() if bounded else nn.Identity()
        self.apply(start_small)

    def encode(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Return the features of (B, 1, H, W) after every halving; the last is the latent."""
        hidden, features = reflected_to(image, self.multiple), []
        for block in self.down_blocks:
            hidden = block(hidden)
            features.append(hidden)
        return features

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map (B, 1, H, W) of any size to the same shape."""
        hidden, *skips = reversed(self.encode(image))
        hidden = self.up_blocks[0](hidden)
        for block, skip in zip(self.up_blocks[1:], skips):
            hidden = block(torch.cat([hidden, skip], 1))
        return self.squash(hidden[..., : image.shape[-2], : image.shape[-1]])
