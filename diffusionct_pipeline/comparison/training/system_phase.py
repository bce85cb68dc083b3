"""Training of a rival of the comparison, with the same pairs and the same loop for all."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import nn
from torch.optim import Optimizer

from ...image_processor import to_hu
from ...simulation import SimulatedPair
from ...simulation.splits import IMAGE_PAIRS, take
from ...simulation.tumour_pairs import SOURCE, TARGET, tumour_pairs
from ...train.data.image_pairs import PairGenerator
from ...train.data.objects import load_objects, phantom_objects
from ...train.loop import train
from ...train.validation import ValidationSet
from ...utils.files import whole_folder, write_whole
from ..systems import SYSTEMS, TRAINABLE, FittingPair
from ..systems.networks import VGG19Features
from ..systems.trained import STANDARD_KERNEL, SystemTraining, TrainedSystem
from .options import SystemOptions

FITTING_PAIRS = 6  # simulated pairs of training phantoms for a system without training
BEST, SCORES = "best", "scores.json"  # folder and scores of a run's best validation


def train_system(options: SystemOptions) -> dict:
    """Train a system, or fit one that needs no training, and save it; return the summary."""
    if options.system in TRAINABLE:
        return train(options, SystemPhase)
    started, folder = time.monotonic(), Path(options.output)
    pairs = (FittingPair(pair.hu[SOURCE], pair.hu[TARGET], pair.spacing_mm) for pair in fitting_pairs())
    SYSTEMS[options.system]().fit(list(pairs)).save_pretrained(folder)
    summary: dict[str, Any] = {
        "steps": 0,
        "seconds": round(time.monotonic() - started, 1),
        "options": {"system": options.system},
    }
    write_summary(folder, summary)
    return summary


def fitting_pairs() -> Iterator[SimulatedPair]:
    """Yield Br40/Bl64 pairs through tumours of training phantoms."""
    return tumour_pairs(take(IMAGE_PAIRS, FITTING_PAIRS))


def write_summary(folder: Path, summary: dict) -> None:
    """Write the summary to metrics.json, which marks a run as complete."""
    write_whole(folder / "metrics.json", json.dumps({"system": summary}, indent=2) + "\n")


class SystemPhase:
    """Training phase of a system of `systems.TRAINABLE`, for `loop.train`."""

    def __init__(self, options: SystemOptions, device: torch.device):
        self.options = options
        if not options.resume and PartialState().is_main_process:
            shutil.rmtree(Path(options.output) / BEST, ignore_errors=True)  # of an earlier run
        system = TRAINABLE[options.system](**options.network_arguments)
        self.recipe = system.recipe
        self.objective = system.make_training(options.crop)
        self._load_vgg()
        self.objective.to(device)
        objects = load_objects(options.objects) + phantom_objects(options.phantom_slices, options.seed)
        self.pairs = PairGenerator(objects, options.crop, device, STANDARD_KERNEL, standard_share=1.0)
        self.validation = ValidationSet(options.validation_pairs if options.validation_steps else 0)

    def optimizers(self) -> dict[str, Optimizer]:
        """Return the optimizer of each turn."""
        return self.objective.optimizers(self.options.learning_rate)

    def turns(self, done: float) -> Sequence[str]:
        """Return the turns of the next step."""
        return self.objective.turns(done)

    def batch(self, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Generator]:
        """Draw sources and targets (B, 1, n, n) in HU; return them with the random generator of the step.

        Unpaired images come from two independent draws: no source shares its anatomy with a target.
        """
        count = self.options.batch_size * self.recipe.candidates
        unpaired = round(count * self.recipe.unpaired_share)
        drawn = self.pairs(count + unpaired, generator)
        target = torch.cat([drawn.b[: count - unpaired], drawn.b[count:]])
        return to_hu(drawn.a[:count]), to_hu(target), generator

    @torch.no_grad()
    def validate(self, objective: nn.Module) -> dict[str, float]:
        """Score Br40 to Bl64. The best system is kept, since a GAN can be better halfway than at its end."""
        system = _system_of(objective)
        scores = self.validation.score(lambda hu, spacing_mm, target: system.standardize(hu, spacing_mm))
        best = Path(self.options.output) / BEST
        if PartialState().is_main_process and scores["within_15_percent"] >= best_score(best):
            with whole_folder(best, replace=True) as folder:
                system.save_pretrained(folder)
                (folder / SCORES).write_text(json.dumps(scores) + "\n")
        return scores

    def save(self, objective: nn.Module, folder: Path, summary: dict) -> None:
        """Write the system, the best of the validations where there are any, and the summary."""
        system = _system_of(objective)
        if self.options.validation_steps:
            self.validate(objective)
            system = type(system).from_pretrained(folder / BEST)
            summary = summary | {"validation": json.loads((folder / BEST / SCORES).read_text())}
        system.save_pretrained(folder)
        write_summary(folder, summary | {"parameters": sum(p.numel() for p in system.parameters())})

    def _load_vgg(self) -> None:
        """Load pretrained weights into the VGG-19 of a system.

        Raises:
            ValueError: if weights are given, but the system has no VGG-19.
        """
        if not self.options.vgg:
            return
        networks = [module for module in self.objective.modules() if isinstance(module, VGG19Features)]
        if not networks:
            raise ValueError(
                f'`vgg` must be left out, as {self.options.system} has no VGG-19, got "{self.options.vgg}".'
            )
        for network in networks:
            network.load(self.options.vgg)
        self.objective.system.register_to_config(pretrained_vgg=True)


def _system_of(objective: nn.Module) -> TrainedSystem:
    assert isinstance(objective, SystemTraining)
    return objective.system


def best_score(folder: Path) -> float:
    """Return the score of a run's best validation so far, or -1 before the first."""
    return json.loads((folder / SCORES).read_text())["within_15_percent"] if (folder / SCORES).is_file() else -1.0
