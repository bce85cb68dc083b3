"""Training of a rival of the comparison: the same pairs and the same loop for all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from torch.optim import Optimizer

from ..image_processor import to_hu
from ..systems import TRAINABLE
from ..systems.networks import VGG19Features
from ..systems.trained import STANDARD_KERNEL
from ..training_data.image_pairs import PairGenerator
from ..training_data.objects import load_objects, phantom_objects
from .options import SystemOptions
from .validation import ValidationSet


class SystemPhase:
    """What loop.train needs to know of a system of `systems.TRAINABLE`."""

    def __init__(self, options: SystemOptions, device: torch.device):
        self.options, self.device = options, device
        system = TRAINABLE[options.system](**options.network_arguments)
        self.recipe = system.recipe
        self.objective = system.make_training(options.crop)
        self._load_vgg()
        self.objective.to(device)
        objects = load_objects(options.objects) + phantom_objects(options.phantom_slices, options.seed)
        self.pairs = PairGenerator(objects, options.crop, device, STANDARD_KERNEL, standard_share=1.0)
        self.validation = ValidationSet(options.validation_pairs if options.validation_steps else 0)

    def optimizers(self) -> dict[str, Optimizer]:
        """Turn -> its optimizer."""
        return self.objective.optimizers(self.options.learning_rate)

    def turns(self, done: float) -> Sequence[str]:
        """Turns of the next step."""
        return self.objective.turns(done)

    def batch(self, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Generator]:
        """Sources and targets (B, 1, n, n) in HU, and the randomness of the step.

        What is unpaired comes from two independent draws: no source has its own anatomy among the targets.
        """
        count = self.options.batch_size * self.recipe.candidates
        unpaired = round(count * self.recipe.unpaired_share)
        drawn = self.pairs(count + unpaired, generator)
        target = torch.cat([drawn.b[: count - unpaired], drawn.b[count:]])
        return to_hu(drawn.a[:count]), to_hu(target), generator

    @torch.no_grad()
    def validate(self, objective: nn.Module) -> dict[str, float]:
        """Br40 -> Bl64."""
        return self.validation.score(lambda hu, spacing_mm, target: objective.system.standardize(hu, spacing_mm))

    def save(self, objective: nn.Module, folder: Path, summary: dict) -> None:
        """Write the system and the summary."""
        objective.system.save_pretrained(folder)
        (folder / "metrics.json").write_text(json.dumps({"system": summary}, indent=2) + "\n")

    def _load_vgg(self) -> None:
        """Give pretrained weights to the VGG-19 of a system that has one.

        Raises:
            ValueError: if there are weights and no network for them.
        """
        if not self.options.vgg:
            return
        networks = [module for module in self.objective.modules() if isinstance(module, VGG19Features)]
        if not networks:
            raise ValueError(f"`vgg` is \"{self.options.vgg}\", but {self.options.system} has no VGG-19; leave it out.")
        for network in networks:
            network.load(self.options.vgg)
        self.objective.system.register_to_config(pretrained_vgg=True)
