"""Define an autoencoder whose latent is the local texture and whose skips are the slice itself."""

from __future__ import annotations

from typing import NamedTuple

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.utils.accelerate_utils import apply_forward_hook

from ..latent_statistics import LatentStatistics
from .channels import IN_PATIENT, LatentChannels, patient_weight, scaled_spacing
from .coherence import IncoherentPowerFraction, incoherent_fraction_floor, share_beyond
from .local_spectrum import STRIDE, LocalSpectrum
from .synthesis import TextureSynthesis


class TextureSkips(NamedTuple):
    """Hold what `decode` needs of the slices A besides a latent.

    Attributes:
        sample: (B, 1, H, W), model range.
        pixel_spacing: (B,) in mm.
        latent: Z_A, (B, C, L), not normalized.
    """

    sample: torch.Tensor
    pixel_spacing: torch.Tensor
    latent: torch.Tensor


class TextureAutoencoder(LatentStatistics):
    r"""Separate texture from anatomy: `decode(latent_a, skips_a)` returns A, `decode(latent_b, skips_a)` A with the texture of B.

    The latent is what `LocalSpectrum` measures, one position for 32 x 32 pixels. The decoder (`TextureSynthesis`) keeps
    the part of A that is still valid under the target's kernel and synthesizes the rest, so that the local power becomes
    that of the latent. Only the size of the valid part is learnt (`IncoherentPowerFraction`).

    Not in Selim et al. 2023, whose network is `AutoencoderResNet18`. The ResNet and its decoder of an earlier
    checkpoint, on top of a linear filter, lowered the error, but improved no measure of texture and left a lattice of their
    stride on real slices (docs/paper.md); they were not tried on top of this decoder.

    Args:
        rings: Channels of the latent that hold log power, at frequencies from 0 to `max_lp_cm`.
        max_lp_cm: The highest of these: the Nyquist frequency of 0.42 mm pixels, where the sharpest kernels have fallen to 10 %.
        power_floor: Added to the power, model range^2 mm^2; quantization to 1 HU alone gives 1.6e-7 at 0.7 mm.
        kept_lp_cm: Content of lower frequency keeps its HU.
        trusted_from_lp_cm, trusted_to_lp_cm: See `TextureSynthesis`.
        hidden, blocks: See `IncoherentPowerFraction`.
        linear_quantile, linear_margin: See `incoherent_fraction_floor`. Chosen on two real series (B19f, Philips D), smoothed by
            three families, and on validation phantoms: tighter values gain more there on smoothed slices and cost on plain ones.
        coherent_margin: See `share_beyond`.
    """

    _supports_gradient_checkpointing = False
    # Gains need more precision than float16 has.
    _keep_in_fp32_modules = ["spectrum", "incoherent_share", "synthesis", "latent_mean", "latent_std"]

    @register_to_config
    def __init__(
        self,
        rings: int = 24,
        max_lp_cm: float = 12.0,
        power_floor: float = 1e-8,
        kept_lp_cm: float = 0.9,
        trusted_from_lp_cm: float = 0.5,
        trusted_to_lp_cm: float = 2.0,
        hidden: int = 64,
        blocks: int = 3,
        linear_quantile: float = 0.1,
        linear_margin: float = 0.3,
        coherent_margin: float = 0.1,
    ):
        super().__init__()
        self.channels = LatentChannels(rings)
        self.linear = (linear_quantile, linear_margin)
        self.coherent_margin = coherent_margin
        self.spectrum = LocalSpectrum(rings, max_lp_cm, power_floor)
        self.incoherent_share = IncoherentPowerFraction(rings, hidden, blocks)
        self.synthesis = TextureSynthesis(rings, max_lp_cm, kept_lp_cm, trusted_from_lp_cm, trusted_to_lp_cm)
        self.register_latent_statistics(self.channels.total)

    @apply_forward_hook  # so that `enable_model_cpu_offload` loads the model before the call
    def encode(self, sample: torch.Tensor, pixel_spacing: torch.Tensor) -> tuple[torch.Tensor, TextureSkips]:
        """Measure the texture of slices.

        Args:
            sample: (B, 1, H, W), model range, H and W multiples of 32.
            pixel_spacing: (B,) tensor in mm.

        Returns:
            Z, (B, C, L) with L = H / 32 * W / 32, float32, and the skips for `decode`.

        Raises:
            ValueError: if H or W is not a multiple of 32.
        """
        if sample.shape[-2] % STRIDE or sample.shape[-1] % STRIDE:
            found = tuple(sample.shape)
            raise ValueError(f"`sample` must have a height and width that are multiples of {STRIDE}, got {found}.")
        with torch.autocast(sample.device.type, enabled=False):
            texture = self.spectrum(sample, pixel_spacing)
            spacing = scaled_spacing(pixel_spacing.float()).view(-1, 1, 1, 1).expand_as(texture.mean)
            latent = torch.cat([spacing, texture.mean, texture.log_power], 1).flatten(2)  # [B,C,L]
        return latent, TextureSkips(sample, pixel_spacing, latent)

    @apply_forward_hook
    def decode(
        self,
        latent: torch.Tensor,
        skips: TextureSkips,
        noise: torch.Tensor | None,
        coherent: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Decode the anatomy of A with the texture of `latent`.

        Args:
            latent: (B, C, L), of the target's texture, not normalized; only its power is used.
            skips: What `encode` returned for A.
            noise: White, of unit variance, (B, 1, H, W). None synthesizes nothing: all power is taken from A, by a filter.
            coherent: Change of log power that the kernels imply, (B, rings) or (1, rings); None where they are not known.
                Power that grows by more than that is synthesized.

        Returns:
            (B, 1, H, W), model range, float32.
        """
        sample, pixel_spacing, latent_a = skips
        grid = (sample.shape[-2] // STRIDE, sample.shape[-1] // STRIDE)
        latent_a = latent_a.unflatten(2, grid)
        log_power = latent.float()[:, self.channels.power].unflatten(2, grid)
        with torch.autocast(sample.device.type, enabled=False):
            change = log_power - latent_a[:, self.channels.power]
            if noise is None:
                incoherent, noise = torch.zeros_like(change), torch.zeros_like(sample)
            else:
                inside = patient_weight(latent_a.flatten(2)).unflatten(2, grid) > IN_PATIENT
                least = incoherent_fraction_floor(change, inside, *self.linear)
                incoherent = torch.maximum(self.incoherent_share(latent_a, change), least)
                if coherent is not None:
                    incoherent = torch.maximum(incoherent, share_beyond(change, coherent, self.coherent_margin))
            return self.synthesis(sample, change, log_power, incoherent, noise, pixel_spacing)
