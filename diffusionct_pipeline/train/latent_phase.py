"""Phase two: the latent DDPM that sees a reference; the autoencoder stays frozen."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import DDPMScheduler
from torch import nn
from tqdm import tqdm

from ..losses import PlacewiseDiffusionLoss
from ..models import ReferenceUNet1DModel, TextureAutoencoder
from ..models.texture.channels import IN_PATIENT, patient_mean, patient_weight
from ..models.texture.reference_unet_1d import REFERENCE_TOKENS, SMALLEST_DEVIATION
from ..training_data.texture_pairs import load_texture_pairs
from .options import LatentOptions
from .pipeline_phase import PipelinePhase

TRAIN_TIMESTEPS = 1000
CURVE_ERROR = 0.05  # of a ring, normalized, from which on errors of the curve count linearly
SAME_SHARE = 0.2  # of the pairs to a reference: nothing but a curve is between A and B, and nothing is to be added
STATISTICS_PAIRS = 512  # over which the deviation of what is diffused is measured


class CurveRegression(nn.Module):
    """The denoiser's curve learns the mean change of power to the standard, and its tokens what that looks like."""

    def __init__(self, denoiser: ReferenceUNet1DModel):
        super().__init__()
        self.denoiser = denoiser.requires_grad_(False)
        denoiser.curve.requires_grad_(True)
        denoiser.standard.requires_grad_(True)

    def forward(self, latent_a: torch.Tensor, latent_b: torch.Tensor) -> dict[str, torch.Tensor]:
        """Normalized Z_A and Z_B (B, C, L), B the standard -> losses by name."""
        with torch.autocast(latent_a.device.type, enabled=False):  # gains follow from it
            mean_change = patient_mean(latent_b - latent_a, weighted_by=latent_a)[:, self.denoiser.channels.power]
            curve = self.denoiser.curve(latent_a, self.denoiser.standard.expand(len(latent_a), -1, -1))
            loss = nn.functional.smooth_l1_loss(curve, mean_change, beta=CURVE_ERROR)
        return {"curve": loss, "loss": loss}


class ReferenceDiffusion(nn.Module):
    """The denoiser predicts v at a random time, given Z_A and tokens of a reference, or its own for the standard.

    Its curve and its tokens stay as they are: what is diffused is measured from them.
    """

    def __init__(self, denoiser: ReferenceUNet1DModel, diffusion: PlacewiseDiffusionLoss):
        super().__init__()
        self.denoiser, self.diffusion = denoiser, diffusion
        denoiser.curve.requires_grad_(False)
        denoiser.standard.requires_grad_(False)

    def forward(
        self,
        latent_a: torch.Tensor,
        latent_b: torch.Tensor,
        reference: torch.Tensor,
        to_standard: torch.Tensor,
        noise: torch.Tensor,
        timestep: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """Losses by name.

        Args:
            latent_a, latent_b: (B, C, L), normalized.
            reference: (B, T, C), normalized, T a multiple of the number of the denoiser's own tokens.
            to_standard: (B,) bool, whether these take the reference's place.
            noise, timestep: Of `PlacewiseDiffusionLoss.draw`.
        """
        difference = self.denoiser.difference(latent_b, latent_a, reference, to_standard)
        loss = self.diffusion(
            self.denoiser, difference, latent_a, reference, to_standard, patient_weight(latent_a), noise, timestep
        )
        return {"diffusion": loss, "loss": loss}


class LatentPhase(PipelinePhase):
    """What loop.train needs to know of phase two."""

    def __init__(self, options: LatentOptions, device: torch.device):
        scheduler = DDPMScheduler(
            num_train_timesteps=TRAIN_TIMESTEPS,
            beta_schedule="squaredcos_cap_v2",
            prediction_type="v_prediction",
            timestep_spacing="trailing",
            clip_sample=False,  # the default True destroys latents outside [-1, 1]
        )
        super().__init__(options, TextureAutoencoder.from_pretrained(options.autoencoder), scheduler)
        self.device = device
        groups = tqdm(desc="groups of scans encoded")
        pairs = load_texture_pairs(options.scans, self.autoencoder, options.groups, lambda seed: groups.update())
        self.pairs = pairs.to(device)
        self.autoencoder.to(device)
        self.diffusion = PlacewiseDiffusionLoss(scheduler, options.last_step_share)
        denoiser = self._denoiser().to(device)
        self.is_curve = options.part == "curve"
        self.objective = CurveRegression(denoiser) if self.is_curve else ReferenceDiffusion(denoiser, self.diffusion)

    @torch.no_grad()
    def batch(self, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        """Arguments of the objective for a step."""
        tokens = _tokens_in_training(self.objective.denoiser)
        share = 1.0 if self.is_curve else self.options.standard_share  # the curve is the standard's
        drawn = self._draw(self.options.batch_size, share, tokens, generator)
        return drawn[:2] if self.is_curve else (*drawn, *self.diffusion.draw(drawn[1], generator))

    def save(self, objective: nn.Module, folder: Path, summary: dict) -> None:
        """As `PipelinePhase.save`; after the curve, the deviation of what is left to diffuse is measured."""
        if self.is_curve:
            self._measure_deviation(objective.denoiser)
        super().save(objective, folder, summary)

    def _draw(self, count: int, share: float, tokens: int, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        """Normalized Z_A, Z_B and `tokens` of a reference of `count` pairs, and whether the target is the standard.

        `share` of them have it.
        """
        drawn = self.pairs.draw(count, share, tokens, generator, SAME_SHARE)
        normalize = self.autoencoder.normalize
        reference = normalize(drawn.reference.transpose(1, 2)).transpose(1, 2)
        return normalize(drawn.latent_a), normalize(drawn.latent_b), reference, drawn.to_standard

    @torch.no_grad()
    def _denoiser(self) -> ReferenceUNet1DModel:
        """A new one, its tokens of the standard taken from slices, or one to go on with."""
        options = self.options
        if options.init:
            return ReferenceUNet1DModel.from_pretrained(options.init)
        denoiser = ReferenceUNet1DModel(
            self.autoencoder.config.rings, tuple(options.block_out_channels), standard_tokens=options.standard_tokens
        )
        generator = torch.Generator(self.device).manual_seed(options.seed)
        standard = self.pairs.stored[:, 0].float()  # [N,C,L]
        weight = patient_weight(standard)[:, 0].flatten()
        chosen = torch.randperm(len(weight), generator=generator, device=self.device)
        chosen = chosen[weight[chosen] > IN_PATIENT][: options.standard_tokens]
        tokens = standard.transpose(1, 2).flatten(0, 1)[chosen]
        denoiser.standard.data[: len(tokens)] = self.autoencoder.normalize(tokens).cpu()
        return denoiser

    @torch.no_grad()
    def _measure_deviation(self, denoiser: ReferenceUNet1DModel) -> None:
        generator = torch.Generator(self.device).manual_seed(self.options.seed)
        share, tokens = self.options.standard_share, _tokens_in_training(denoiser)
        latent_a, latent_b, reference, to_standard = self._draw(STATISTICS_PAIRS, share, tokens, generator)
        difference = (latent_b - denoiser.origin(latent_a, reference, to_standard))[:, denoiser.channels.power]
        weight = patient_weight(latent_a)
        deviation = ((difference.square() * weight).sum((0, 2)) / weight.sum()).sqrt()
        denoiser.deviation[denoiser.channels.power] = deviation.clamp(min=SMALLEST_DEVIATION)


def _tokens_in_training(denoiser: ReferenceUNet1DModel) -> int:
    """As many of a reference as later, and a multiple of the denoiser's own."""
    own = len(denoiser.standard)
    return own * max(1, REFERENCE_TOKENS // own)
