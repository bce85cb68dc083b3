"""Define the denoiser that is also conditioned on the target: p(Z_B | Z_A, target), position by position."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.unets.unet_1d import UNet1DOutput
from torch import nn

from ..network import Network
from .channels import LatentChannels, patient_mean
from .power_shift import SCAN_TOKENS, TAIL_FEATURES

SMALLEST_DEVIATION = 1e-2  # of a channel of the residual


class ReferenceUNet1DModel(Network):
    r"""Predict the residual of Z_B with a 1-D U-Net over positions of the latent and cross-attention to positions of the target.

    It extends the paper's `ConditionalUNet1DModel` by tokens of the target's texture in every block. A position's neighbours
    are those in its row and, by convolutions whose taps are a row apart, those above and below.

    The diffused variable is the normalized residual of Z_B from `baseline`, which is Z_A with its power shifted by one curve for
    the whole scan that follows from kernels and doses (see `power_shift.py`). The network receives the power of slice and target
    only relative to their means, and two signs of smoothing that neither kernel nor dose explains: how white the slice's noise is
    for its kernel, and how heavy its tails are. So the model follows kernels unlike any in training by construction, and the
    network adds what depends on position, smoothing and anatomy.

    Args:
        rings: Number of rings of the latent's power, see `LatentChannels`.
        block_out_channels: Widths at L, L / 2, L / 4, ...; multiples of `norm_groups` and `head_channels`.
        layers_per_block: Residual blocks at every length, on the way down and on the way up.
        head_channels: Channels of an attention head.
        norm_groups: Groups of every GroupNorm.
        standard_tokens: Number of tokens of the checkpoint's own standard.
        token_channels: Width of tokens in the network.
        max_lp_cm: Frequency of the last ring.
        calibrated_shift, calibrated_residual, calibrated_weight: Measured on pairs of a site, by ring (adapt/pairs.py): the true
            mean shift of power, normalized; the mean sampled residual beside it; and the share of the sampled change at each
            position, relative to its mean, that is applied. Empty without pairs.
    """

    _supports_gradient_checkpointing = False
    _keep_in_fp32_modules = ["standard", "deviation"]  # gains follow from these

    @register_to_config
    def __init__(
        self,
        rings: int = 24,
        block_out_channels: tuple[int, ...] = (64, 96, 128),
        layers_per_block: int = 1,
        head_channels: int = 32,
        norm_groups: int = 8,
        standard_tokens: int = SCAN_TOKENS,
        token_channels: int = 96,
        max_lp_cm: float = 12.0,
        calibrated_shift: tuple[float, ...] = (),
        calibrated_residual: tuple[float, ...] = (),
        calibrated_weight: tuple[float, ...] = (),
    ):
        super().__init__()
        calibration = torch.tensor([calibrated_shift, calibrated_residual, calibrated_weight])
        # [3,rings,1]; [3,0,1] without pairs
        self.register_buffer("calibration", calibration[..., None], persistent=False)
        self.channels = LatentChannels(rings)
        total, width = self.channels.total, block_out_channels[0]
        self.register_buffer("standard", torch.zeros(standard_tokens, total))  # normalized
        self.register_buffer("deviation", torch.ones(total))  # of Z_B from `baseline`, measured in training
        embedding = 2 * width
        self.time_features = Timesteps(width, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(width, embedding)
        others = total - rings
        self.mean_embedding = nn.Sequential(
            nn.Linear(2 * others + 4 * rings + TAIL_FEATURES, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )
        self.token_embedding = nn.Sequential(
            nn.Linear(total, token_channels), nn.SiLU(), nn.Linear(token_channels, token_channels)
        )
        self.conv_in = nn.Conv1d(2 * total, width, 3, padding=1)

        def layer(before: int, after: int) -> ReferenceLayer1D:
            return ReferenceLayer1D(before, after, embedding, token_channels, head_channels, norm_groups)

        widths = [width]
        self.down_blocks = nn.ModuleList()
        for out in block_out_channels:
            layers = nn.ModuleList()
            for _ in range(layers_per_block):
                layers.append(layer(width, out))
                width = out
                widths.append(width)
            self.down_blocks.append(layers)
        self.mid_block = layer(width, width)
        self.up_blocks = nn.ModuleList()
        for out in reversed(block_out_channels):
            layers = nn.ModuleList()
            for _ in range(layers_per_block):
                layers.append(layer(width + widths.pop(), out))
                width = out
            self.up_blocks.append(layers)
        self.norm_out = nn.GroupNorm(norm_groups, width + widths.pop())
        self.conv_out = nn.Conv1d(self.norm_out.num_channels, total, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        assert self.conv_out.bias is not None
        nn.init.zeros_(self.conv_out.bias)

    @property
    def is_calibrated(self) -> bool:
        """Return whether the mean shift of power was calibrated on pairs of a site."""
        return self.calibration.numel() > 0

    def forward(
        self,
        sample: torch.Tensor,
        timestep: int | torch.Tensor,
        latent_a: torch.Tensor,
        tokens: torch.Tensor,
        shift: torch.Tensor,
        whitening: torch.Tensor,
        tails: torch.Tensor,
        row_length: int | None = None,
        return_dict: bool = True,
    ) -> UNet1DOutput | tuple[torch.Tensor]:
        """Predict what the scheduler's `prediction_type` asks for (noise, v or the residual itself).

        Args:
            sample: Noisy residual of Z_B from `baseline`, (B, C, L), in units of `deviation`.
            timestep: Integer, or tensor of shape () or (B,).
            latent_a: Z_A, (B, C, L), normalized.
            tokens: The target's, (1, T, C) or (B, T, C), normalized, see `select_tokens`.
            shift: Shift of power from scan to target, (1, rings) or (B, rings), normalized.
            whitening: The slices', (B, rings), natural logarithm, see `power_shift.whitening`.
            tails: Tails of their noise, (1, 3) or (B, 3), see `power_shift.tail_features`.
            row_length: Positions in a row of the slice; None for square slices.
            return_dict: Whether to return a `UNet1DOutput` rather than a tuple.

        Returns:
            `UNet1DOutput` with `sample` (B, C, L).

        Raises:
            ValueError: if L is not a multiple of `row_length`.
        """
        batch, _, length = sample.shape
        row = row_length or round(length**0.5)
        if length % row:
            raise ValueError(f"`row_length` must divide L = {length}, got {row}.")
        # 1. What is known of the whole slice: local mean and spacing relative to the target's, scatter of power relative to the
        #    target's, whitening, shift and tails; and each position's power relative to its mean.
        tokens = tokens.expand(batch, -1, -1).to(sample.dtype)
        power, others = self.channels.power, slice(0, self.channels.power.start)
        mean_a, mean_b = patient_mean(latent_a), tokens.mean(1)  # [B,C]
        scatter_a = patient_mean((latent_a - mean_a[..., None]).square())[:, power].sqrt()
        scatter_b = tokens[..., power].std(1, correction=0)
        known = [mean_a[:, others], (mean_b - mean_a)[:, others], scatter_a, scatter_b - scatter_a]
        known += [whitening.expand(batch, -1), shift.expand(batch, -1), tails.expand(batch, -1)]
        timestep = torch.as_tensor(timestep, device=sample.device).expand(batch)
        embedding = self.time_embedding(self.time_features(timestep).to(sample.dtype))
        embedding = embedding + self.mean_embedding(torch.cat(known, 1).to(sample.dtype))  # [B,E]
        level = F.pad(torch.ones_like(scatter_a), (self.channels.power.start, 0))  # [B,C], 1 for power
        tokens = self.token_embedding(tokens - (level * mean_b)[:, None])  # [B,T,D]
        hidden = torch.cat([sample, latent_a - (level * mean_a)[..., None]], 1)  # [B,2C,L]

        # 2. Pad rows to a length that can be halved.
        halvings = len(self.down_blocks) - 1
        rows = hidden.unflatten(2, (-1, row))
        rows = F.pad(rows, (0, -row % 2**halvings, 0, 0), mode="replicate")
        padded_row = rows.shape[-1]
        hidden = self.conv_in(rows.flatten(2))

        # 3. Down, and up again.
        skips = [hidden]
        for depth, layers in enumerate(self.down_blocks):
            if depth:
                hidden = F.avg_pool1d(hidden, 2)
            for layer in layers.children():
                hidden = layer(hidden, embedding, tokens, padded_row >> depth)
                skips.append(hidden)
        hidden = self.mid_block(hidden, embedding, tokens, padded_row >> halvings)
        for depth, layers in zip(range(halvings, -1, -1), self.up_blocks):
            if depth < halvings:
                hidden = F.interpolate(hidden, scale_factor=2.0, mode="linear")
            for layer in layers.children():
                hidden = layer(torch.cat([hidden, skips.pop()], 1), embedding, tokens, padded_row >> depth)
        hidden = torch.cat([hidden, skips.pop()], 1)
        predicted = self.conv_out(F.silu(self.norm_out(hidden)))
        predicted = predicted.unflatten(2, (-1, padded_row))[..., :row].flatten(2)  # [B,C,L]
        return UNet1DOutput(sample=predicted) if return_dict else (predicted,)

    def baseline(self, latent_a: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        """Shift the power of Z_A (B, C, L), normalized, by (1, rings) or (B, rings)."""
        return latent_a.float() + F.pad(shift.float(), (self.channels.power.start, 0))[..., None]

    def to_residual(self, latent_b: torch.Tensor, latent_a: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        """Convert Z_B (B, C, L) to the residual that is diffused."""
        return (latent_b - self.baseline(latent_a, shift)) / self.deviation[:, None]

    def from_residual(
        self,
        residual: torch.Tensor,
        latent_a: torch.Tensor,
        shift: torch.Tensor,
        smoothed: float = 1.0,
    ) -> torch.Tensor:
        """Convert a sampled residual to Z_B, as far as it restores what smoothing removed.

        Only the residual's change of power from position to position is used: the mean is that of the shift.

        Args:
            residual: (B, C, L).
            latent_a: Z_A, (B, C, L), normalized.
            shift: (1, rings) or (B, rings), normalized.
            smoothed: Probability that the scan was smoothed, 0 to 1: two kernels of one scan differ by the shift alone. With a
                calibration, the mean is used as far as it differs from that of the pairs, and positions by the calibrated weight.
        """
        change = residual.float() * self.deviation[:, None]
        power = change[:, self.channels.power]
        mean = patient_mean(power, weighted_by=latent_a)[..., None]  # [B,rings,1]
        if self.is_calibrated:
            _, sampled, weight = self.calibration
            power = weight * (power - mean) + (mean - sampled) * smoothed
        else:
            power = smoothed * (power - mean)
        change = torch.cat([change[:, : self.channels.power.start], power], 1)
        return self.baseline(latent_a, shift) + change


class ReferenceLayer1D(nn.Module):
    """Apply a residual block modulated by time and means, self-attention over the slice and cross-attention to the reference."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        embedding_channels: int,
        token_channels: int,
        head_channels: int,
        norm_groups: int,
    ):
        super().__init__()
        self.norm1 = nn.GroupNorm(norm_groups, in_channels)
        self.conv1 = nn.Conv1d(in_channels, out_channels, 3, padding=1)
        self.modulation = nn.Linear(embedding_channels, 2 * out_channels)
        self.norm2 = nn.GroupNorm(norm_groups, out_channels)
        self.across_rows = nn.Conv1d(out_channels, out_channels, 3)  # its taps a row apart
        self.shortcut = nn.Conv1d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()
        self.heads = out_channels // head_channels
        self.norm3 = nn.GroupNorm(norm_groups, out_channels)
        self.qkv = nn.Conv1d(out_channels, 3 * out_channels, 1)
        self.query = nn.Conv1d(out_channels, out_channels, 1)
        self.key_value = nn.Linear(token_channels, 2 * out_channels)
        self.attention_out = nn.Conv1d(2 * out_channels, out_channels, 1)
        nn.init.zeros_(self.attention_out.weight)

    def forward(
        self, hidden: torch.Tensor, embedding: torch.Tensor, tokens: torch.Tensor, row_length: int
    ) -> torch.Tensor:
        """Map (B, in, L), (B, E), (B, T, D) and the positions in a row to (B, out, L)."""
        scale, shift = self.modulation(F.silu(embedding))[..., None].chunk(2, 1)
        inner = self.conv1(F.silu(self.norm1(hidden)))
        inner = F.silu(self.norm2(inner) * (1 + scale) + shift)
        rows = inner.unflatten(2, (-1, row_length))  # a dilated conv1d, which takes twice the time on a CPU
        inner = F.conv2d(rows, self.across_rows.weight[..., None], self.across_rows.bias, padding=(1, 0)).flatten(2)
        hidden = inner + self.shortcut(hidden)
        seen = self.norm3(hidden)
        own = self._attend(*self.qkv(seen).chunk(3, 1))
        other = self._attend(self.query(seen), *self.key_value(tokens).transpose(1, 2).chunk(2, 1))
        return hidden + self.attention_out(torch.cat([own, other], 1))

    def _attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Attend from (B, out, L) to (B, out, S) with values (B, out, S): (B, out, L)."""
        query, key, value = (x.unflatten(1, (self.heads, -1)).transpose(2, 3) for x in (query, key, value))
        return F.scaled_dot_product_attention(query, key, value).transpose(2, 3).flatten(1, 2)
