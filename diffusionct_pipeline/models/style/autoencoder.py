"""The paper's autoencoder, its latent made to carry the style of a kernel and its decoder to obey it."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import nn

from ..autoencoder_resnet18 import DOWNSAMPLING, UpBlock, encoder_features, load_imagenet, resnet, tail, up_widths
from ..latent_statistics import LatentStatistics
from .channels import LatentChannels
from .local_spectrum import LocalSpectrum, LocalTexture
from .style_filter import BAND_CENTRES, StyleFilter

AIR_LIMIT = -1.5  # -900 HU in model range: a local mean below is air, whose noise files cut off at -1024 HU
AIR_SHARPNESS, PATIENT_LOGIT = 20.0, 4.0  # how fast the weight of a position grows with its mean, and up to which logit
BORDER_LOGIT = 8.0  # what a position at the border loses
SPECTRUM_WIDTH = 128  # of the layers that correct the latent by the local texture


class StyleSkips(NamedTuple):
    """What `decode` needs to know of the slices A besides a latent.

    Attributes:
        sample: (B, 1, H, W), model range.
        pixel_spacing: (B,) in mm.
        latent: Z_A, (B, C, L), not normalized.
        features: Of the encoder at /2, /4, /8, /16.
    """

    sample: torch.Tensor
    pixel_spacing: torch.Tensor
    latent: torch.Tensor
    features: tuple[torch.Tensor, ...]


class StyleAutoencoder(ModelMixin, ConfigMixin, LatentStatistics):
    r"""`AutoencoderResNet18` in parts, put together so that the latent tells the texture and the skips the anatomy.

    `decode(latent_a, skips_a)` returns slice A; `decode(latent_b, skips_a)` returns A with the texture of B. Beyond the
    paper: the latent holds the local power spectrum in lp/cm; the decoder corrects a linear filter that matches this
    power (`StyleFilter`); source and target style scale and shift its features.

    Args:
        latent_channels: C of the latent (B, C, L).
        block_out_channels: Widths of the encoder at /2, /4, /8, /16, /32; ResNet-18 by default.
        layers_per_block: Residual layers at /4 and below; 2 makes it ResNet-18.
        decoder_channels: Widths of the decoder at /16, /8, /4, /2, /1; multiples of 8.
        rings: Channels of the latent that hold log power, at frequencies from 0 to `max_lp_cm`.
        max_lp_cm: The last of them: Nyquist of 0.42 mm pixels, by which the sharpest kernels have fallen to 10 %.
        power_floor: Added to the power, model range^2 mm^2; the quantization to 1 HU leaves 1.6e-7 at 0.7 mm.
        kept_lp_cm: What is slower keeps its HU. The embedded checkpoint was trained with 0.6; 0.9 leaves its texture as it
            is and halves what bone loses (benchmarks/series.py).
        trusted_from_lp_cm, trusted_to_lp_cm: See `StyleFilter`.
    """

    config_name = "config.json"
    _supports_gradient_checkpointing = False
    # Gains need more digits than half precision has.
    _keep_in_fp32_modules = ["to_latent", "spectrum", "spectrum_to_latent", "filter", "latent_mean", "latent_std"]

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 32,
        block_out_channels: tuple[int, ...] = (64, 64, 128, 256, 512),
        layers_per_block: int = 2,
        decoder_channels: tuple[int, ...] = (256, 128, 64, 32, 16),
        rings: int = 24,
        max_lp_cm: float = 12.0,
        power_floor: float = 1e-8,
        kept_lp_cm: float = 0.9,
        trusted_from_lp_cm: float = 0.5,
        trusted_to_lp_cm: float = 2.0,
    ):
        super().__init__()
        self.channels = LatentChannels(latent_channels, rings)
        self.encoder = resnet(block_out_channels, layers_per_block)
        self.to_latent = nn.Conv2d(block_out_channels[-1], latent_channels - (1 + rings), 1)
        self.spectrum = LocalSpectrum(rings, max_lp_cm, power_floor)
        self.spectrum_to_latent = nn.Sequential(
            nn.Conv2d(2 * rings + 1, SPECTRUM_WIDTH, 1),
            nn.SiLU(),
            nn.Conv2d(SPECTRUM_WIDTH, SPECTRUM_WIDTH, 1),
            nn.SiLU(),
            nn.Conv2d(SPECTRUM_WIDTH, latent_channels - 1, 1),
        )
        nn.init.zeros_(self.spectrum_to_latent[-1].weight)  # training starts from the known spectrum
        nn.init.zeros_(self.spectrum_to_latent[-1].bias)
        self.filter = StyleFilter(
            self.channels.power, rings, max_lp_cm, kept_lp_cm, trusted_from_lp_cm, trusted_to_lp_cm
        )

        bands, full_size = len(BAND_CENTRES), decoder_channels[-1]
        self.from_latent = nn.Conv2d(latent_channels, decoder_channels[0], 3, padding=1)
        self.from_slice = nn.Conv2d(2 + bands, full_size, 5, padding=2)  # the slice, filtered, in bands
        self.up_blocks = nn.ModuleList(
            StyleUpBlock(below, skip, out, 2 * latent_channels)
            for below, skip, out in up_widths(block_out_channels, decoder_channels)
        )
        self.tail = tail(full_size, 1 + bands)
        nn.init.zeros_(self.tail[-1].weight)  # training starts from the linear filter
        nn.init.zeros_(self.tail[-1].bias)
        self.register_latent_statistics(latent_channels)

    @apply_forward_hook  # `enable_model_cpu_offload` brings the model back for it
    def encode(self, sample: torch.Tensor, pixel_spacing: torch.Tensor) -> tuple[torch.Tensor, StyleSkips]:
        """Split slices into texture and anatomy.

        Args:
            sample: (B, 1, H, W), model range, H and W multiples of 32.
            pixel_spacing: (B,) tensor in mm.

        Returns:
            Z, (B, C, L) with L = H / 32 * W / 32, float32, and the skips for `decode`.

        Raises:
            ValueError: if H or W is no multiple of 32.
        """
        *features, deepest = encoder_features(self.encoder, sample)
        with torch.autocast(sample.device.type, enabled=False):  # bfloat16 would cost the gains two digits
            seen = self.to_latent(deepest.float())
            latent = self._latent(seen, self.spectrum(sample, pixel_spacing)).flatten(2)  # [B,C,L]
        return latent, StyleSkips(sample, pixel_spacing, latent, tuple(features))

    def _latent(self, seen: torch.Tensor, texture: LocalTexture) -> torch.Tensor:
        """Channels of the latent (B, C, h, w) from the ResNet's features and the local texture.

        The weight is given, not learnt: what was learnt held in the training's image domain, and cost the gains 5 %
        in scans. Nor does the ResNet touch the power.
        """
        weight = (AIR_SHARPNESS * (texture.mean - AIR_LIMIT)).clamp(-PATIENT_LOGIT, PATIENT_LOGIT)
        border = torch.zeros_like(weight)  # there reflection bends what crosses it
        border[..., [0, -1], :] = border[..., [0, -1]] = 1
        correction = self.spectrum_to_latent(torch.cat(texture, 1))
        power, features = correction.split([self.channels.rings, seen.shape[1]], 1)
        return self.channels.join(weight - BORDER_LOGIT * border, texture.log_power + power, seen + features)

    def pool(self, latent: torch.Tensor, weighted_by: torch.Tensor | None = None) -> torch.Tensor:
        """Style of whole slices: (B, C, L) -> (B, C), a weighted mean; neither is normalized.

        The weight leaves out what shows no texture of the kernel: air around the patient, and the border. Latents of two
        kernels compare best over the same places: `weighted_by` is the latent (B, C, L) whose weights to take.
        """
        weighing = latent if weighted_by is None else weighted_by
        weight = torch.sigmoid(weighing[:, self.channels.weight])
        return (latent * weight).sum(-1) / weight.sum(-1)

    def style_of(self, latent: torch.Tensor, latent_a: torch.Tensor) -> torch.Tensor:
        """As `pool`, of normalized latents (B, C, L) over the places that Z_A weighs: a normalized style (B, C)."""
        return self.normalize(self.pool(self.denormalize(latent), self.denormalize(latent_a)))

    def match_style(self, latent: torch.Tensor, style: torch.Tensor, latent_a: torch.Tensor) -> torch.Tensor:
        """Shift sampled latents (B, C, L) to the style (B, C) that they were sampled for; all normalized."""
        return latent + (style - self.style_of(latent, latent_a))[..., None]

    @apply_forward_hook
    def decode(self, latent: torch.Tensor, skips: StyleSkips) -> torch.Tensor:
        """Draw the anatomy of A with the texture of `latent`.

        Args:
            latent: (B, C, L), of the target style, not normalized.
            skips: What `encode` returned for A.

        Returns:
            (B, 1, H, W), model range, float32.
        """
        sample, pixel_spacing, latent_a, features = skips
        source_style, target_style = self.pool(latent_a), self.pool(latent.float(), latent_a)
        with torch.autocast(sample.device.type, enabled=False):
            filtered, bands = self.filter(sample, source_style, target_style, pixel_spacing)
        seen = torch.cat([sample, filtered, bands], 1)  # [B,6,H,W]
        styles = torch.cat([source_style, target_style], 1)  # [B,2C]
        grid = (sample.shape[-2] // DOWNSAMPLING, sample.shape[-1] // DOWNSAMPLING)
        hidden = self.from_latent(latent.unflatten(2, grid).to(self.dtype))
        for block, skip in zip(self.up_blocks, [*reversed(features), self.from_slice(seen.to(self.dtype))]):
            hidden = block(hidden, skip, styles)
        drawn = self.tail(hidden).float()
        correction = drawn[:, :1] + (drawn[:, 1:] * bands).sum(1, keepdim=True)
        return filtered + self.filter.keep_slow_content(correction, pixel_spacing)

    def encoder_parts(self) -> list[nn.Module]:
        """The trainable parts that decide the latent."""
        return [self.encoder, self.to_latent, self.spectrum_to_latent]

    def load_imagenet_encoder(self, name: str = "microsoft/resnet-18") -> None:
        """Take the encoder's weights from a pretrained ResNet-18 on the Hub, its colour channels summed."""
        load_imagenet(self.encoder, name)


class StyleUpBlock(UpBlock):
    """An `UpBlock` whose features the styles scale and shift in between (FiLM, Perez 2018)."""

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int, style_channels: int):
        super().__init__(in_channels, skip_channels, out_channels)
        self.modulation = nn.Linear(style_channels, 2 * out_channels)

    def forward(self, hidden: torch.Tensor, skip: torch.Tensor, styles: torch.Tensor) -> torch.Tensor:
        hidden = self.join(hidden, skip)
        scale, shift = self.modulation(styles.to(self.modulation.weight.dtype))[..., None, None].chunk(2, 1)
        inner = self.norm(self.conv1(hidden)) * (1 + scale) + shift
        return self.conv2(F.silu(inner)) + self.shortcut(hidden)
