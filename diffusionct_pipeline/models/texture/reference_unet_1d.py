"""The latent DDPM's network that sees the reference itself: p(Z_B | Z_A, reference), place by place."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.unets.unet_1d import UNet1DOutput
from torch import nn

from .channels import IN_PATIENT, LatentChannels, patient_mean, patient_weight
from .frequency import ramp
from .target_curve import TargetCurve

REFERENCE_TOKENS = 256  # positions of a reference that the denoiser looks at
SMALLEST_DEVIATION = 1e-2  # of a channel of what is sampled
SLOW_LP_CM = 1.25  # up to here power is anatomy, by which places look alike, as by their local mean
LIKE_MEAN, LIKE_POWER = 0.15, 0.4  # how far these may be apart
FEW_MATCHES = 0.002  # share of a reference's positions; a place with less of its like hardly counts
# Scatter of a sampled change, normalized, at which half of its mean is believed. Plain slices have .05 to .2, smoothed ones .2
# to .6; chosen on two real series (B19f, Philips D) under filters of unfamiliar shapes.
DOUBTED_SCATTER = 0.3
UNMATCHED = 0.1  # positions' worth of the plain difference of means, for a reference that is alike nowhere


class ReferenceUNet1DModel(ModelMixin, ConfigMixin):
    r"""One-dimensional U-Net over the positions of the latent, with cross-attention to positions of a reference.

    As `ConditionalUNet1DModel`, the paper's, and beyond it: tokens of a reference with the target's texture in every
    block; learnt tokens stand for the checkpoint's own standard. A position's neighbours are those of its row and, by
    convolutions whose taps are a row apart, those above and below.

    What is diffused is the normalized difference of Z_B from `origin`: Z_A moved by one curve for the whole slice. To
    the standard `TargetCurve` says it, which knows its kernel. To a reference it is the mean difference of power at
    places that look alike (`matched_step`), and the network sees the power of slice and reference only as it differs
    from their means, and how far it scatters: whatever a kernel adds to the log power of either moves the result by as
    much, by construction, so that kernels unlike all of the training are followed. What the network adds is what
    place, smoothing and anatomy change.

    Args:
        rings: Of the latent's power, see `LatentChannels`.
        block_out_channels: Widths at L, L / 2, L / 4, ...; multiples of `norm_groups` and `head_channels`.
        layers_per_block: Residual blocks at every length, on the way down and on the way up.
        head_channels: Channels of an attention head.
        norm_groups: Groups of every GroupNorm.
        standard_tokens: Number of learnt tokens.
        token_channels: Width of tokens inside the network.
        max_lp_cm: Frequency of the last ring.
        reference_from_lp_cm, reference_to_lp_cm: The weight of the difference of the means grows from 0 to 1 in between:
            slower power is anatomy, which differs from slice to slice.
        adapted: Whether the denoiser was adapted to a site (adapt.py): then the tokens of the standard are positions of the
            site's target and are treated as a reference's.
        adapted_true, adapted_sampled, adapted_trust: What pairs of the site told, by ring: mean change of power that they
            show and mean change that was sampled for them, normalized, and the share of the sampled change, place by place
            about its mean, that is believed. Empty: no pairs.
    """

    config_name = "config.json"
    _supports_gradient_checkpointing = False
    # What `origin` is made of.
    _keep_in_fp32_modules = ["standard", "deviation", "curve", "noise_dominated"]

    @register_to_config
    def __init__(
        self,
        rings: int = 24,
        block_out_channels: tuple[int, ...] = (64, 96, 128),
        layers_per_block: int = 2,
        head_channels: int = 32,
        norm_groups: int = 8,
        standard_tokens: int = 64,
        token_channels: int = 96,
        max_lp_cm: float = 12.0,
        reference_from_lp_cm: float = 0.75,
        reference_to_lp_cm: float = 1.5,
        adapted: bool = False,
        adapted_true: tuple[float, ...] = (),
        adapted_sampled: tuple[float, ...] = (),
        adapted_trust: tuple[float, ...] = (),
    ):
        super().__init__()
        told = torch.tensor([adapted_true, adapted_sampled, adapted_trust])
        self.register_buffer("told", told[..., None], persistent=False)  # [3,rings,1]; [3,0,1] without pairs
        self.channels = LatentChannels(rings)
        total, width = self.channels.total, block_out_channels[0]
        is_power = torch.zeros(total)
        is_power[self.channels.power] = 1
        self.register_buffer("is_power", is_power, persistent=False)
        noise_dominated = ramp(rings, reference_from_lp_cm, reference_to_lp_cm, max_lp_cm)
        self.register_buffer("noise_dominated", noise_dominated, persistent=False)
        slow = ((torch.linspace(0, max_lp_cm, rings)[1:] <= SLOW_LP_CM).nonzero()[:, 0] + 1).tolist()
        self.likeness = {self.channels.mean.start: LIKE_MEAN} | {self.channels.power.start + ring: LIKE_POWER for ring in slow}
        self.standard = nn.Parameter(torch.zeros(standard_tokens, total))
        self.register_buffer("deviation", torch.ones(total))  # of Z_B from `origin`, measured in training
        self.curve = TargetCurve(rings)
        embedding = 2 * width
        self.time_features = Timesteps(width, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(width, embedding)
        self.mean_embedding = nn.Sequential(
            nn.Linear(2 * (total + rings), embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )
        self.token_embedding = nn.Sequential(
            nn.Linear(2 * total, token_channels), nn.SiLU(), nn.Linear(token_channels, token_channels)
        )
        self.conv_in = nn.Conv1d(4 * total, width, 3, padding=1)

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
        nn.init.zeros_(self.conv_out.bias)

    def forward(
        self,
        sample: torch.Tensor,
        timestep: int | torch.Tensor,
        latent_a: torch.Tensor,
        reference: torch.Tensor | None = None,
        row_length: int | None = None,
        to_standard: torch.Tensor | None = None,
        return_dict: bool = True,
    ) -> UNet1DOutput | tuple[torch.Tensor]:
        """Predict what the scheduler asks for (noise, v or the difference itself).

        Args:
            sample: Noisy difference of Z_B from `origin`, (B, C, L), in units of `deviation`.
            timestep: Whole number, or tensor of shape () or (B,).
            latent_a: Z_A, (B, C, L), normalized.
            reference: Tokens, (1, T, C) or (B, T, C), normalized, see `tokens_of`; None for the checkpoint's standard.
                With `to_standard`, T is a multiple of `standard_tokens`.
            row_length: Positions in a row of the slice; None for square slices.
            to_standard: (B,) bool, which slices go to the checkpoint's standard after all; for training.
            return_dict: Whether to return a `UNet1DOutput` rather than a tuple.

        Returns:
            `UNet1DOutput` with `sample` (B, C, L).

        Raises:
            ValueError: if L is no multiple of `row_length`.
        """
        batch, _, length = sample.shape
        row = row_length or round(length**0.5)
        if length % row:
            raise ValueError(f"`row_length` is {row}, but L is {length}; legal are its divisors.")
        tokens, standard = self._target(reference, to_standard, batch)
        # 1. Means and scatter of the slice and of the reference, and each position's distance from the means; to a
        #    reference, power only as it differs from its mean.
        mean_a, mean_b = patient_mean(latent_a), tokens.mean(1)  # [B,C]
        scatter_a, scatter_b = patient_mean((latent_a - mean_a[..., None]).square()).sqrt(), tokens.std(1, correction=0)
        scatter = torch.cat([scatter_a, scatter_b - scatter_a], 1).unflatten(1, (2, -1))[:, :, self.channels.power]
        moved = (self.origin(latent_a, reference, to_standard) - latent_a)[..., 0]  # [B,C], alike everywhere
        unmatched = torch.zeros_like(moved)
        unmatched[:, self.channels.power] = (mean_b - mean_a)[:, self.channels.power] * self.noise_dominated
        moved = torch.where(standard > 0, moved, unmatched - moved)[..., None].expand_as(latent_a)
        hidden_level = (1 - standard) * self.is_power  # [B,C]
        latent_a, tokens = latent_a - (hidden_level * mean_a)[..., None], tokens - (hidden_level * mean_b)[:, None]
        mean_a, mean_b = (mean * (1 - hidden_level) for mean in (mean_a, mean_b))
        timestep = torch.as_tensor(timestep, device=sample.device).expand(batch)
        embedding = self.time_embedding(self.time_features(timestep).to(sample.dtype))
        known = torch.cat([mean_a, mean_b - mean_a, scatter.flatten(1)], 1)
        embedding = embedding + self.mean_embedding(known)  # [B,E]
        tokens = self.token_embedding(torch.cat([tokens, tokens - mean_a[:, None]], 2))  # [B,T,D]
        hidden = torch.cat([sample, latent_a, latent_a - mean_a[..., None], moved.to(sample.dtype)], 1)  # [B,4C,L]

        # 2. Rows of a length that can be halved.
        halvings = len(self.down_blocks) - 1
        rows = hidden.unflatten(2, (-1, row))
        rows = F.pad(rows, (0, -row % 2**halvings, 0, 0), mode="replicate")
        padded_row = rows.shape[-1]
        hidden = self.conv_in(rows.flatten(2))

        # 3. Down, and up again.
        skips = [hidden]
        for level, layers in enumerate(self.down_blocks):
            if level:
                hidden = F.avg_pool1d(hidden, 2)
            for layer in layers:
                hidden = layer(hidden, embedding, tokens, padded_row >> level)
                skips.append(hidden)
        hidden = self.mid_block(hidden, embedding, tokens, padded_row >> halvings)
        for level, layers in zip(range(halvings, -1, -1), self.up_blocks):
            if level < halvings:
                hidden = F.interpolate(hidden, scale_factor=2.0, mode="linear")
            for layer in layers:
                hidden = layer(torch.cat([hidden, skips.pop()], 1), embedding, tokens, padded_row >> level)
        hidden = torch.cat([hidden, skips.pop()], 1)
        predicted = self.conv_out(F.silu(self.norm_out(hidden)))
        predicted = predicted.unflatten(2, (-1, padded_row))[..., :row].flatten(2)  # [B,C,L]
        return UNet1DOutput(sample=predicted) if return_dict else (predicted,)

    def origin(
        self,
        latent_a: torch.Tensor,
        reference: torch.Tensor | None = None,
        to_standard: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Z_A (B, C, L), normalized, moved by the curve; arguments as in `forward`."""
        tokens, standard = self._target(reference, to_standard, len(latent_a))
        power = self.channels.power
        with torch.autocast(latent_a.device.type, enabled=False):  # gains follow from it
            latent_a, tokens = latent_a.float(), tokens.float()
            if reference is None and not self.config.adapted:
                curve = self.curve(latent_a, tokens)  # [B,rings]
            else:
                curve = matched_step(latent_a, tokens, self.likeness)[:, power] * self.noise_dominated
            if to_standard is not None and reference is not None:
                curve = torch.where(standard > 0, self.curve(latent_a, tokens), curve)
            moved = torch.zeros_like(latent_a[..., :1])
            moved[:, power] = curve[..., None]
        return latent_a + moved

    def difference(
        self,
        latent_b: torch.Tensor,
        latent_a: torch.Tensor,
        reference: torch.Tensor | None = None,
        to_standard: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Z_B, (B, C, L), as what is diffused."""
        return (latent_b - self.origin(latent_a, reference, to_standard)) / self.deviation[:, None]

    def latent_of(
        self, difference: torch.Tensor, latent_a: torch.Tensor, reference: torch.Tensor | None = None
    ) -> torch.Tensor:
        """What was sampled, as Z_B: the inverse of `difference`, but for the mean to a reference.

        Smoothing moves the mean power of a slice and moves it unevenly; anatomy that slice and reference do not share
        moves the mean alone, and is not to be followed. So of the mean over the patient a share s^2 / (s^2 + s0^2) is
        kept, s the scatter over the patient of what was sampled and s0 = `DOUBTED_SCATTER`. Where pairs of a site have
        told the mean change, it is theirs, whatever the dose of the target's tokens; a share s^4 / (s^4 + s0^4) of how
        far this slice's differs from that of the pairs is added.
        """
        change = difference * self.deviation[:, None]
        power = change[:, self.channels.power]
        origin = self.origin(latent_a, reference)
        if reference is not None or self.config.adapted:
            mean = patient_mean(power, weighted_by=latent_a)[..., None]  # [B,rings,1]
            scatter = patient_mean((power - mean).square(), weighted_by=latent_a).sqrt()  # [B,rings]
            scatter = (scatter * self.noise_dominated).sum(1) / self.noise_dominated.sum()  # [B]
            smoothed = (scatter / DOUBTED_SCATTER).view(-1, 1, 1) ** 2
            kept = mean * smoothed / (1 + smoothed)
            if reference is None and self.told.numel():
                true, sampled, trust = self.told
                moved = (origin - latent_a)[:, self.channels.power, :1]  # [B,rings,1], alike everywhere
                believed = smoothed**2 / (1 + smoothed**2)
                power = true + believed * (moved + kept - sampled) - moved + trust * (power - mean)
            else:
                power = power - mean + kept
        change = torch.cat([change[:, : self.channels.power.start], power], 1)
        return origin + change

    def _target(
        self, reference: torch.Tensor | None, to_standard: torch.Tensor | None, batch: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens (B, T, C), and 1 or 0 (B, 1) whether they are the standard's."""
        if reference is None:
            known = 0.0 if self.config.adapted else 1.0
            return self.standard.expand(batch, -1, -1), self.standard.new_full((batch, 1), known)
        tokens = reference.expand(batch, -1, -1)
        if to_standard is None:
            return tokens, tokens.new_zeros(batch, 1)
        standard = self.standard.repeat(tokens.shape[1] // len(self.standard), 1)  # as often seen, as much attended to
        return torch.where(to_standard[:, None, None], standard, tokens), to_standard[:, None].to(tokens.dtype)


def matched_step(latent_a: torch.Tensor, tokens: torch.Tensor, likeness: dict[int, float]) -> torch.Tensor:
    """Mean difference of a reference from a slice over places that look alike.

    Slices of one scan differ in how much bone, lung and edges they show, by more than kernels do at low frequency. So
    every position of the slice is compared with positions of the reference of like local mean and slow power
    (Nadaraya-Watson), which hardly depends on the kernel; positions without their like count less.

    Args:
        latent_a: Z_A, (B, C, L), normalized.
        tokens: (B, T, C), normalized.
        likeness: Channels that tell it, and how far alike places may be apart there.

    Returns:
        (B, C).
    """
    own = latent_a.transpose(1, 2)  # [B,L,C]
    channels, scale = list(likeness), latent_a.new_tensor(list(likeness.values()))
    distance = torch.cdist(own[..., channels] / scale, tokens[..., channels] / scale)  # [B,L,T]
    weight = torch.exp(-distance.square() / 2)
    matches = weight.mean(2, keepdim=True)  # [B,L,1]
    seen = weight @ tokens / (tokens.shape[1] * matches.clamp(min=1e-12))
    counts = patient_weight(latent_a).transpose(1, 2) * matches / (matches + FEW_MATCHES)
    unmatched = tokens.mean(1) - patient_mean(latent_a)
    total = (counts * (seen - own)).sum(1) + UNMATCHED * unmatched
    return total / (counts.sum(1) + UNMATCHED)


def tokens_of(latent: torch.Tensor, count: int = REFERENCE_TOKENS) -> torch.Tensor:
    """Positions of the latents of a reference that lie in the patient, evenly chosen.

    Args:
        latent: (N, C, L), normalized, of N slices of the reference.
        count: Largest number of tokens.

    Returns:
        (1, T, C) with 1 <= T <= count.
    """
    positions = latent.transpose(1, 2).flatten(0, 1)  # [N*L,C]
    weight = patient_weight(latent).transpose(1, 2).flatten()
    inside = (weight > IN_PATIENT).nonzero()[:, 0]
    if len(inside) == 0:  # no patient in sight: what comes closest
        inside = weight.topk(min(count, len(weight))).indices.sort().values
    return positions[inside[evenly(len(inside), count).to(inside.device)]][None]


def evenly(length: int, count: int) -> torch.Tensor:
    """At most `count` indices below `length`, evenly spread from the first to the last."""
    return torch.linspace(0, length - 1, min(count, length)).round().long()


class ReferenceLayer1D(nn.Module):
    """A residual block modulated by time and means, self-attention over the slice, cross-attention to the reference."""

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
        """(B, in, L), (B, E), (B, T, D), positions in a row -> (B, out, L)."""
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
        """(B, out, L), (B, out, S), (B, out, S) -> (B, out, L)."""
        query, key, value = (x.unflatten(1, (self.heads, -1)).transpose(2, 3) for x in (query, key, value))
        return F.scaled_dot_product_attention(query, key, value).transpose(2, 3).flatten(1, 2)
