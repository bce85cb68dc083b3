"""The discriminator of pix2pix, which all GANs of the comparison share."""

from __future__ import annotations

import torch
from torch import nn

SLOPE = 0.2  # of the leaky rectifier, pix2pix, section 6.1
INIT_STD = 0.02  # of all weights, pix2pix, section 6.2


class PatchDiscriminator(nn.Module):
    """C64-C128-C256-C512 of 4 x 4 convolutions with one score per 70 x 70 patch (Isola et al. 2017, section 6.1.2).

    Instance normalization replaces batch normalization, which is the same at the paper's batch size of 1; it has no
    weights of its own, so that its features are bounded.

    Args:
        in_channels: 1 for an image, 2 for an image and its condition.
        base_channels: 64 in the paper.
    """

    def __init__(self, in_channels: int = 1, base_channels: int = 64):
        super().__init__()
        widths, strides = [base_channels * factor for factor in (1, 2, 4, 8)], (2, 2, 2, 1)
        self.blocks = nn.ModuleList()
        for number, (into, out, stride) in enumerate(zip([in_channels, *widths], widths, strides)):
            norm = nn.InstanceNorm2d(out) if number else nn.Identity()  # none on the first, section 6.1.2
            convolution = nn.Conv2d(into, out, 4, stride, padding=1)
            self.blocks.append(nn.Sequential(convolution, norm, nn.LeakyReLU(SLOPE)))
        self.score = nn.Conv2d(widths[-1], 1, 4, padding=1)
        self.apply(start_small)

    def features(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Return the features of (B, in_channels, H, W), with sides of at least 32, after every block."""
        features = []
        for block in self.blocks:
            image = block(image)
            features.append(image)
        return features

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return scores (B, 1, h, w) of (B, in_channels, H, W), without an activation."""
        return self.score(self.features(image)[-1])


def start_small(module: nn.Module) -> None:
    """Draw weights of convolutions from N(0, 0.02), as in pix2pix and CycleGAN; for `Module.apply`."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(module.weight, std=INIT_STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
