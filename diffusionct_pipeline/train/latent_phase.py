"""Phase two: the conditional latent DDPM; the autoencoder stays frozen."""

import json
from itertools import chain

import torch
from diffusers import DDPMScheduler
from torch import nn
from tqdm import tqdm

from ..losses import diffusion_loss
from ..models import AutoencoderResNet18, ConditionalUNet1DModel
from ..pipeline import DiffusionCTPipeline
from .datasets import load_objects, phantom_objects
from .latents import encoded_pairs, stored_pairs, stored_scans
from .loop import train
from .pairs import PairGenerator
from .scans import object_groups, phantom_groups
from .validation import ValidationSet


def train_latent(options):
    """Train `ConditionalUNet1DModel` (section 3.2 of Selim et al. 2023) and save the pipeline to `options.output`."""
    return train(options, LatentPhase)


class LatentDiffusion(nn.Module):
    """Predict the target's style, and the noise (or v) in Z_B at a random time, given Z_A and that style."""

    def __init__(self, denoiser, scheduler, options):
        super().__init__()
        self.denoiser, self.scheduler, self.options = denoiser, scheduler, options

    def forward(self, latent_a, latent_b, spacing, styles, standard, noise, timestep):
        """A dict of losses.

        Args:
            latent_a, latent_b: (B, C, L), standardized.
            spacing: (B,) in mm.
            styles: (B, 3, C): of the source, of the target, and of a reference with the target's kernel; standardized.
            standard: (B,) bool, whether the target is the standard kernel: then there is no reference.
            noise: (N, C, L) with N a multiple of B, several draws for each pair.
            timestep: (N,).
        """
        losses = {}
        source, target, reference = styles.unbind(1)
        style = source
        if self.denoiser.target_style is not None:
            reference = torch.where(standard[:, None], self.denoiser.target_style.standard, reference)
            with torch.autocast(latent_a.device.type, enabled=False):  # the gain follows from it
                style = self.denoiser.target_style(latent_a, source, spacing, reference)
            losses["style"] = nn.functional.smooth_l1_loss(style, target, beta=0.1)
            if self.options.style_only:
                return losses | {"loss": losses["style"]}
        draws = len(noise) // len(latent_a)
        latent_a, latent_b, style = (
            one.repeat_interleave(draws, 0) for one in (latent_a, latent_b, style.detach())
        )
        noisy = self.scheduler.add_noise(latent_b, noise, timestep)
        predicted = self.denoiser(noisy, timestep, latent_a, style).sample
        targets = {"epsilon": noise, "sample": latent_b}
        if self.scheduler.config.prediction_type == "v_prediction":
            targets["v_prediction"] = self.scheduler.get_velocity(latent_b, noise, timestep)
        wanted = targets[self.scheduler.config.prediction_type]
        losses["diffusion"] = diffusion_loss(predicted, wanted, self.options.l1_weight)
        losses["loss"] = sum(losses.values())
        return losses


class LatentPhase:
    """What loop.train needs to know of phase two."""

    def __init__(self, options, device):
        self.options, self.device = options, device
        self.autoencoder = AutoencoderResNet18.from_pretrained(options.autoencoder).to(device).eval()
        self.autoencoder.requires_grad_(False)
        denoiser = self._new_denoiser().to(device)
        if options.style_only:
            denoiser.requires_grad_(False).target_style.requires_grad_(True)
        scheduler = DDPMScheduler(
            num_train_timesteps=1000,
            beta_schedule=options.beta_schedule,
            prediction_type=options.prediction_type,
            timestep_spacing="trailing",
            clip_sample=False,  # the default True destroys latents outside [-1, 1]
        )
        self.objective = LatentDiffusion(denoiser, scheduler, options)
        self.standard_share = 1.0 if options.fixed_target else options.standard_share
        self.pairs = self.stored = None
        objects = load_objects(options.objects)
        if options.stored_scans or options.stored_object_scans:
            self.stored = self._stored_scans(objects)
        else:
            objects += phantom_objects(options.phantom_slices, options.seed)
            self.pairs = PairGenerator(objects, options.crop, device, options.standard_kernel, self.standard_share)
            if options.stored_pairs:
                drawn = torch.Generator(device).manual_seed(options.seed)
                self.stored = stored_pairs(self.pairs, options.stored_pairs, self._latent, drawn)
        self.validation = ValidationSet(options.validation_pairs if options.validation_steps else 0)

    @torch.no_grad()
    def batch(self, generator):
        # 1. Pairs.
        count = self.options.batch_size
        if self.stored is None:
            latents = encoded_pairs(self.pairs, count, self._latent, generator)
        else:
            latents = self.stored.draw(2 * count, self.standard_share, generator)
        pairs = latents.pairs
        if self.options.fixed_target:  # only towards the standard
            pairs = pairs[pairs[:, 3] == 1]
        a, b, reference, standard = pairs.unbind(1)
        latent_a, latent_b, reference = latents.latents[a], latents.latents[b], latents.latents[reference]  # [2B,C,L]
        # 2. Their styles.
        pool, standardize = self.autoencoder.pool, self.autoencoder.standardize
        styles = [pool(latent_a), pool(latent_b, latent_a), pool(reference)]
        styles = standardize(torch.stack(styles, 2)).transpose(1, 2)  # [2B,3,C]
        # 3. Noise and time, several draws for each pair.
        shape = (self.options.noise_draws * len(latent_b), *latent_b.shape[1:])
        noise = torch.randn(shape, generator=generator, device=self.device)
        steps = self.objective.scheduler.config.num_train_timesteps
        timestep = torch.randint(steps, (len(noise),), generator=generator, device=self.device)
        spacing = latents.spacing[a]
        return standardize(latent_a), standardize(latent_b), spacing, styles, standard == 1, noise, timestep

    def _stored_scans(self, objects):
        options = self.options
        counts, same = (options.stored_scans, options.stored_object_scans), (options.standard_kernel, options.scan_size)
        groups = phantom_groups(counts[0], *same)
        if counts[1]:
            groups = chain(groups, object_groups(counts[1], objects, *same))
        return stored_scans(tqdm(groups, desc="scans", total=sum(counts)), self._latent, self.device)

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

    def _new_denoiser(self):
        if self.options.init:
            return ConditionalUNet1DModel.from_pretrained(self.options.init)
        return ConditionalUNet1DModel(
            latent_channels=self.autoencoder.config.latent_channels,
            block_out_channels=tuple(self.options.block_out_channels),
            style_conditioned=not self.options.fixed_target,
        )

    @torch.no_grad()
    def _latent(self, sample, spacing):
        half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.options.mixed_precision)
        with torch.autocast(self.device.type, half, enabled=half is not None):
            return self.autoencoder.encode(sample, spacing)[0].float()
