"""Phase one: a ResNet-18 U-Net whose 1-D latent carries the texture style and whose skips carry the anatomy."""

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import nn
from transformers import ResNetConfig, ResNetModel

from .local_spectrum import LocalSpectrum
from .style_filter import BAND_CENTRES, StyleFilter, keep_slow_content

AIR_LIMIT = -1.5  # -900 HU in model range: a local mean below is air, whose noise files cut off at -1024 HU
DOWNSAMPLING = 32  # five halvings: /2, /4, /8, /16, /32


class AutoencoderResNet18(ModelMixin, ConfigMixin):
    r"""Encoder-decoder of section 3.1 of Selim et al. 2023, its latent made to carry the style of a kernel.

    `decode(latent_a, skips_a, a)` returns slice A; `decode(latent_b, skips_a, a)` returns A with the texture of B.
    The defaults are the design that converts texture; `paper_literal_config()` gives the paper's own network.

    Args:
        in_channels: Channels of a slice.
        latent_channels: C of the latent (B, C, L).
        block_out_channels: Widths of the encoder at /2, /4, /8, /16, /32; ResNet-18 by default.
        layers_per_block: Residual layers at /4 and below; 2 makes it ResNet-18.
        decoder_channels: Widths of the decoder at /16, /8, /4, /2, /1; multiples of 8.
        skip_mode: "all" or "none".
        local_spectrum: Whether the latent sees the local spectrum in lp/cm besides the ResNet's features.
        style_filter: Whether the decoder corrects a filtered slice (`StyleFilter`) or draws the slice anew.
        style_modulation: Whether source and target style scale and shift the decoder's features.
    """

    config_name = "config.json"
    _supports_gradient_checkpointing = False
    # Gains need more digits than half precision has.
    _keep_in_fp32_modules = ["to_latent", "spectrum", "spectrum_to_latent", "filter", "latent_mean", "latent_std"]

    @register_to_config
    def __init__(
        self,
        in_channels: int = 1,
        latent_channels: int = 32,
        block_out_channels: tuple[int, ...] = (64, 64, 128, 256, 512),
        layers_per_block: int = 2,
        decoder_channels: tuple[int, ...] = (256, 128, 64, 32, 16),
        skip_mode: str = "all",
        local_spectrum: bool = True,
        style_filter: bool = True,
        style_modulation: bool = True,
    ):
        super().__init__()
        if skip_mode not in ("all", "none"):
            raise ValueError(f'`skip_mode` is {skip_mode!r}; legal are "all" and "none".')
        if style_filter and in_channels != 1:
            raise ValueError(f"`style_filter` needs `in_channels=1`, but `in_channels` is {in_channels}.")
        stem, *stages = block_out_channels
        self.encoder = ResNetModel(
            ResNetConfig(
                num_channels=in_channels,
                embedding_size=stem,
                hidden_sizes=stages,
                depths=[layers_per_block] * len(stages),
                layer_type="basic",
            )
        )
        rings = min(24, latent_channels - 2)
        self.to_latent = nn.Conv2d(stages[-1], latent_channels - (1 + rings if local_spectrum else 0), 1)
        if local_spectrum:
            self.spectrum = LocalSpectrum(rings)
            self.spectrum_to_latent = nn.Sequential(
                nn.Conv2d(self.spectrum.out_channels, 128, 1),
                nn.SiLU(),
                nn.Conv2d(128, 128, 1),
                nn.SiLU(),
                nn.Conv2d(128, latent_channels - 1, 1),
            )
            nn.init.zeros_(self.spectrum_to_latent[-1].weight)  # training starts from the known spectrum
            nn.init.zeros_(self.spectrum_to_latent[-1].bias)
        self.spectrum_channels = slice(1, 1 + rings) if local_spectrum else None  # of the latent
        self.filter = StyleFilter(latent_channels, self.spectrum_channels, rings) if style_filter else None

        bands = len(BAND_CENTRES) if style_filter else 0
        full_size = decoder_channels[-1]
        self.from_latent = nn.Conv2d(latent_channels, decoder_channels[0], 3, padding=1)
        self.from_slice = nn.Conv2d(in_channels * (2 if style_filter else 1) + bands, full_size, 5, padding=2)
        skip_channels = [*block_out_channels[-2::-1], full_size]
        style_channels = 2 * latent_channels if style_modulation else 0
        self.up_blocks = nn.ModuleList(
            UpBlock(below, skip if skip_mode == "all" else 0, out, style_channels)
            for below, skip, out in zip((decoder_channels[0], *decoder_channels), skip_channels, decoder_channels)
        )
        # "several 1D convolutional layers in the last layers", without skips: read as 1x1 convolutions.
        self.tail = nn.Sequential(nn.Conv2d(full_size, 32, 1), nn.SiLU(), nn.Conv2d(32, in_channels + bands, 1))
        if style_filter:  # training starts from the linear filter
            nn.init.zeros_(self.tail[-1].weight)
            nn.init.zeros_(self.tail[-1].bias)
        # Per-channel statistics of the latent over training slices, in which the diffusion model works.
        self.register_buffer("latent_mean", torch.zeros(latent_channels))
        self.register_buffer("latent_std", torch.ones(latent_channels))

    @staticmethod
    def paper_literal_config():
        """Keyword arguments of the paper's own network: no filter, no spectrum, no modulation."""
        return {"local_spectrum": False, "style_filter": False, "style_modulation": False}

    @apply_forward_hook  # `enable_model_cpu_offload` brings the model back for it
    def encode(self, sample, pixel_spacing):
        """Split slices into texture and anatomy.

        Args:
            sample: (B, 1, H, W), model range, H and W multiples of 32.
            pixel_spacing: (B,) tensor in mm.

        Returns:
            The latent (B, C, L) with L = H / 32 * W / 32, float32, and the skips for `decode`, its last the latent.
        """
        if sample.shape[-2] % DOWNSAMPLING or sample.shape[-1] % DOWNSAMPLING:
            raise ValueError(f"`sample` has shape {tuple(sample.shape)}; height and width must be multiples of 32.")
        hidden = self.encoder.embedder.embedder(sample)  # [B,64,H/2,W/2]
        skips = [hidden]
        hidden = self.encoder.embedder.pooler(hidden)
        for stage in self.encoder.encoder.stages:
            hidden = stage(hidden)
            skips.append(hidden)
        with torch.autocast(sample.device.type, enabled=False):  # bfloat16 would cost the gains two digits
            latent = self.to_latent(skips.pop().float())
            if self.config.local_spectrum:
                latent = self._join_spectrum(latent, self.spectrum(sample, pixel_spacing))
        latent = latent.flatten(2)  # [B,C,L]
        return latent, (*skips, latent)

    def _join_spectrum(self, features, described):
        """Channels of the latent: the weight for `pool`; the log power in rings, corrected; the ResNet's features.

        The weight is given, not learnt: what was learnt held in the training's image domain, and cost the gains 5 %
        in scans. Nor does the ResNet touch the power.
        """
        rings = self.spectrum.rings
        in_patient = (20 * (described[:, -1:] - AIR_LIMIT)).clamp(-4, 4)
        border = torch.zeros_like(in_patient)  # there reflection bends what crosses it
        border[..., [0, -1], :] = border[..., [0, -1]] = 1
        seen = torch.cat([described[:, :rings], features], 1) + self.spectrum_to_latent(described)
        return torch.cat([in_patient - 8 * border, seen], 1)

    def pool(self, latent, weighted_by=None):
        """Style of whole slices: (B, C, L) -> (B, C), a mean weighted by the first channel.

        The weight leaves out what shows no texture of the kernel: air around the patient, and the border. Latents of two
        kernels compare best over the same places: `weighted_by` is the latent (B, C, L) whose weights to take.
        """
        weight = torch.sigmoid((latent if weighted_by is None else weighted_by)[:, :1])
        return (latent * weight).sum(-1) / weight.sum(-1)

    @apply_forward_hook  # `enable_model_cpu_offload` brings the model back for it
    def decode(self, latent, skips, sample, pixel_spacing):
        """Draw the anatomy of `sample` with the texture of `latent`.

        Args:
            latent: (B, C, L), of the target style.
            skips: What `encode` returned for `sample`.
            sample: (B, 1, H, W), model range.
            pixel_spacing: (B,) tensor in mm.

        Returns:
            (B, 1, H, W), model range, float32.
        """
        *skips, source = skips
        source_style, target_style = self.pool(source), self.pool(latent.float(), source)
        seen = sample
        if self.filter is not None:
            with torch.autocast(sample.device.type, enabled=False):
                filtered, bands = self.filter(sample, source_style, target_style, pixel_spacing)
            seen = torch.cat([sample, filtered, bands], 1)  # [B,6,H,W]
        styles = torch.cat([source_style, target_style], 1)  # [B,2C]
        grid = (sample.shape[-2] // DOWNSAMPLING, sample.shape[-1] // DOWNSAMPLING)
        hidden = self.from_latent(latent.unflatten(2, grid).to(self.dtype))
        for block, skip in zip(self.up_blocks, [*reversed(skips), self.from_slice(seen.to(self.dtype))]):
            hidden = block(hidden, skip, styles)
        drawn = self.tail(hidden).float()
        if self.filter is None:
            return drawn
        correction = drawn[:, :1] + (drawn[:, 1:] * bands).sum(1, keepdim=True)
        return filtered + keep_slow_content(correction, pixel_spacing)

    def standardize(self, latent):
        """Latent (B, C, L) or style (B, C) -> zero mean, unit variance per channel."""
        mean, std = self._statistics(latent)
        return (latent - mean) / std

    def unstandardize(self, latent):
        """Inverse of `standardize`."""
        mean, std = self._statistics(latent)
        return latent * std + mean

    def _statistics(self, latent):
        # The model may be offloaded to the CPU while its latents are not.
        shape = (1, -1, *[1] * (latent.ndim - 2))
        return [statistic.view(shape).to(latent.device) for statistic in (self.latent_mean, self.latent_std)]

    def load_imagenet_encoder(self, name="microsoft/resnet-18"):
        """Take the encoder's weights from a pretrained ResNet-18 on the Hub, its colour channels summed."""
        state = ResNetModel.from_pretrained(name).state_dict()
        stem = "embedder.embedder.convolution.weight"
        state[stem] = state[stem].sum(1, keepdim=True).expand(-1, self.config.in_channels, -1, -1)
        self.encoder.load_state_dict(state)


class UpBlock(nn.Module):
    """Double the resolution, join a skip, convolve twice; styles scale and shift in between (FiLM, Perez 2018)."""

    def __init__(self, in_channels, skip_channels, out_channels, style_channels):
        super().__init__()
        self.skip_channels = skip_channels
        joined = out_channels + skip_channels
        self.up = nn.Conv2d(in_channels, 4 * out_channels, 1)
        self.conv1 = nn.Conv2d(joined, out_channels, 3, padding=1)
        self.norm = nn.GroupNorm(8, out_channels)
        self.modulation = nn.Linear(style_channels, 2 * out_channels) if style_channels else None
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut = nn.Conv2d(joined, out_channels, 1)

    def forward(self, hidden, skip, styles):
        hidden = F.pixel_shuffle(self.up(hidden), 2)
        if self.skip_channels:
            hidden = torch.cat([hidden, skip.to(hidden.dtype)], 1)
        inner = self.norm(self.conv1(hidden))
        if self.modulation is not None:
            scale, shift = self.modulation(styles.to(self.modulation.weight.dtype))[..., None, None].chunk(2, 1)
            inner = inner * (1 + scale) + shift
        return self.conv2(F.silu(inner)) + self.shortcut(hidden)
