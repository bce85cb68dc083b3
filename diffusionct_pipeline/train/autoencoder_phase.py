"""Phase one: the autoencoder, by cross reconstruction."""

import json

import numpy as np
import torch
from torch import nn

from ..image_processor import HU_CENTRE, HU_SCALE
from ..losses import LocalSpectrumLoss, reconstruction_loss
from ..models import AutoencoderResNet18
from .datasets import load_objects, phantom_objects
from .loop import train
from .pairs import PairGenerator
from .validation import ValidationSet

# Where the target's style comes from: its latent; its pooled latent; the slice itself (plain reconstruction).
STYLE_SOURCES = {"latent": 0.6, "pooled": 0.25, "own": 0.15}
BORDER = 16  # pixels of a crop that the losses leave out: a whole slice ends in air, a crop in the middle of anatomy
UNPREDICTABLE = 0.003  # model range^2, (27 HU)^2: errors beyond are mostly noise that the source does not hold
OWN = list(STYLE_SOURCES).index("own")


def train_autoencoder(options):
    """Train `AutoencoderResNet18` (section 3.1 of Selim et al. 2023) and save it to `options.output`."""
    return train(options, AutoencoderPhase)


class CrossReconstruction(nn.Module):
    """decode(latent_b, skips_a) must give B, decode(latent_a, skips_b) must give A: only the latent tells the style."""

    def __init__(self, model, options):
        super().__init__()
        self.model, self.options = model, options
        self.local_spectrum = LocalSpectrumLoss()
        self.limit = None if options.paper_literal else UNPREDICTABLE
        if options.freeze_encoder:
            for part in self._encoder_parts():
                part.requires_grad_(False)

    def train(self, mode=True):
        """A frozen encoder keeps its BatchNorm statistics too."""
        super().train(mode)
        if self.options.freeze_encoder:
            for part in self._encoder_parts():
                part.eval()
        return self

    def _encoder_parts(self):
        parts = [self.model.encoder, self.model.to_latent]
        return [*parts, self.model.spectrum_to_latent] if self.model.config.local_spectrum else parts

    def forward(self, a, b, spacing, choice):
        """Slices (B, 1, n, n), spacing (B,) mm, `choice` (2B,) indices of `STYLE_SOURCES`; a dict of losses back."""
        sample, target, spacing = torch.cat([a, b]), torch.cat([b, a]), torch.cat([spacing, spacing])
        latent, skips = self.model.encode(sample, spacing)  # [2B,C,L]
        exchanged = torch.cat(latent.chunk(2)[::-1])
        pooled = self.model.pool(exchanged, latent)
        candidates = [exchanged, pooled[..., None].expand_as(latent), latent]
        style = torch.stack(candidates)[choice, torch.arange(len(choice), device=choice.device)]
        target = torch.where((choice == OWN).view(-1, 1, 1, 1), sample, target)
        drawn = self.model.decode(style, skips, sample, spacing)
        inner = np.s_[..., BORDER:-BORDER, BORDER:-BORDER]
        target = target[inner]
        losses = {
            "reconstruction": reconstruction_loss(drawn[inner], target, self.limit),
            "spectrum": self.local_spectrum(drawn[inner], target),
            "latent": latent.float().square().mean(),
        }
        weights = {"spectrum": self.options.spectrum_weight, "latent": self.options.latent_weight}
        if self.model.filter is not None:  # its gain comes straight from the latent, which this loss trains
            styles = self.model.pool(latent), self.model.pool(style, latent)
            filtered, _ = self.model.filter(sample, *styles, spacing)
            losses["filter_spectrum"] = self.local_spectrum(filtered[inner], target)
            weights["filter_spectrum"] = self.options.filter_weight
        losses["loss"] = sum(weights.get(name, 1.0) * value for name, value in losses.items())
        return losses


class AutoencoderPhase:
    """What loop.train needs to know of phase one."""

    def __init__(self, options, device):
        self.options, self.device = options, device
        self.objective = CrossReconstruction(_new_model(options).to(device, memory_format=torch.channels_last), options)
        objects = load_objects(options.objects) + phantom_objects(options.phantom_slices, options.seed)
        self.pairs = PairGenerator(objects, options.crop, device)
        self.validation = ValidationSet(options.validation_pairs if options.validation_steps else 0)
        shares = [0, 0, 1] if options.paper_literal else list(STYLE_SOURCES.values())
        self.shares = torch.tensor(shares, dtype=torch.float32, device=device)

    def batch(self, generator):
        pairs = self.pairs(self.options.batch_size, generator)
        choice = torch.multinomial(self.shares, 2 * self.options.batch_size, True, generator=generator)
        return pairs.a, pairs.b, pairs.spacing, choice

    @torch.no_grad()
    def validate(self, objective):
        """Br40 -> Bl64 with the style of the true target: what the latent diffusion model can reach at best."""
        model = objective.model

        def convert(hu, spacing_mm, target_hu):
            sample, target = (
                (torch.from_numpy(image)[None, None].to(self.device) - HU_CENTRE) / HU_SCALE for image in (hu, target_hu)
            )
            spacing = torch.tensor([spacing_mm], device=self.device)
            _, skips = model.encode(sample, spacing)
            output = model.decode(model.encode(target, spacing)[0], skips, sample, spacing)
            return (output * HU_SCALE + HU_CENTRE)[0, 0].cpu().numpy()

        return self.validation.score(convert)

    @torch.no_grad()
    def save(self, objective, folder, summary):
        model = objective.model
        if not self.options.freeze_encoder:
            self._measure_latents(model)
        model.save_pretrained(folder / "autoencoder")
        (folder / "metrics.json").write_text(json.dumps({"autoencoder": summary}, indent=2) + "\n")

    def _measure_latents(self, model):
        """Store mean and standard deviation of every latent channel over training pairs."""
        generator = torch.Generator(self.device).manual_seed(self.options.seed)
        latents = []
        for _ in range(max(1, 256 // self.options.batch_size)):
            pairs = self.pairs(self.options.batch_size, generator)
            latents += [model.encode(side, pairs.spacing)[0] for side in (pairs.a, pairs.b)]
        latents = torch.cat(latents)
        model.latent_mean.copy_(latents.mean((0, 2)))
        model.latent_std.copy_(latents.std((0, 2)).clamp(min=1e-3))


def _new_model(options):
    if options.init:
        return AutoencoderResNet18.from_pretrained(options.init)
    literal = AutoencoderResNet18.paper_literal_config() if options.paper_literal else {}
    model = AutoencoderResNet18(
        latent_channels=options.latent_channels,
        block_out_channels=tuple(options.block_out_channels),
        decoder_channels=tuple(options.decoder_channels),
        skip_mode=options.skip_mode,
        **literal,
    )
    if options.imagenet:
        model.load_imagenet_encoder(options.imagenet)
    return model
