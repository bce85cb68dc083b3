"""Define phase two of Selim et al. 2023: the denoiser of the conditional latent DDPM, p(Z_B | Z_A)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.unets.unet_1d import UNet1DOutput
from torch import nn

from .network import Network


class ConditionalUNet1DModel(Network):
    r"""Predict the noise in Z_B given Z_A with a 1-D U-Net (Selim et al. 2023).

    Every residual block receives the time step. There is no positional embedding, so any length L works.

    Args:
        latent_channels: C of the latent (B, C, L).
        block_out_channels: Widths at L, L / 2, L / 4, ...; multiples of `norm_groups` and `head_channels`.
        layers_per_block: Residual blocks at every length, on the way down and on the way up.
        head_channels: Channels of an attention head; there is no attention at the full length.
        norm_groups: Groups of every GroupNorm.
    """

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 32,
        block_out_channels: tuple[int, ...] = (96, 128, 192),
        layers_per_block: int = 2,
        head_channels: int = 32,
        norm_groups: int = 8,
    ):
        super().__init__()
        embedding = 2 * block_out_channels[0]
        self.time_features = Timesteps(block_out_channels[0], flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(block_out_channels[0], embedding)
        self.conv_in = nn.Conv1d(2 * latent_channels, block_out_channels[0], 3, padding=1)

        def layer(before: int, after: int, attention: bool) -> Layer1D:
            return Layer1D(before, after, embedding, head_channels if attention else 0, norm_groups)

        width, widths = block_out_channels[0], [block_out_channels[0]]
        self.down_blocks = nn.ModuleList()
        for level, out in enumerate(block_out_channels):
            layers = nn.ModuleList()
            for _ in range(layers_per_block):
                layers.append(layer(width, out, level > 0))
                width = out
                widths.append(width)
            self.down_blocks.append(layers)
        self.mid_block = nn.ModuleList([layer(width, width, True), layer(width, width, False)])
        self.up_blocks = nn.ModuleList()
        for level, out in reversed(list(enumerate(block_out_channels))):
            layers = nn.ModuleList()
            for _ in range(layers_per_block):
                layers.append(layer(width + widths.pop(), out, level > 0))
                width = out
            self.up_blocks.append(layers)
        self.norm_out = nn.GroupNorm(norm_groups, width + widths.pop())
        self.conv_out = nn.Conv1d(self.norm_out.num_channels, latent_channels, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        assert self.conv_out.bias is not None
        nn.init.zeros_(self.conv_out.bias)

    def forward(
        self,
        sample: torch.Tensor,
        timestep: int | torch.Tensor,
        latent_a: torch.Tensor,
        return_dict: bool = True,
    ) -> UNet1DOutput | tuple[torch.Tensor]:
        """Predict what the scheduler's `prediction_type` asks for (noise, v or Z_B).

        Args:
            sample: Noisy Z_B, (B, C, L), normalized per channel.
            timestep: Integer, or tensor of shape () or (B,).
            latent_a: Z_A, (B, C, L), normalized.
            return_dict: Whether to return a `UNet1DOutput` rather than a tuple.

        Returns:
            `UNet1DOutput` with `sample` (B, C, L).
        """
        batch, _, length = sample.shape
        timestep = torch.as_tensor(timestep, device=sample.device).expand(batch)
        embedding = self.time_embedding(self.time_features(timestep).to(sample.dtype))  # [B,E]
        hidden = torch.cat([sample, latent_a], 1)  # [B,2C,L]
        halvings = len(self.down_blocks) - 1
        hidden = F.pad(hidden, (0, -length % 2**halvings), mode="replicate")

        hidden = self.conv_in(hidden)
        skips = [hidden]
        for level, layers in enumerate(self.down_blocks):
            if level:
                hidden = F.avg_pool1d(hidden, 2)
            for layer in layers.children():
                hidden = layer(hidden, embedding)
                skips.append(hidden)
        for layer in self.mid_block:
            hidden = layer(hidden, embedding)
        for level, layers in enumerate(self.up_blocks):
            if level:
                hidden = F.interpolate(hidden, scale_factor=2.0, mode="nearest")
            for layer in layers.children():
                hidden = layer(torch.cat([hidden, skips.pop()], 1), embedding)
        hidden = torch.cat([hidden, skips.pop()], 1)
        predicted = self.conv_out(F.silu(self.norm_out(hidden)))[..., :length]  # [B,C,L]
        return UNet1DOutput(sample=predicted) if return_dict else (predicted,)


class Layer1D(nn.Module):
    """Apply a residual block modulated by time, and self-attention unless `head_channels` is 0."""

    def __init__(
        self, in_channels: int, out_channels: int, embedding_channels: int, head_channels: int, norm_groups: int
    ):
        super().__init__()
        self.norm1 = nn.GroupNorm(norm_groups, in_channels)
        self.conv1 = nn.Conv1d(in_channels, out_channels, 3, padding=1)
        self.modulation = nn.Linear(embedding_channels, 2 * out_channels)
        self.norm2 = nn.GroupNorm(norm_groups, out_channels)
        self.conv2 = nn.Conv1d(out_channels, out_channels, 3, padding=1)
        self.shortcut = nn.Conv1d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()
        self.heads = out_channels // head_channels if head_channels else 0
        if self.heads:
            self.norm3 = nn.GroupNorm(norm_groups, out_channels)
            self.qkv = nn.Conv1d(out_channels, 3 * out_channels, 1)
            self.attention_out = nn.Conv1d(out_channels, out_channels, 1)

    def forward(self, hidden: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        scale, shift = self.modulation(F.silu(embedding))[..., None].chunk(2, 1)
        inner = self.conv1(F.silu(self.norm1(hidden)))
        inner = self.norm2(inner) * (1 + scale) + shift
        hidden = self.conv2(F.silu(inner)) + self.shortcut(hidden)
        if not self.heads:
            return hidden
        qkv = self.qkv(self.norm3(hidden)).unflatten(1, (3, self.heads, -1)).transpose(-1, -2)  # [B,3,heads,L,d]
        attended = F.scaled_dot_product_attention(*qkv.unbind(1)).transpose(-1, -2).flatten(1, 2)
        return hidden + self.attention_out(attended)
