"""Phase two: the conditional latent DDPM; the autoencoder stays frozen."""

import json

import torch
from diffusers import DDPMScheduler
from torch import nn

from ..losses import diffusion_loss
from ..models import AutoencoderResNet18, ConditionalUNet1DModel
from ..pipeline import DiffusionCTPipeline
from .datasets import load_objects, phantom_objects
from .loop import train
from .pairs import GROUP, PairGenerator
from .validation import ValidationSet

REFERENCE_SHARE = 0.5  # of the pairs take their style from another object under the same kernel, as from a reference scan


def train_latent(options):
    """Train `ConditionalUNet1DModel` (section 3.2 of Selim et al. 2023) and save the pipeline to `options.output`."""
    return train(options, LatentPhase)


class LatentDiffusion(nn.Module):
    """Predict the noise (or v) in Z_B at a random time, given Z_A and the target's style."""

    def __init__(self, denoiser, scheduler, l1_weight):
        super().__init__()
        self.denoiser, self.scheduler, self.l1_weight = denoiser, scheduler, l1_weight

    def forward(self, latent_a, latent_b, style, noise, timestep):
        """Standardized latents (B, C, L), style (B, C), noise (B, C, L), timestep (B,); a dict of losses back."""
        noisy = self.scheduler.add_noise(latent_b, noise, timestep)
        predicted = self.denoiser(noisy, timestep, latent_a, style).sample
        targets = {"epsilon": noise, "sample": latent_b}
        if self.scheduler.config.prediction_type == "v_prediction":
            targets["v_prediction"] = self.scheduler.get_velocity(latent_b, noise, timestep)
        return {"loss": diffusion_loss(predicted, targets[self.scheduler.config.prediction_type], self.l1_weight)}


class LatentPhase:
    """What loop.train needs to know of phase two."""

    def __init__(self, options, device):
        self.options, self.device = options, device
        self.autoencoder = AutoencoderResNet18.from_pretrained(options.autoencoder).to(device).eval()
        self.autoencoder.requires_grad_(False)
        denoiser = ConditionalUNet1DModel(
            latent_channels=self.autoencoder.config.latent_channels,
            block_out_channels=tuple(options.block_out_channels),
            style_conditioned=not options.fixed_target,
        ).to(device)
        scheduler = DDPMScheduler(
            num_train_timesteps=1000,
            beta_schedule=options.beta_schedule,
            prediction_type=options.prediction_type,
            timestep_spacing="trailing",
            clip_sample=False,  # the default True destroys latents outside [-1, 1]
        )
        objects = load_objects(options.objects) + phantom_objects(options.phantom_slices, options.seed)
        share = 1.0 if options.fixed_target else options.standard_share
        self.pairs = PairGenerator(objects, options.crop, device, options.standard_kernel, share)
        self._fit_standard(denoiser, objects)
        self.objective = LatentDiffusion(denoiser, scheduler, options.l1_weight)
        self.validation = ValidationSet(options.validation_pairs if options.validation_steps else 0)

    @torch.no_grad()
    def batch(self, generator):
        # 1. Frozen latents of both sides; each pair is used both ways.
        pairs = self.pairs(self.options.batch_size, generator)
        latent_a = self._latent(torch.cat([pairs.a, pairs.b]), pairs.spacing.repeat(2))  # [2B,C,L]
        latent_b = torch.cat(latent_a.chunk(2)[::-1])
        # 2. The target's style: the slice's own, that of another object under the same kernel, or the standard's.
        own = self._style(latent_b)
        reference = own.unflatten(0, (-1, GROUP)).flip(1).flatten(0, 1)
        use_reference = torch.rand(len(own), generator=generator, device=self.device) < REFERENCE_SHARE
        style = torch.where(use_reference[:, None], reference, own)
        standard = torch.cat([pairs.standard, torch.zeros_like(pairs.standard)])
        of_standard = self.objective.denoiser.style_of_standard(self._style(latent_a))
        style = torch.where(standard[:, None], of_standard, style)
        if self.options.fixed_target:  # only towards the standard
            latent_a, latent_b, style = (one[standard] for one in (latent_a, latent_b, style))
        # 3. Noise and time, several draws for each pair.
        repeated = (one.repeat_interleave(self.options.noise_draws, 0) for one in (latent_a, latent_b, style))
        latent_a, latent_b, style = repeated
        noise = torch.randn(latent_b.shape, generator=generator, device=self.device)
        steps = self.objective.scheduler.config.num_train_timesteps
        timestep = torch.randint(steps, (len(noise),), generator=generator, device=self.device)
        return self._standardize(latent_a), self._standardize(latent_b), style, noise, timestep

    @torch.no_grad()
    def validate(self, objective):
        """Br40 -> Bl64 by the whole pipeline."""
        pipeline = self._pipeline(objective)
        return self.validation.score(lambda hu, spacing_mm, target: pipeline(hu, spacing_mm).images[0])

    def save(self, objective, folder, summary):
        self._pipeline(objective).save_pretrained(folder)
        (folder / "metrics.json").write_text(json.dumps({"latent": summary}, indent=2) + "\n")

    def _pipeline(self, objective):
        pipeline = DiffusionCTPipeline(
            self.autoencoder,
            objective.denoiser,
            objective.scheduler,
            default_num_inference_steps=self.options.default_steps,
            standard_name=self.options.standard_kernel,
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def _latent(self, sample, spacing):
        return self.autoencoder.encode(sample, spacing)[0].float()

    def _standardize(self, latent):
        return self.autoencoder.standardize(latent)

    def _style(self, latent):
        return self._standardize(self.autoencoder.pool(latent))

    @torch.no_grad()
    def _fit_standard(self, denoiser, objects):
        """Learn from pairs what style a slice has under the standard kernel."""
        standard = PairGenerator(objects, self.options.crop, self.device, self.options.standard_kernel, 1.0)
        generator = torch.Generator(self.device).manual_seed(self.options.seed)
        styles = []
        for _ in range(max(1, self.options.standard_pairs // self.options.batch_size)):
            pairs = standard(self.options.batch_size, generator)
            styles.append([self._style(self._latent(side, pairs.spacing)) for side in (pairs.a, pairs.b)])
        denoiser.fit_standard(*map(torch.cat, zip(*styles)))
