"""One training loop for all phases; a phase defines what is trained and its loss."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, set_seed
from torch import nn
from torch.optim import AdamW, Optimizer
from tqdm import tqdm

from ..utils.seeds import MAX_SEED
from .checkpoints import Clock, averaged, load_checkpoint, save_checkpoint
from .options import Options, TrainOptions

# Paths, which mean nothing on another machine.
PLACES = ("output", "scans", "objects", "autoencoder", "init", "resume", "vgg")


class Phase(Protocol):
    """Interface of a phase for `train`."""

    @property
    def objective(self) -> nn.Module:
        """Module from a batch to a dict of losses, with the one to train on as "loss"."""

    def batch(self, generator: torch.Generator) -> tuple:
        """Draw the arguments of the objective for a step."""

    def validate(self, objective: nn.Module) -> dict[str, float]:
        """Score an objective with averaged weights."""

    def save(self, objective: nn.Module, folder: Path, summary: dict) -> None:
        """Write what was trained."""


@runtime_checkable
class AlternatingPhase(Phase, Protocol):
    """A phase whose steps consist of one or more turns, each with its own optimizer, such as a GAN.

    Its objective takes the turn as its last argument.
    """

    def optimizers(self) -> dict[str, Optimizer]:
        """Return the optimizer of each turn, with its peak learning rate."""

    def turns(self, done: float) -> Sequence[str]:
        """Return the turns of the next step, after a share `done` (0 to 1) of the budget."""


def train(options: Options, make_phase: Callable[[Options, torch.device], Phase]) -> dict:
    """Run a phase to its end and save the result.

    Every batch is drawn from a generator seeded by (seed, step, process), so that a resumed run draws the same batches as
    an uninterrupted one.

    Args:
        options: Options of the phase.
        make_phase: Creates the phase on a device.

    Returns:
        The summary that `save` was given: steps, seconds and the last metrics.
    """
    # 1. Set up.
    set_seed(options.seed)
    accelerator = Accelerator(
        mixed_precision=options.mixed_precision, cpu=options.cpu, log_with=options.tracker or None,
        project_dir=options.output,
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],  # a turn trains only some networks
    )  # fmt: skip
    output = Path(options.output)
    output.mkdir(parents=True, exist_ok=True)
    phase = make_phase(options, accelerator.device)
    alternating = phase if isinstance(phase, AlternatingPhase) else None
    optimizers = {"": _adamw(phase.objective, options)} if alternating is None else alternating.optimizers()
    peaks = {turn: optimizer.param_groups[0]["lr"] for turn, optimizer in optimizers.items()}
    objective, *prepared = accelerator.prepare(phase.objective, *optimizers.values())
    optimizers = dict(zip(optimizers, prepared))
    average = averaged(accelerator.unwrap_model(objective), options.ema_decay)
    clock = Clock()
    accelerator.register_for_checkpointing(average, clock)
    if options.resume:
        load_checkpoint(accelerator, output, options.resume)
    if options.tracker:
        accelerator.init_trackers("diffusionct", config={k: str(v) for k, v in vars(options).items()})
    generator = torch.Generator(accelerator.device)
    log = open(output / "metrics.jsonl", "a") if accelerator.is_main_process else None  # noqa: SIM115  closed below
    bar = tqdm(total=options.max_steps, initial=clock.step, disable=not accelerator.is_main_process)
    started = time.monotonic() - clock.seconds
    metrics: dict[str, float] = {}
    scores: dict[str, float] = {}

    # 2. Steps.
    objective.train()
    while clock.step < options.max_steps and _time_left(accelerator, options, clock):
        done, values = _share_done(accelerator, options, clock), {"loss": 0.0}
        batches: list[tuple] = []
        for micro in range(options.gradient_accumulation):
            generator.manual_seed(_batch_seed(options, clock.step, micro, accelerator.process_index))
            batches.append(phase.batch(generator))  # in float32: bfloat16 would round HU to multiples of 4
        for turn in optimizers if alternating is None else alternating.turns(done):
            optimizer = optimizers[turn]
            trained = [p for group in optimizer.param_groups for p in group["params"]]
            rate = peaks[turn] * _schedule(options, clock.step, done)
            for group in optimizer.param_groups:
                group["lr"] = rate
            for batch in batches:
                with accelerator.autocast():
                    losses = objective(*batch) if alternating is None else objective(*batch, turn)
                accelerator.backward(losses["loss"] / options.gradient_accumulation)
            total = values["loss"] + losses["loss"].item()
            values |= {name: value.item() for name, value in losses.items()} | {"loss": total}
            norm = accelerator.clip_grad_norm_(trained, options.max_grad_norm or math.inf)
            optimizer.step()
            for each in optimizers.values():  # a generator's loss leaves gradients in the discriminator as well
                each.zero_grad(set_to_none=True)
        average.update_parameters(accelerator.unwrap_model(objective))
        clock.step += 1
        clock.seconds = time.monotonic() - started

        # 3. Report, validate, write a checkpoint.
        metrics = values | {"grad_norm": float(norm), "learning_rate": rate}
        if not math.isfinite(metrics["loss"]):
            raise FloatingPointError(f"the loss is {metrics['loss']} at step {clock.step}; try a lower `learning_rate`")
        if _due(options.validation_steps, clock.step):
            scores = phase.validate(average.module.eval())
            metrics |= scores
        accelerator.log(metrics, step=clock.step)
        if log is not None:
            log.write(json.dumps({"step": clock.step, "seconds": round(clock.seconds, 2), **metrics}) + "\n")
            log.flush()
        bar.update()
        bar.set_postfix(loss=f"{metrics['loss']:.4f}")
        if _due(options.checkpoint_steps, clock.step):
            save_checkpoint(accelerator, output, clock.step)

    # 4. Save the averaged weights.
    bar.close()
    save_checkpoint(accelerator, output, clock.step)
    summary = {
        "steps": clock.step,
        "seconds": round(clock.seconds, 1),
        "processes": accelerator.num_processes,
        "device": str(accelerator.device),
        "torch": torch.__version__,
        "options": {k: v for k, v in vars(options).items() if k not in PLACES},
        "validation": scores,
        **{k: metrics[k] for k in ("loss",) if k in metrics},
    }
    if accelerator.is_main_process:
        phase.save(average.module.eval(), output, summary)
    if log is not None:
        log.close()
    accelerator.end_training()
    return summary


def _adamw(objective: nn.Module, options: TrainOptions) -> AdamW:
    trained = [p for p in objective.parameters() if p.requires_grad]
    return AdamW(trained, options.learning_rate, betas=(0.9, 0.99), weight_decay=options.weight_decay)


def _share_done(accelerator: Accelerator, options: TrainOptions, clock: Clock) -> float:
    """Return the share of the budget that is spent, 0 to 1. It is the same for all processes, as turns depend on it."""
    done = clock.step / options.max_steps
    if options.max_seconds:
        seconds = clock.seconds
        if accelerator.num_processes > 1:
            seconds = accelerator.reduce(torch.tensor(seconds, device=accelerator.device), "mean").item()
        done = max(done, seconds / options.max_seconds)
    return min(1.0, done)


def _schedule(options: TrainOptions, step: int, done: float) -> float:
    """Return the share of the peak learning rate: linear warm-up, cosine decay to 0."""
    warm = min(1.0, (step + 1) / max(1, options.warmup_steps))
    return warm * 0.5 * (1 + math.cos(math.pi * done))


def _time_left(accelerator: Accelerator, options: TrainOptions, clock: Clock) -> bool:
    if not options.max_seconds:
        return True
    over = torch.tensor(float(clock.seconds >= options.max_seconds), device=accelerator.device)
    return accelerator.reduce(over, "sum").item() == 0  # all processes stop at the same step


def _batch_seed(options: TrainOptions, step: int, micro: int, rank: int) -> int:
    seed = (options.seed * 1_000_003 + step) * 1_009 + micro * 101 + rank
    return seed % MAX_SEED


def _due(every: int, step: int) -> bool:
    return bool(every) and step % every == 0
