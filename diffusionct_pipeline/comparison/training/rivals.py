"""Train every rival of the comparison in turn with equal budgets, and record them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState

from ...train.literal_phases import LiteralAutoencoderPhase, LiteralLatentPhase
from ...train.loop import train
from ...train.options import LiteralAutoencoderOptions, LiteralLatentOptions, option
from ...utils.files import write_whole
from ..systems import TRAINABLE
from .options import SystemOptions
from .system_phase import train_system

ENCODER_DECODER, LITERAL = "encoder-decoder", "DiffusionCT (literal)"
RIVALS = (*TRAINABLE, ENCODER_DECODER, LITERAL)
RECORD = "record.json"
ENDLESS = 10**9  # steps, so that the budget ends a training
RESNET = {"latent_channels": 8, "block_out_channels": [8, 8, 8, 8, 16], "decoder_channels": [8] * 5}
# "small" halves the published widths, so that a CPU makes some hundreds of steps in minutes; "tiny" is for a trial.
NETWORKS: dict[str, dict[str, dict[str, Any]]] = {
    "published": {},
    "small": {
        "pix2pix": {"downs": 7, "base_channels": 32},
        "GANai": {"downs": 7, "base_channels": 32},
        "STAN-CT": {"downs": 7, "base_channels": 32},
        "CycleGAN": {"base_channels": 32, "blocks": 6},
        "CVH-CT": {"base_channels": 32, "blocks": 6, "vgg_channels": 32},
        "RadiomicGAN": {"base_channels": 32, "vgg_channels": 32},
        "UDA-CT": {"base_channels": 32},
        "DDPM": {"block_out_channels": [32, 64, 128, 256]},
    },
    "tiny": {
        "U-Net, L1": RESNET,
        "pix2pix": {"downs": 4, "base_channels": 4},
        "GANai": {"downs": 4, "base_channels": 4},
        "STAN-CT": {"downs": 4, "base_channels": 4},
        "CycleGAN": {"base_channels": 4, "blocks": 1},
        "CVH-CT": {"base_channels": 8, "blocks": 1, "vgg_channels": 4},
        "RadiomicGAN": {"base_channels": 4, "vgg_channels": 4},
        "UDA-CT": RESNET | {"base_channels": 4},
        "DDPM": {"block_out_channels": [4, 8], "norm_groups": 2, "num_inference_steps": 2},
        ENCODER_DECODER: RESNET,
        LITERAL: {"block_out_channels": [16, 16], "default_steps": 2},
    },
}
CROPS = {"published": 0, "small": 128, "tiny": 64}
UNVALIDATED = ("DDPM", ENCODER_DECODER, LITERAL)  # slow to sample, or without a criterion: the last weights are kept


@dataclass
class RivalsOptions:
    """Options that all rivals share. Networks, crops and learning rates are as published."""

    output: str = option("runs/systems", "output folder: one subfolder per system, and record.json")
    budget_seconds: float = option(3600.0, "training time of each; the paper's two phases get half each")
    objects: list[str] = option([], "folders of sharp CT (DICOM) or .npz packs to re-kernel; none: phantoms only")
    phantom_slices: int = option(48, "noise-free phantom slices to generate as further training objects")
    systems: list[str] = option([], "names of the systems to train; none: all")
    size: str = option(
        "published", 'widths: "published"; "small", half of them with crops of 128, for a CPU; "tiny", for a trial'
    )
    batch_size: int = option(0, "pairs per step and process; 0: as published")
    max_steps: int = option(ENDLESS, "maximum of optimizer steps within the budget")
    validation_steps: int = option(500, "steps between validations; the best weights are kept")
    validation_pairs: int = option(2, "simulated pairs to validate on")
    mixed_precision: str = option("no", 'accelerate\'s mixed precision: "no", "bf16" or "fp16"')
    seed: int = option(0, "seed of the weights and of all random draws")
    cpu: bool = option(False, "train on the CPU even where there is a GPU")

    def __post_init__(self) -> None:
        unknown = set(self.systems) - set(RIVALS)
        if unknown:
            raise ValueError(f"`systems` must be among {', '.join(map(repr, RIVALS))}, got {sorted(unknown)}.")
        if self.size not in NETWORKS:
            raise ValueError(f"`size` must be one of {', '.join(map(repr, NETWORKS))}, got {self.size!r}.")
        if not self.budget_seconds > 0:
            raise ValueError(f"`budget_seconds` must be above 0, got {self.budget_seconds}.")


def train_rivals(options: RivalsOptions) -> dict[str, Any]:
    """Train the rivals that are missing, and continue interrupted trainings.

    Returns:
        The record that is written: seconds of the budget, and folder and training summary of each system.
    """
    out = Path(options.output)
    for name in options.systems or RIVALS:
        if name in TRAINABLE:
            _stage(options, name, out / folder_of(name), options.budget_seconds, _train_system)
            continue
        autoencoder = out / folder_of(ENCODER_DECODER)
        _stage(options, ENCODER_DECODER, autoencoder, options.budget_seconds / 2, _train_encoder_decoder)
        if name == LITERAL:
            _stage(options, LITERAL, out / folder_of(LITERAL), options.budget_seconds / 2, _train_literal)
    record = {"budget_seconds": options.budget_seconds, "systems": trained_systems(out)}
    if PartialState().is_main_process:
        write_whole(out / RECORD, json.dumps(record, indent=2) + "\n")
    return record


def folder_of(name: str) -> str:
    """Return the folder name of a system: "u_net_l1" for "U-Net, L1"."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def trained_systems(out: Path) -> dict[str, dict[str, Any]]:
    """Return folder and summary of each system whose training in `out` is complete, by name.

    The seconds of the paper's recipe are those of both phases.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in RIVALS:
        path = out / folder_of(name) / "metrics.json"
        if path.is_file():
            (summary,) = json.loads(path.read_text()).values()
            found[name] = {"folder": folder_of(name), **summary}
    if LITERAL in found and ENCODER_DECODER in found:
        found[LITERAL]["seconds"] += found[ENCODER_DECODER]["seconds"]
    return found


def _stage(
    options: RivalsOptions,
    name: str,
    folder: Path,
    seconds: float,
    train_it: Callable[[RivalsOptions, str, dict], None],
) -> None:
    """Run one training, unless it is complete: metrics.json is written last."""
    if (folder / "metrics.json").exists():
        return
    checkpoints = folder / "checkpoints"
    shared = {
        "output": str(folder), "max_seconds": seconds, "max_steps": options.max_steps, "objects": options.objects,
        "phantom_slices": options.phantom_slices, "checkpoint_steps": 500, "seed": options.seed, "cpu": options.cpu,
        "mixed_precision": options.mixed_precision, "validation_pairs": options.validation_pairs,
        "validation_steps": 0 if name in UNVALIDATED else options.validation_steps,
        "resume": "latest" if any(checkpoints.glob("step-*")) else "",
    }  # fmt: skip
    train_it(options, name, shared)
    if PartialState().is_main_process:  # they only serve to resume
        shutil.rmtree(checkpoints, ignore_errors=True)


def _train_system(options: RivalsOptions, name: str, shared: dict[str, Any]) -> None:
    network = [f"{key}={json.dumps(value)}" for key, value in NETWORKS[options.size].get(name, {}).items()]
    crop = CROPS[options.size]
    train_system(SystemOptions(system=name, network=network, crop=crop, batch_size=options.batch_size, **shared))


def _train_encoder_decoder(options: RivalsOptions, name: str, shared: dict[str, Any]) -> None:
    train(LiteralAutoencoderOptions(**_literal(options, name), **shared), LiteralAutoencoderPhase)


def _train_literal(options: RivalsOptions, name: str, shared: dict[str, Any]) -> None:
    autoencoder = str(Path(options.output) / folder_of(ENCODER_DECODER) / "autoencoder")
    train(LiteralLatentOptions(autoencoder=autoencoder, **_literal(options, name), **shared), LiteralLatentPhase)


def _literal(options: RivalsOptions, name: str) -> dict[str, Any]:
    sizes = {"batch_size": options.batch_size, "crop": CROPS[options.size]}
    return NETWORKS[options.size].get(name, {}) | {key: value for key, value in sizes.items() if value}
