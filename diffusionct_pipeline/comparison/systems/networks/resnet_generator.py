"""The generator of CycleGAN, and the self-attention that CVH-CT adds to it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .padding import reflected_to
from .patch_discriminator import start_small

DOWNSAMPLING = 4
QUERIES_AT_ONCE = 4096  # a 512 x 512 slice has 16,384 positions; all at once would need gigabytes
KEY_SHARE = 8  # channels per channel of queries and keys, Zhang et al. 2019, section 3


class ResNetGenerator(nn.Module):
    """c7s1-64, d128, d256, nine R256, u128, u64, c7s1-1 with instance normalization (Zhu et al. 2017, section 7.2).

    Args:
        base_channels: 64 in the paper.
        blocks: Residual blocks; 9 for images of 256 pixels and more.
        attention: Whether a self-attention block follows the residual blocks, at a quarter of the resolution.
    """

    def __init__(self, base_channels: int = 64, blocks: int = 9, attention: bool = False):
        super().__init__()
        w = base_channels
        self.encoder = nn.Sequential(
            *_padded_convolution(1, w, 7),
            *_normed(nn.Conv2d(w, 2 * w, 3, 2, 1)),
            *_normed(nn.Conv2d(2 * w, 4 * w, 3, 2, 1)),
        )
        self.blocks = nn.Sequential(*(ResidualBlock(4 * w) for _ in range(blocks)))
        self.attention = SelfAttention(4 * w) if attention else nn.Identity()
        self.decoder = nn.Sequential(
            *_normed(nn.ConvTranspose2d(4 * w, 2 * w, 3, 2, 1, output_padding=1)),
            *_normed(nn.ConvTranspose2d(2 * w, w, 3, 2, 1, output_padding=1)),
            nn.ReflectionPad2d(3), nn.Conv2d(w, 1, 7), nn.Tanh(),
        )  # fmt: skip
        self.apply(start_small)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map (B, 1, H, W) in -1 to 1, with sides of at least 8, to the same shape and range."""
        hidden = self.encoder(reflected_to(image, DOWNSAMPLING))
        made = self.decoder(self.attention(self.blocks(hidden)))
        return made[..., : image.shape[-2], : image.shape[-1]]


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with a skip connection."""

    def __init__(self, channels: int):
        super().__init__()
        self.body = nn.Sequential(
            *_padded_convolution(channels, channels, 3),
            nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), nn.InstanceNorm2d(channels),
        )  # fmt: skip

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden + self.body(hidden)


class SelfAttention(nn.Module):
    """x + gamma attention(x), with gamma 0 at first, so that local features are learnt first (Zhang et al. 2019, eq. 3)."""

    def __init__(self, channels: int):
        super().__init__()
        self.key_channels = max(1, channels // KEY_SHARE)
        self.to_keys = nn.Conv2d(channels, 2 * self.key_channels + channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        projected = self.to_keys(hidden).flatten(2).transpose(1, 2)  # [B,hw,2k+C]
        query, key, value = projected.split([self.key_channels, self.key_channels, hidden.shape[1]], -1)
        rows = query.split(QUERIES_AT_ONCE, 1)
        attended = torch.cat([F.scaled_dot_product_attention(row, key, value, scale=1.0) for row in rows], 1)  # eq. 1
        return hidden + self.gamma * self.out(attended.transpose(1, 2).unflatten(2, hidden.shape[-2:]))


def _padded_convolution(into: int, out: int, size: int) -> list[nn.Module]:
    return [nn.ReflectionPad2d(size // 2), *_normed(nn.Conv2d(into, out, size))]


def _normed(convolution: nn.Conv2d | nn.ConvTranspose2d) -> list[nn.Module]:
    return [convolution, nn.InstanceNorm2d(convolution.out_channels), nn.ReLU()]
