"""Define phase one of Selim et al. 2023: the encoder-decoder, a ResNet-18 U-Net with a one-dimensional latent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import nn
from transformers import ResNetConfig, ResNetModel

from .latent_statistics import LatentStatistics

DOWNSAMPLING = 32  # five halvings: /2, /4, /8, /16, /32
TAIL_CHANNELS = 32


class AutoencoderResNet18(LatentStatistics):
    r"""Encode and decode slices as in Selim et al. 2023: A -> (Z_A, skips) -> A.

    The encoder is a ResNet-18 in five blocks, the decoder doubles the resolution five times. The latent is a sequence of
    positions, one for 32 x 32 pixels. The network works in pixels: it does not know how many mm they measure.

    Args:
        latent_channels: C of the latent (B, C, L).
        block_out_channels: Widths of the encoder at /2, /4, /8, /16, /32; ResNet-18 by default.
        layers_per_block: Residual layers at /4 and below; 2 makes it ResNet-18.
        decoder_channels: Widths of the decoder at /16, /8, /4, /2, /1; multiples of 8.
        skip_mode: "all" or "none". The paper says of skip connections only that its last layers have none.
    """

    _supports_gradient_checkpointing = False

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 32,
        block_out_channels: tuple[int, ...] = (64, 64, 128, 256, 512),
        layers_per_block: int = 2,
        decoder_channels: tuple[int, ...] = (256, 128, 64, 32, 16),
        skip_mode: str = "all",
    ):
        super().__init__()
        if skip_mode not in ("all", "none"):
            raise ValueError(f'`skip_mode` must be "all" or "none", got {skip_mode!r}.')
        self.encoder = resnet(block_out_channels, layers_per_block)
        self.to_latent = nn.Conv2d(block_out_channels[-1], latent_channels, 1)
        self.from_latent = nn.Conv2d(latent_channels, decoder_channels[0], 3, padding=1)
        self.from_slice = nn.Conv2d(1, decoder_channels[-1], 5, padding=2)
        self.up_blocks = nn.ModuleList(
            UpBlock(below, skip if skip_mode == "all" else 0, out)
            for below, skip, out in up_widths(block_out_channels, decoder_channels)
        )
        self.tail = tail(decoder_channels[-1], 1)
        self.register_latent_statistics(latent_channels)

    @apply_forward_hook  # so that `enable_model_cpu_offload` loads the model before the call
    def encode(
        self, sample: torch.Tensor, pixel_spacing: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """Split slices into latents and skips.

        Args:
            sample: (B, 1, H, W), model range, H and W multiples of 32.
            pixel_spacing: Unused, see above; autoencoders that work in mm need it.

        Returns:
            Z, (B, C, L) with L = H / 32 * W / 32, and the skips at /1, /2, /4, /8, /16.

        Raises:
            ValueError: if H or W is not a multiple of 32.
        """
        *features, deepest = encoder_features(self.encoder, sample)
        latent = self.to_latent(deepest).flatten(2)  # [B,C,L]
        return latent, (self.from_slice(sample), *features)

    @apply_forward_hook
    def decode(self, latent: torch.Tensor, skips: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Decode slices.

        Args:
            latent: Z, (B, C, L).
            skips: What `encode` returned for the slices that give the anatomy.

        Returns:
            (B, 1, H, W), model range.
        """
        grid = [side // 2 for side in skips[-1].shape[-2:]]  # the deepest skip is at /16
        if self.config["skip_mode"] == "none":
            skips = tuple(skip[:, :0] for skip in skips)
        hidden = self.from_latent(latent.unflatten(2, grid).to(self.dtype))
        for block, skip in zip(self.up_blocks, reversed(skips)):
            hidden = block(hidden, skip)
        return self.tail(hidden)

    def load_imagenet_encoder(self, name: str = "microsoft/resnet-18") -> None:
        """Load the encoder's weights from a pretrained ResNet-18 on the Hub, summing its colour channels."""
        load_imagenet(self.encoder, name)


def resnet(block_out_channels: Sequence[int], layers_per_block: int) -> ResNetModel:
    """Return an untrained one-channel ResNet of basic blocks with the given widths at /2, /4, /8, /16, /32."""
    stem, *stages = block_out_channels
    return ResNetModel(
        ResNetConfig(
            num_channels=1,
            embedding_size=stem,
            hidden_sizes=stages,
            depths=[layers_per_block] * len(stages),
            layer_type="basic",
        )
    )


def load_imagenet(encoder: ResNetModel, name: str) -> None:
    """Load a pretrained ResNet of the same shape from the Hub into `encoder`, summing its colour channels."""
    state = ResNetModel.from_pretrained(name).state_dict()
    stem = "embedder.embedder.convolution.weight"
    state[stem] = state[stem].sum(1, keepdim=True)
    encoder.load_state_dict(state)


def encoder_features(encoder: ResNetModel, sample: torch.Tensor) -> list[torch.Tensor]:
    """Return the features of slices (B, 1, H, W) at /2, /4, /8, /16, /32.

    Raises:
        ValueError: if H or W is not a multiple of 32.
    """
    if sample.shape[-2] % DOWNSAMPLING or sample.shape[-1] % DOWNSAMPLING:
        raise ValueError(f"`sample` must have a height and width that are multiples of 32, got {tuple(sample.shape)}.")
    hidden = encoder.embedder.embedder(sample)  # [B,64,H/2,W/2]
    features = [hidden]
    hidden = encoder.embedder.pooler(hidden)
    for stage in encoder.encoder.stages:
        hidden = stage(hidden)
        features.append(hidden)
    return features


def up_widths(block_out_channels: Sequence[int], decoder_channels: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Return the channels below, of the skip, and out of every up block, from /16 to /1; the last skip is the slice."""
    skips = (*block_out_channels[-2::-1], decoder_channels[-1])
    return zip((decoder_channels[0], *decoder_channels), skips, decoder_channels)


def tail(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return the paper's "several 1D convolutional layers in the last layers", read as 1 x 1 convolutions without skips."""
    return nn.Sequential(nn.Conv2d(in_channels, TAIL_CHANNELS, 1), nn.SiLU(), nn.Conv2d(TAIL_CHANNELS, out_channels, 1))


class UpBlock(nn.Module):
    """Double the resolution, concatenate a skip and convolve twice."""

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int):
        super().__init__()
        joined = out_channels + skip_channels
        self.up = nn.Conv2d(in_channels, 4 * out_channels, 1)
        self.conv1 = nn.Conv2d(joined, out_channels, 3, padding=1)
        self.norm = nn.GroupNorm(8, out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut = nn.Conv2d(joined, out_channels, 1)

    def forward(self, hidden: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        hidden = self.join(hidden, skip)
        return self.conv2(F.silu(self.norm(self.conv1(hidden)))) + self.shortcut(hidden)

    def join(self, hidden: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """Double the resolution of `hidden` and concatenate the skip."""
        hidden = F.pixel_shuffle(self.up(hidden), 2)
        return torch.cat([hidden, skip.to(hidden.dtype)], 1)
