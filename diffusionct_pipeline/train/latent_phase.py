"""Phase two: the latent DDPM, which sees the target's texture; the autoencoder is frozen."""

from __future__ import annotations

import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import nn
from tqdm import tqdm

from ..models import ReferenceUNet1DModel, TextureAutoencoder
from ..models.texture.channels import IN_PATIENT, patient_mean, patient_weight
from ..models.texture.power_shift import SCAN_TOKENS, level, level_weights
from ..models.texture.reference_unet_1d import SMALLEST_DEVIATION
from ..simulation import Scanner
from .data.texture_pairs import load_texture_pairs
from .losses import PlacewiseDiffusionLoss
from .options import LatentOptions
from .pipeline_phase import PipelinePhase

TRAIN_TIMESTEPS = 1000
SAME_SHARE = 0.2  # of the pairs to a reference: A and B differ by a curve only, and no texture is to be added
# Aperture and focal spot of the scanner of the standard.
STANDARD_BLUR_MM = (0.90, 0.85)  # as in `Scanner`
LARGEST_LOG_SPACING = 0.28  # of slices that the standard is taken from, in units of the latent's channel: 0.75 mm
# Of the pairs whose target is not smoothed, real scans included: tokens of the standard replace the target's own.
STANDARD_TOKENS_SHARE = 0.5
STATISTICS_PAIRS = 512  # over which the deviation of what is diffused is measured


class ReferenceDiffusion(nn.Module):
    """The denoiser predicts v at a random time, given Z_A, tokens of the target and what is estimated of both."""

    def __init__(self, denoiser: ReferenceUNet1DModel, diffusion: PlacewiseDiffusionLoss):
        super().__init__()
        self.denoiser, self.diffusion = denoiser, diffusion

    def forward(
        self,
        latent_a: torch.Tensor,
        latent_b: torch.Tensor,
        tokens: torch.Tensor,
        shift: torch.Tensor,
        whitening: torch.Tensor,
        tails: torch.Tensor,
        noise: torch.Tensor,
        timestep: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """Return losses by name.

        Args:
            latent_a, latent_b: (B, C, L), normalized.
            tokens: (B, T, C), normalized.
            shift: (B, rings), normalized.
            whitening: (B, rings).
            tails: (B, 3).
            noise, timestep: From `PlacewiseDiffusionLoss.draw`.
        """
        residual = self.denoiser.to_residual(latent_b, latent_a, shift)
        condition = (tokens, shift, whitening, tails)
        loss = self.diffusion(self.denoiser, residual, latent_a, condition, patient_weight(latent_a), noise, timestep)
        return {"diffusion": loss, "loss": loss}


class LatentPhase(PipelinePhase):
    """Phase two, for `loop.train`."""

    options: LatentOptions
    autoencoder: TextureAutoencoder

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
        self.autoencoder.to(device)  # type: ignore[arg-type]  # diffusers wraps `to`, which mypy takes for unbound
        self.diffusion = PlacewiseDiffusionLoss(scheduler, options.last_step_share)
        denoiser = ReferenceUNet1DModel.from_pretrained(options.init) if options.init else self._new_denoiser()
        self.objective = ReferenceDiffusion(denoiser, self.diffusion).to(device)
        if not options.init:
            self._measure_deviation(denoiser)

    @torch.no_grad()
    def batch(self, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        """Draw the arguments of the objective for a step."""
        drawn = self._draw(self.options.batch_size, generator)
        return *drawn, *self.diffusion.draw(drawn[1], generator)

    def _draw(self, count: int, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        """Draw Z_A, Z_B, tokens and shift, all normalized, and whitening and tails of `count` pairs."""
        drawn = self.pairs.draw(count, self.options.standard_share, SCAN_TOKENS, generator, SAME_SHARE)
        normalize = self.autoencoder.normalize
        tokens = normalize(drawn.tokens.transpose(1, 2)).transpose(1, 2)
        standard = self.objective.denoiser.standard
        standard = standard.repeat(SCAN_TOKENS // len(standard), 1)
        chance = torch.rand(count, generator=generator, device=generator.device) < STANDARD_TOKENS_SHARE
        tokens = torch.where((drawn.to_standard | drawn.to_plain & chance)[:, None, None], standard, tokens)
        shift = drawn.shift / self.autoencoder.latent_std[self.autoencoder.channels.power].flatten()
        return normalize(drawn.latent_a), normalize(drawn.latent_b), tokens, shift, drawn.whitening, drawn.tails

    @torch.no_grad()
    def _new_denoiser(self) -> ReferenceUNet1DModel:
        """Create a network whose standard is positions of slices of the standard kernel.

        All are brought to the median dose and to one scanner, and have pixels that hardly alias.
        """
        options, power, max_lp_cm = self.options, self.autoencoder.channels.power, self.pairs.max_lp_cm
        denoiser = ReferenceUNet1DModel(
            self.autoencoder.config["rings"], tuple(options.block_out_channels), standard_tokens=options.standard_tokens
        )
        spacing = self.pairs.stored[:, 0, 0, 0].float()
        known = self.pairs.log_noise_gain[:, 0].isfinite()
        usable = known & (spacing <= max(LARGEST_LOG_SPACING, float(spacing[known].min())))
        standard = self.pairs.stored[usable, 0].float()  # [N,C,L]
        log_mtf_power, gain = self.pairs.log_mtf_power[usable, 0], self.pairs.log_noise_gain[usable]
        lp_cm = torch.linspace(0, max_lp_cm, power.stop - power.start, device=standard.device)
        scanner = Scanner(aperture_mm=STANDARD_BLUR_MM[0], focal_mm=STANDARD_BLUR_MM[1])
        standard[:, power] += (scanner.log_noise_gain(lp_cm / 10) - gain)[..., None]
        mean = patient_mean(standard)[:, power]
        weights = level_weights(log_mtf_power, max_lp_cm, float("inf"))
        dose = level(mean - log_mtf_power - torch.log(lp_cm.clamp(min=0.1)), weights)  # [N,1]
        standard[:, power] += (dose.median() - dose)[..., None]
        positions = standard.transpose(1, 2).flatten(0, 1)
        inside = positions[patient_weight(standard)[:, 0].flatten() > IN_PATIENT]
        generator = torch.Generator(self.device).manual_seed(options.seed)
        inside = inside[
            torch.randperm(len(inside), generator=generator, device=inside.device)[: options.standard_tokens]
        ]
        denoiser.standard[:] = self.autoencoder.normalize(inside.T[None])[0].T.cpu()
        return denoiser

    @torch.no_grad()
    def _measure_deviation(self, denoiser: ReferenceUNet1DModel) -> None:
        generator = torch.Generator(self.device).manual_seed(self.options.seed)
        latent_a, latent_b, _, shift, _, _ = self._draw(STATISTICS_PAIRS, generator)
        residual = denoiser.to_residual(latent_b, latent_a, shift)[:, denoiser.channels.power]
        weight = patient_weight(latent_a)
        deviation = ((residual.square() * weight).sum((0, 2)) / weight.sum()).sqrt()
        denoiser.deviation[denoiser.channels.power] = deviation.clamp(min=SMALLEST_DEVIATION)
