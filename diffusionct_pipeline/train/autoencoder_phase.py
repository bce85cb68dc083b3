"""Phase one: learn which share of the target's texture the source does not contain; the rest of the autoencoder is fixed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from ..image_processor import UNMEASURED_HU, to_hu, to_model
from ..models import TextureAutoencoder
from ..models.texture.channels import IN_PATIENT, patient_weight
from ..models.texture.coherence import coherence_of, incoherence_loss
from ..utils.files import write_whole
from .data.texture_pairs import load_texture_pairs
from .options import AutoencoderOptions
from .validation import ValidationSet

STATISTICS_SLICES = 512  # over which mean and deviation of the latent are measured


class IncoherentPowerObjective(nn.Module):
    """Predicts from Z_A and the change to Z_B how much of B is new; the loss is the likelihood of what was measured."""

    def __init__(self, model: TextureAutoencoder):
        super().__init__()
        self.model = model

    def forward(
        self, latent_a: torch.Tensor, latent_b: torch.Tensor, coherence: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Return losses by name for latents (B, C, L), not normalized, and their coherence (B, rings, L)."""
        side = round(latent_a.shape[-1] ** 0.5)
        a, b, coherence, weight = (
            x.unflatten(2, (side, side)) for x in (latent_a, latent_b, coherence, patient_weight(latent_a))
        )
        weight = weight * (weight > IN_PATIENT)  # air without noise has no phase to compare
        power = self.model.channels.power
        share = self.model.incoherent_share(a, b[:, power] - a[:, power])
        with torch.autocast(latent_a.device.type, enabled=False):
            loss = incoherence_loss(share.float(), coherence, weight)
        return {"incoherence": loss, "loss": loss}


class AutoencoderPhase:
    """Phase one, for `loop.train`."""

    def __init__(self, options: AutoencoderOptions, device: torch.device):
        self.options, self.device = options, device
        model = TextureAutoencoder.from_pretrained(options.init) if options.init else TextureAutoencoder(options.rings)
        groups = tqdm(desc="groups of scans encoded")
        self.pairs = load_texture_pairs(options.scans, model, options.groups, lambda seed: groups.update()).to(device)
        self._measure_latents(model)
        self.objective = IncoherentPowerObjective(model).to(device)
        self.validation = ValidationSet(options.validation_pairs if options.validation_steps else 0)

    def batch(self, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        """Draw the arguments of the objective for a step."""
        drawn = self.pairs.draw(self.options.batch_size, self.options.standard_share, 1, generator)
        return drawn.latent_a, drawn.latent_b, coherence_of(drawn.phase_agreement)

    @torch.no_grad()
    def validate(self, objective: nn.Module) -> dict[str, float]:
        """Score Br40 to Bl64 with the latent of the true target, the best that latent diffusion can reach."""
        model = _model_of(objective)

        def convert(hu: np.ndarray, spacing_mm: float, target_hu: np.ndarray) -> np.ndarray:
            images = (torch.from_numpy(image)[None, None].to(self.device) for image in (hu, target_hu))
            sample, target = map(to_model, images)
            spacing = torch.tensor([spacing_mm], device=self.device)
            latent_b, _ = model.encode(target, spacing)
            noise = torch.randn(sample.shape, generator=torch.Generator().manual_seed(0)).to(self.device)
            drawn = to_hu(model.decode(latent_b, model.encode(sample, spacing)[1], noise))
            return drawn[0, 0].clamp(min=UNMEASURED_HU).cpu().numpy()  # as the target's file is clipped

        return self.validation.score(convert)

    def save(self, objective: nn.Module, folder: Path, summary: dict) -> None:
        """Write the autoencoder and the summary."""
        _model_of(objective).save_pretrained(folder / "autoencoder")
        write_whole(folder / "metrics.json", json.dumps({"autoencoder": summary}, indent=2) + "\n")

    def _measure_latents(self, model: TextureAutoencoder) -> None:
        """Measure mean and deviation of the power over the patient; spacing and mean are already near unit scale."""
        generator = torch.Generator().manual_seed(self.options.seed)
        chosen = torch.randint(len(self.pairs), (STATISTICS_SLICES,), generator=generator).to(self.device)
        latents = self.pairs.stored[chosen].flatten(0, 1).float()
        inside = latents.transpose(1, 2)[patient_weight(latents)[:, 0] > IN_PATIENT]  # [n,C]
        power = model.channels.power
        model.latent_mean[power] = inside[:, power].mean(0).to(model.latent_mean.device)
        model.latent_std[power] = inside[:, power].std(0).to(model.latent_std.device)


def _model_of(objective: nn.Module) -> TextureAutoencoder:
    assert isinstance(objective, IncoherentPowerObjective)
    return objective.model
