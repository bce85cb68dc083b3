"""Phase one: the autoencoder, by cross reconstruction, or the paper's own by plain reconstruction."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..image_processor import to_hu, to_model
from ..losses import Reconstruction, WeightedLosses
from ..models import AutoencoderResNet18, StyleAutoencoder
from ..training_data.image_pairs import ImagePairs, PairGenerator
from ..training_data.objects import load_objects, phantom_objects
from .loop import train
from .options import AutoencoderOptions
from .validation import ValidationSet

# Where the target's style comes from: its latent; its pooled latent; the slice itself (plain reconstruction).
STYLE_SOURCES = {"latent": 0.6, "pooled": 0.25, "own": 0.15}
OWN = list(STYLE_SOURCES).index("own")
BORDER = 16  # pixels of a crop that the losses leave out: a whole slice ends in air, a crop in the middle of anatomy
INNER = np.s_[..., BORDER:-BORDER, BORDER:-BORDER]
STATISTICS_PAIRS = 256  # over which mean and deviation of the latent are measured


def train_autoencoder(options: AutoencoderOptions) -> dict:
    """Train an autoencoder and save it to `options.output`; returns the summary of the run."""
    return train(options, AutoencoderPhase)


class PlainReconstruction(nn.Module):
    """decode(encode(A)) must give A, of all slices, standard or not (Selim et al. 2023)."""

    def __init__(self, model: AutoencoderResNet18, losses: WeightedLosses):
        super().__init__()
        self.model, self.losses = model, losses

    def draw(self, pairs: ImagePairs, generator: torch.Generator) -> tuple[torch.Tensor]:
        """Arguments of `forward`."""
        return (torch.cat([pairs.a, pairs.b]),)

    def forward(self, sample: torch.Tensor) -> dict[str, torch.Tensor]:
        """Slices (B, 1, n, n) -> losses by name."""
        latent, skips = self.model.encode(sample)
        drawn = self.model.decode(latent, skips)
        return self.losses(Reconstruction(drawn[INNER], sample[INNER], latent))


class CrossReconstruction(nn.Module):
    """decode(latent_b, skips_a) must give B, decode(latent_a, skips_b) must give A: only the latent tells the style."""

    def __init__(self, model: StyleAutoencoder, losses: WeightedLosses, freeze_encoder: bool = False):
        super().__init__()
        self.model, self.losses, self.freeze_encoder = model, losses, freeze_encoder
        if freeze_encoder:
            for part in model.encoder_parts():
                part.requires_grad_(False)

    def train(self, mode: bool = True) -> CrossReconstruction:
        """A frozen encoder keeps its BatchNorm statistics too."""
        super().train(mode)
        if self.freeze_encoder:
            for part in self.model.encoder_parts():
                part.eval()
        return self

    def draw(self, pairs: ImagePairs, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        """Arguments of `forward`."""
        shares = torch.tensor(list(STYLE_SOURCES.values()), device=generator.device)
        style_source = torch.multinomial(shares, 2 * len(pairs.a), True, generator=generator)
        return pairs.a, pairs.b, pairs.spacing, style_source

    def forward(
        self, a: torch.Tensor, b: torch.Tensor, spacing: torch.Tensor, style_source: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Slices (B, 1, n, n), spacing (B,) mm, indices (2B,) of `STYLE_SOURCES` -> losses by name."""
        sample, target, spacing = torch.cat([a, b]), torch.cat([b, a]), torch.cat([spacing, spacing])
        latent, skips = self.model.encode(sample, spacing)  # [2B,C,L]
        exchanged = torch.cat(latent.chunk(2)[::-1])
        pooled = self.model.pool(exchanged, latent)
        candidates = [exchanged, pooled[..., None].expand_as(latent), latent]
        style = torch.stack(candidates)[style_source, torch.arange(len(sample), device=sample.device)]
        target = torch.where((style_source == OWN).view(-1, 1, 1, 1), sample, target)
        drawn = self.model.decode(style, skips)
        styles = self.model.pool(latent), self.model.pool(style, latent)
        filtered, _ = self.model.filter(sample, *styles, spacing)
        return self.losses(Reconstruction(drawn[INNER], target[INNER], latent, filtered[INNER]))


class AutoencoderPhase:
    """What loop.train needs to know of phase one."""

    def __init__(self, options: AutoencoderOptions, device: torch.device):
        self.options, self.device = options, device
        model = _new_model(options).to(device, memory_format=torch.channels_last)
        losses = WeightedLosses(options.loss_weights).to(device)
        if options.paper_literal:
            self.objective = PlainReconstruction(model, losses)
        else:
            self.objective = CrossReconstruction(model, losses, options.freeze_encoder)
        objects = load_objects(options.objects) + phantom_objects(options.phantom_slices, options.seed)
        self.pairs = PairGenerator(objects, options.crop, device)
        self.validation = ValidationSet(options.validation_pairs if options.validation_steps else 0)

    def batch(self, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        """Arguments of the objective for a step."""
        return self.objective.draw(self.pairs(self.options.batch_size, generator), generator)

    @torch.no_grad()
    def validate(self, objective: nn.Module) -> dict[str, float]:
        """Br40 -> Bl64 with the latent of the true target: what the latent diffusion model can reach at best."""
        model = objective.model

        def convert(hu: np.ndarray, spacing_mm: float, target_hu: np.ndarray) -> np.ndarray:
            sample, target = (to_model(torch.from_numpy(image)[None, None].to(self.device)) for image in (hu, target_hu))
            spacing = torch.tensor([spacing_mm], device=self.device)
            _, skips = model.encode(sample, spacing)
            return to_hu(model.decode(model.encode(target, spacing)[0], skips))[0, 0].cpu().numpy()

        return self.validation.score(convert)

    @torch.no_grad()
    def save(self, objective: nn.Module, folder: Path, summary: dict) -> None:
        """Write the autoencoder, with the statistics of its latent, and the summary."""
        if not self.options.freeze_encoder:
            self._measure_latents(objective.model)
        objective.model.save_pretrained(folder / "autoencoder")
        (folder / "metrics.json").write_text(json.dumps({"autoencoder": summary}, indent=2) + "\n")

    def _measure_latents(self, model: StyleAutoencoder | AutoencoderResNet18) -> None:
        """Store mean and standard deviation of every latent channel over training pairs."""
        generator = torch.Generator(self.device).manual_seed(self.options.seed)
        latents = []
        for _ in range(max(1, STATISTICS_PAIRS // self.options.batch_size)):
            pairs = self.pairs(self.options.batch_size, generator)
            latents += [model.encode(side, pairs.spacing)[0] for side in (pairs.a, pairs.b)]
        latents = torch.cat(latents)
        model.latent_mean.copy_(latents.mean((0, 2)))
        model.latent_std.copy_(latents.std((0, 2)).clamp(min=1e-3))


def _new_model(options: AutoencoderOptions) -> StyleAutoencoder | AutoencoderResNet18:
    kind = AutoencoderResNet18 if options.paper_literal else StyleAutoencoder
    if options.init:
        return kind.from_pretrained(options.init)
    sizes = {
        "latent_channels": options.latent_channels,
        "block_out_channels": tuple(options.block_out_channels),
        "decoder_channels": tuple(options.decoder_channels),
    }
    own = {"skip_mode": options.skip_mode} if options.paper_literal else {"rings": options.rings}
    model = kind(**sizes, **own)
    if options.imagenet:
        model.load_imagenet_encoder(options.imagenet)
    return model
