"""The paper's own two phases, without additions of ours: plain reconstruction, then a DDPM to one fixed target."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import nn

from ..image_processor import to_hu, to_model
from ..models import AutoencoderResNet18, ConditionalUNet1DModel
from ..utils.files import write_whole
from .data.image_pairs import PairGenerator
from .data.objects import load_objects, phantom_objects
from .losses import DiffusionLoss, Reconstruction, WeightedLosses
from .options import LiteralAutoencoderOptions, LiteralLatentOptions
from .pipeline_phase import PipelinePhase
from .validation import ValidationSet

BORDER = 16  # pixels at the border of a crop that the losses ignore: whole slices end in air, crops within anatomy
INNER = np.s_[..., BORDER:-BORDER, BORDER:-BORDER]
STATISTICS_PAIRS = 256  # over which mean and deviation of the latent are measured
TRAIN_TIMESTEPS = 1000


class PlainReconstruction(nn.Module):
    """decode(encode(A)) must reproduce A, for all slices, standard or not (Selim et al. 2023)."""

    def __init__(self, model: AutoencoderResNet18, losses: WeightedLosses):
        super().__init__()
        self.model, self.losses = model, losses

    def forward(self, sample: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return losses by name for slices (B, 1, n, n)."""
        latent, skips = self.model.encode(sample)
        drawn = self.model.decode(latent, skips)
        return self.losses(Reconstruction(drawn[INNER], sample[INNER], latent))


class LatentDiffusion(nn.Module):
    """The denoiser predicts the noise in Z_B at a random time, given Z_A (Selim et al. 2023)."""

    def __init__(self, denoiser: ConditionalUNet1DModel, diffusion: DiffusionLoss):
        super().__init__()
        self.denoiser, self.diffusion = denoiser, diffusion

    def forward(
        self, latent_a: torch.Tensor, latent_b: torch.Tensor, noise: torch.Tensor, timestep: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Return losses by name for normalized Z_A and Z_B (B, C, L) with noise and times of `DiffusionLoss.draw`."""
        loss = self.diffusion(self.denoiser, latent_a, latent_b, noise, timestep)
        return {"diffusion": loss, "loss": loss}


class LiteralAutoencoderPhase:
    """Phase one of the paper, for `loop.train`."""

    def __init__(self, options: LiteralAutoencoderOptions, device: torch.device):
        self.options = options
        objective = PlainReconstruction(_new_autoencoder(options), WeightedLosses(options.loss_weights))
        objective.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
        self.objective = objective
        objects = load_objects(options.objects) + phantom_objects(options.phantom_slices, options.seed)
        self.pairs = PairGenerator(objects, options.crop, device)
        self.device = device
        self.validation = ValidationSet(options.validation_pairs if options.validation_steps else 0)

    def batch(self, generator: torch.Generator) -> tuple[torch.Tensor]:
        """Draw the arguments of the objective for a step."""
        pairs = self.pairs(self.options.batch_size, generator)
        return (torch.cat([pairs.a, pairs.b]),)

    @torch.no_grad()
    def validate(self, objective: nn.Module) -> dict[str, float]:
        """Score Br40 to Bl64 with the latent of the true target, the best that latent diffusion can reach."""
        model = _model_of(objective)

        def convert(hu: np.ndarray, spacing_mm: float, target_hu: np.ndarray) -> np.ndarray:
            images = (torch.from_numpy(image)[None, None].to(self.device) for image in (hu, target_hu))
            sample, target = map(to_model, images)
            return to_hu(model.decode(model.encode(target)[0], model.encode(sample)[1]))[0, 0].cpu().numpy()

        return self.validation.score(convert)

    @torch.no_grad()
    def save(self, objective: nn.Module, folder: Path, summary: dict) -> None:
        """Write the autoencoder, with the statistics of its latent over training pairs, and the summary."""
        model = _model_of(objective)
        generator = torch.Generator(self.device).manual_seed(self.options.seed)
        latents = []
        for _ in range(max(1, STATISTICS_PAIRS // self.options.batch_size)):
            pairs = self.pairs(self.options.batch_size, generator)
            latents += [model.encode(side)[0] for side in (pairs.a, pairs.b)]
        model.measure_latents(torch.cat(latents))
        model.save_pretrained(folder / "autoencoder")
        write_whole(folder / "metrics.json", json.dumps({"autoencoder": summary}, indent=2) + "\n")


class LiteralLatentPhase(PipelinePhase):
    """Phase two of the paper, for `loop.train`."""

    options: LiteralLatentOptions
    autoencoder: AutoencoderResNet18

    def __init__(self, options: LiteralLatentOptions, device: torch.device):
        scheduler = DDPMScheduler(num_train_timesteps=TRAIN_TIMESTEPS, beta_schedule="linear", clip_sample=False)
        super().__init__(options, AutoencoderResNet18.from_pretrained(options.autoencoder), scheduler)
        self.autoencoder.to(device)  # type: ignore[arg-type]  # diffusers wraps `to`, which mypy takes for unbound
        channels = self.autoencoder.config["latent_channels"]
        denoiser = ConditionalUNet1DModel(channels, tuple(options.block_out_channels))
        self.diffusion = DiffusionLoss(scheduler, options.l1_weight)
        self.objective = LatentDiffusion(denoiser, self.diffusion).to(device)
        objects = load_objects(options.objects) + phantom_objects(options.phantom_slices, options.seed)
        self.pairs = PairGenerator(objects, options.crop, device, options.standard_kernel, standard_share=1.0)

    @torch.no_grad()
    def batch(self, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        """Draw the arguments of the objective for a step."""
        pairs = self.pairs(self.options.batch_size, generator)
        encoded = [self.autoencoder.normalize(self.autoencoder.encode(side)[0].float()) for side in (pairs.a, pairs.b)]
        return *encoded, *self.diffusion.draw(encoded[1], generator)


def _model_of(objective: nn.Module) -> AutoencoderResNet18:
    assert isinstance(objective, PlainReconstruction)
    return objective.model


def _new_autoencoder(options: LiteralAutoencoderOptions) -> AutoencoderResNet18:
    if options.init:
        return AutoencoderResNet18.from_pretrained(options.init)
    model = AutoencoderResNet18(
        options.latent_channels, tuple(options.block_out_channels), decoder_channels=tuple(options.decoder_channels),
        skip_mode=options.skip_mode,
    )  # fmt: skip
    if options.imagenet:
        model.load_imagenet_encoder(options.imagenet)
    return model
