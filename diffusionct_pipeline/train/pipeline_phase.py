"""Base of both kinds of phase two: the denoiser is validated and saved as part of a pipeline."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import nn

from ..models import AutoencoderResNet18, ConditionalUNet1DModel, ReferenceUNet1DModel, TextureAutoencoder
from ..pipeline import DiffusionCTPipeline
from ..utils.files import write_whole
from .options import LatentOptions, LiteralLatentOptions
from .validation import ValidationSet


class PipelinePhase:
    """Base of the phases of loop.train that train the `denoiser` of an objective.

    Args:
        options: Options of the run.
        autoencoder: The trained autoencoder, which is frozen here.
        scheduler: Scheduler that the denoiser is trained with.
    """

    options: LatentOptions | LiteralLatentOptions
    autoencoder: TextureAutoencoder | AutoencoderResNet18

    def __init__(
        self,
        options: LatentOptions | LiteralLatentOptions,
        autoencoder: TextureAutoencoder | AutoencoderResNet18,
        scheduler: DDPMScheduler,
    ):
        self.options, self.scheduler = options, scheduler
        self.autoencoder = autoencoder.eval().requires_grad_(False)
        self.validation = ValidationSet(options.validation_pairs if options.validation_steps else 0)

    @torch.no_grad()
    def validate(self, objective: nn.Module) -> dict[str, float]:
        """Score Br40 to Bl64 by the whole pipeline."""
        pipeline = self._pipeline(objective)
        return self.validation.score(lambda hu, spacing_mm, target: pipeline(hu, spacing_mm).images[0])

    def save(self, objective: nn.Module, folder: Path, summary: dict) -> None:
        """Write the pipeline and the summary."""
        self._pipeline(objective).save_pretrained(folder)
        write_whole(folder / "metrics.json", json.dumps({"latent": summary}, indent=2) + "\n")

    def _pipeline(self, objective: nn.Module) -> DiffusionCTPipeline:
        denoiser = objective.denoiser
        assert isinstance(denoiser, (ReferenceUNet1DModel, ConditionalUNet1DModel))
        pipeline = DiffusionCTPipeline(
            self.autoencoder, denoiser, self.scheduler,
            default_num_inference_steps=self.options.default_steps, standard_name=self.options.standard_kernel,
        )  # fmt: skip
        pipeline.set_progress_bar_config(disable=True)
        return pipeline
