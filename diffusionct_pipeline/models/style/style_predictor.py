"""Which style a slice will have under the target's kernel."""

from __future__ import annotations

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import nn

from .channels import LatentChannels
from .frequency import ramp

TYPICAL_SPACING_MM, SPACING_UNIT = 0.7, 0.25  # log(spacing / typical) / unit is of unit-ish range


class StylePredictor(ModelMixin, ConfigMixin):
    """Translate the target's style to a slice's own anatomy and dose: a noisy scan is noisier still with a sharp kernel.

    Not in Selim et al. 2023. A pooled style mixes noise with anatomy, and says too little of the kernel behind it; this
    network looks at every position of Z_A and weighs those that show the noise best (attention pooling). It says for
    each channel how far to go towards the reference, and what to add: a kernel sharper than all of the training is
    then followed as far as its share says.

    Args:
        latent_channels: C of latents (B, C, L) and styles (B, C).
        rings: How many of them hold local power, see `LatentChannels`.
        hidden: Width.
        heads: Number of ways to weigh the positions.
        reference_share: How far `predict` takes the power of a reference as it is, where noise dominates: the network does
            not believe a kernel unlike all of its training. Chosen on validation scans, half of them under kernels of any
            shape, half with a reference of another dose: mean error of the log gain .26 with 0, .23 with 0.5, .24 with
            0.75, .27 with 1 (by a script that was not kept).
        noise_from_lp_cm, noise_to_lp_cm: Noise dominates more and more in between; slower power is anatomy, which differs
            from slice to slice.
        max_lp_cm: Frequency of the last ring.
    """

    config_name = "config.json"
    _supports_gradient_checkpointing = False
    # Gains need more digits than half precision has.
    _keep_in_fp32_modules = ["standard", "features", "to_weights", "to_values", "change", "power_share"]

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 32,
        rings: int = 24,
        hidden: int = 256,
        heads: int = 8,
        reference_share: float = 0.5,
        noise_from_lp_cm: float = 1.5,
        noise_to_lp_cm: float = 3.0,
        max_lp_cm: float = 12.0,
    ):
        super().__init__()
        self.channels = LatentChannels(latent_channels, rings)
        # Style of the checkpoint's standard, learnt; stands in where no reference is given.
        self.standard = nn.Parameter(torch.zeros(latent_channels))
        seen = 3 * latent_channels + 1
        self.features = nn.Sequential(nn.Linear(seen, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU())
        self.to_weights = nn.Linear(hidden, heads)
        self.to_values = nn.Linear(hidden, hidden // heads)
        summary = heads * (hidden // heads) + 2 * latent_channels + 1
        self.change = nn.Sequential(nn.Linear(summary, hidden), nn.SiLU(), nn.Linear(hidden, 2 * latent_channels))
        nn.init.zeros_(self.change[-1].weight)
        nn.init.zeros_(self.change[-1].bias)
        noise_dominated = ramp(rings, noise_from_lp_cm, noise_to_lp_cm, max_lp_cm)
        self.register_buffer("power_share", reference_share * noise_dominated, persistent=False)  # [rings]

    def forward(
        self,
        latent_a: torch.Tensor,
        source_style: torch.Tensor,
        pixel_spacing: torch.Tensor,
        reference_style: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """What the network says of the style of the standardized slice; this is what training trains.

        Args:
            latent_a: Z_A, (B, C, L), normalized.
            source_style: Its pooled latent, (B, C), normalized.
            pixel_spacing: (B,) in mm: small pixels show more of the noise of a sharp kernel.
            reference_style: Pooled latent of scans with the target's kernel, (1, C) or (B, C), normalized; None takes
                the checkpoint's own standard.

        Returns:
            (B, C), normalized, float32.
        """
        if reference_style is None:
            reference_style = self.standard[None]
        difference = reference_style - source_style  # [B,C]
        spacing = torch.log(pixel_spacing / TYPICAL_SPACING_MM)[:, None] / SPACING_UNIT
        known = torch.cat([source_style, difference, spacing], 1)  # [B,2C+1]
        latent_a, known = latent_a.to(self.standard.dtype), known.to(self.standard.dtype)
        positions = latent_a.transpose(1, 2)  # [B,L,C]
        features = self.features(torch.cat([positions, known[:, None].expand(-1, positions.shape[1], -1)], 2))
        weights = self.to_weights(features).softmax(1)  # [B,L,heads]
        summary = (weights.transpose(1, 2) @ self.to_values(features)).flatten(1)
        share, change = self.change(torch.cat([summary, known], 1)).float().chunk(2, 1)
        return source_style + torch.sigmoid(share) * difference + change

    @apply_forward_hook  # `enable_model_cpu_offload` brings the model back for it
    def predict(
        self,
        latent_a: torch.Tensor,
        source_style: torch.Tensor,
        pixel_spacing: torch.Tensor,
        reference_style: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The style to standardize to: `forward`, and `reference_share` of the reference as it is; arguments as there."""
        style = self(latent_a, source_style, pixel_spacing, reference_style)
        if reference_style is not None:
            power = self.channels.power
            style[:, power] += self.power_share * (reference_style - style)[:, power]
        return style
