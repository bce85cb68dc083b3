"""Phase two: the conditional latent DDPM; the autoencoder stays frozen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import torch
from diffusers import DDPMScheduler, ModelMixin
from torch import nn
from tqdm import tqdm

from .. import models
from ..losses import DiffusionLoss
from ..models import StylePredictor
from ..pipeline import DiffusionCTPipeline
from ..training_data.image_pairs import PairGenerator
from ..training_data.latents import Latents, encoded_pairs, stored_pairs, stored_scans
from ..training_data.objects import load_objects, phantom_objects
from ..training_data.scans import object_groups, phantom_groups
from .loop import train
from .options import LatentOptions
from .validation import ValidationSet

STYLE_ERROR = 0.1  # of a channel of the normalized style, from which on errors count linearly
TRAIN_TIMESTEPS = 1000


def train_latent(options: LatentOptions) -> dict:
    """Train a denoiser and what predicts its style, save the pipeline to `options.output`; returns the run's summary."""
    return train(options, LatentPhase)


class LatentDiffusion(nn.Module):
    """The denoiser predicts the noise (or v) in Z_B at a random time, given Z_A (Selim et al. 2023)."""

    style_predictor = None

    def __init__(self, denoiser: nn.Module, diffusion: DiffusionLoss):
        super().__init__()
        self.denoiser, self.diffusion = denoiser, diffusion

    def draw(self, autoencoder: nn.Module, latents: Latents, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        """Arguments of `forward`, from the pairs whose target is the standard: it is the only target."""
        pairs = latents.pairs[latents.pairs.to_standard]
        latent_a, latent_b = (autoencoder.normalize(latents.latents[index]) for index in (pairs.source, pairs.target))
        return latent_a, latent_b, *self.diffusion.draw(latent_b, generator)

    def forward(
        self, latent_a: torch.Tensor, latent_b: torch.Tensor, noise: torch.Tensor, timestep: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Normalized Z_A, Z_B (B, C, L), noise and time of `DiffusionLoss.draw` -> losses by name."""
        loss = self.diffusion(self.denoiser, latent_a, latent_b, None, noise, timestep)
        return {"diffusion": loss, "loss": loss}


class StyledLatentDiffusion(nn.Module):
    """As `LatentDiffusion`, given the target's style too, which a second network learns to predict."""

    def __init__(
        self,
        denoiser: nn.Module,
        style_predictor: StylePredictor,
        diffusion: DiffusionLoss,
        style_only: bool = False,
    ):
        super().__init__()
        self.denoiser, self.style_predictor = denoiser, style_predictor
        self.diffusion, self.style_only = diffusion, style_only
        if style_only:
            denoiser.requires_grad_(False)

    def draw(self, autoencoder: nn.Module, latents: Latents, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        """Arguments of `forward`."""
        pairs, pool, normalize = latents.pairs, autoencoder.pool, autoencoder.normalize
        indices = (pairs.source, pairs.target, pairs.reference)
        latent_a, latent_b, reference = (latents.latents[index] for index in indices)
        styles = [pool(latent_a), pool(latent_b, latent_a), pool(reference)]
        styles = normalize(torch.stack(styles, 2)).transpose(1, 2)  # [B,3,C]
        noise, timestep = self.diffusion.draw(latent_b, generator)
        spacing = latents.spacing[pairs.source]
        return normalize(latent_a), normalize(latent_b), spacing, styles, pairs.to_standard, noise, timestep

    def forward(
        self,
        latent_a: torch.Tensor,
        latent_b: torch.Tensor,
        spacing: torch.Tensor,
        styles: torch.Tensor,
        to_standard: torch.Tensor,
        noise: torch.Tensor,
        timestep: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """Losses by name.

        Args:
            latent_a, latent_b: (B, C, L), normalized.
            spacing: (B,) in mm.
            styles: (B, 3, C): of the source, of the target, and of a reference with the target's kernel; normalized.
            to_standard: (B,) bool, whether the target is the standard kernel: then there is no reference.
            noise, timestep: Of `DiffusionLoss.draw`.
        """
        source, target, reference = styles.unbind(1)
        reference = torch.where(to_standard[:, None], self.style_predictor.standard, reference)
        with torch.autocast(latent_a.device.type, enabled=False):  # the gain follows from it
            style = self.style_predictor(latent_a, source, spacing, reference)
        losses = {"style": nn.functional.smooth_l1_loss(style, target, beta=STYLE_ERROR)}
        if not self.style_only:
            losses["diffusion"] = self.diffusion(self.denoiser, latent_a, latent_b, style.detach(), noise, timestep)
        return losses | {"loss": sum(losses.values())}


class LatentPhase:
    """What loop.train needs to know of phase two."""

    def __init__(self, options: LatentOptions, device: torch.device):
        self.options, self.device = options, device
        self.autoencoder = load_model(options.autoencoder, "encode").to(device).eval()
        self.autoencoder.requires_grad_(False)
        self.scheduler = DDPMScheduler(
            num_train_timesteps=TRAIN_TIMESTEPS,
            beta_schedule=options.beta_schedule,
            prediction_type=options.prediction_type,
            timestep_spacing="trailing",
            clip_sample=False,  # the default True destroys latents outside [-1, 1]
        )
        self.objective = self._new_objective().to(device)
        self.standard_share = 1.0 if options.fixed_target else options.standard_share
        self.pairs, self.stored = self._data()
        self.validation = ValidationSet(options.validation_pairs if options.validation_steps else 0)

    @torch.no_grad()
    def batch(self, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        """Arguments of the objective for a step."""
        count = self.options.batch_size
        if self.stored is None:
            latents = encoded_pairs(self.pairs, count, self._encode, generator)
        else:
            latents = self.stored.draw(2 * count, self.standard_share, generator)
        return self.objective.draw(self.autoencoder, latents, generator)

    @torch.no_grad()
    def validate(self, objective: nn.Module) -> dict[str, float]:
        """Br40 -> Bl64 by the whole pipeline."""
        pipeline = self._pipeline(objective)
        return self.validation.score(lambda hu, spacing_mm, target: pipeline(hu, spacing_mm).images[0])

    def save(self, objective: nn.Module, folder: Path, summary: dict) -> None:
        """Write the pipeline and the summary."""
        self._pipeline(objective).save_pretrained(folder)
        (folder / "metrics.json").write_text(json.dumps({"latent": summary}, indent=2) + "\n")

    def _pipeline(self, objective: nn.Module) -> DiffusionCTPipeline:
        pipeline = DiffusionCTPipeline(
            self.autoencoder,
            objective.denoiser,
            self.scheduler,
            objective.style_predictor,
            default_num_inference_steps=self.options.default_steps,
            standard_name=self.options.standard_kernel,
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def _new_objective(self) -> LatentDiffusion | StyledLatentDiffusion:
        options, init = self.options, Path(self.options.init)
        channels = self.autoencoder.config.latent_channels
        if options.init:
            denoiser = load_model(init / "denoiser", "forward")
        else:
            denoiser = model_class(options.denoiser)(
                latent_channels=channels,
                block_out_channels=tuple(options.block_out_channels),
                condition_channels=0 if options.fixed_target else channels,
            )
        diffusion = DiffusionLoss(self.scheduler, options.l1_weight, options.noise_draws)
        if options.fixed_target:
            return LatentDiffusion(denoiser, diffusion)
        if options.init:
            predictor = StylePredictor.from_pretrained(init / "style_predictor")
        else:
            config = self.autoencoder.config
            predictor = StylePredictor(channels, config.rings, max_lp_cm=config.max_lp_cm)
        return StyledLatentDiffusion(denoiser, predictor, diffusion, options.style_only)

    def _data(self) -> tuple[PairGenerator | None, Latents | None]:
        """What makes pairs at every step, or pairs that are made now."""
        options = self.options
        objects = load_objects(options.objects)
        if options.stored_scans or options.stored_object_scans:
            groups = tqdm(self._groups(objects), "scans", options.stored_scans + options.stored_object_scans)
            return None, stored_scans(groups, self._encode, self.device)
        objects += phantom_objects(options.phantom_slices, options.seed)
        pairs = PairGenerator(objects, options.crop, self.device, options.standard_kernel, self.standard_share)
        if not options.stored_pairs:
            return pairs, None
        generator = torch.Generator(self.device).manual_seed(options.seed)
        return pairs, stored_pairs(pairs, options.stored_pairs, self._encode, generator)

    def _groups(self, objects: list) -> Iterator:
        options = self.options
        same = (options.standard_kernel, options.scan_size)
        groups = phantom_groups(options.stored_scans, *same)
        if options.stored_object_scans:
            groups = chain(groups, object_groups(options.stored_object_scans, objects, *same))
        return groups

    @torch.no_grad()
    def _encode(self, sample: torch.Tensor, spacing: torch.Tensor) -> torch.Tensor:
        half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.options.mixed_precision)
        with torch.autocast(self.device.type, half, enabled=half is not None):
            return self.autoencoder.encode(sample, spacing)[0].float()


def model_class(name: str) -> type[ModelMixin]:
    """Class of `models` by name.

    Raises:
        ValueError: if there is none.
    """
    if name not in models.__all__:
        raise ValueError(f"{name!r} is no model of this package; legal are {', '.join(models.__all__)}.")
    return getattr(models, name)


def load_model(folder: str | Path, does: str) -> ModelMixin:
    """The model of a folder, whichever class of `models` it is of.

    Args:
        folder: Of the model.
        does: Method that it must have: "encode" for an autoencoder, "forward" for a denoiser.

    Raises:
        ValueError: if it is of no class of `models`, or lacks the method.
        OSError: if it cannot be read.
    """
    name = str(StylePredictor.load_config(str(folder)).get("_class_name"))  # config.json is alike for all classes
    if does not in vars(model_class(name)):
        raise ValueError(f'"{folder}" holds a {name}, which has no `{does}`.')
    return model_class(name).from_pretrained(folder)
