"""Averaged weights and resumable checkpoints."""

from __future__ import annotations

import logging
import re
import shutil
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn
from torch.optim.swa_utils import AveragedModel

from ..utils.files import full_disk

logger = logging.getLogger(__name__)

KEEP = 2  # resumable checkpoints left on disk


def averaged(model: nn.Module, decay: float) -> AveragedModel:
    """Exponential moving average of `model`, BatchNorm buffers included; the decay warms up as (1 + n) / (10 + n)."""

    @torch.no_grad()
    def update(average: list[torch.Tensor], current: list[torch.Tensor], updates: torch.Tensor | int) -> None:
        now = min(decay, (1 + int(updates)) / (10 + int(updates)))
        for kept, new in zip(average, current):
            if kept.is_floating_point():
                kept.lerp_(new, 1 - now)
            else:
                kept.copy_(new)

    return AveragedModel(model, multi_avg_fn=update, use_buffers=True)


class Clock:
    """Steps and seconds so far; saved and restored by accelerate with the rest of the state."""

    def __init__(self):
        self.step, self.seconds = 0, 0.0

    def state_dict(self) -> dict[str, float]:
        """What a checkpoint holds of it."""
        return {"step": self.step, "seconds": self.seconds}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Go on from what a checkpoint holds."""
        self.step, self.seconds = state["step"], state["seconds"]


def save_checkpoint(accelerator: Accelerator, output: str | Path, step: int) -> None:
    """Write `output/checkpoints/step-N`, whole or not at all, on every process, and drop the oldest.

    Raises:
        OSError: naming the folder, if the disk is full. Whatever else accelerate raises; no half of a checkpoint is left.
    """
    folder = Path(output) / "checkpoints" / f"step-{step:08d}"
    part = folder.with_name(f".{folder.name}.part")  # every process must know its name
    if accelerator.is_main_process:
        for left in folder.parent.glob(".step-*.part"):  # of a run that was killed
            shutil.rmtree(left)
    accelerator.wait_for_everyone()
    try:
        accelerator.save_state(str(part))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            _drop(folder)  # of another run, or of this one as it began
            part.replace(folder)
            for old in list_checkpoints(output)[:-KEEP]:
                _drop(old)
    except Exception as error:
        shutil.rmtree(part, ignore_errors=True)
        if full := full_disk(error):
            raise OSError(full.errno, full.strerror, str(folder)) from error
        raise


def _drop(folder: Path) -> None:
    """Remove a checkpoint if it is there; a kill meanwhile leaves no half of it under its name."""
    if folder.exists():
        part = folder.with_name(f".{folder.name}.old.part")
        folder.replace(part)
        shutil.rmtree(part)


def load_checkpoint(accelerator: Accelerator, output: str | Path, resume: str) -> Path:
    """Load the state that `--resume` names: a folder, or the newest one of `output` that is whole.

    Returns:
        The folder.

    Raises:
        ValueError: if it does not exist, or none of them can be loaded.
    """
    if resume != "latest":
        if not Path(resume).is_dir():
            raise ValueError(f'`resume` is "{resume}"; legal are "latest" and the folder of a checkpoint.')
        accelerator.load_state(resume)
        return Path(resume)
    problem = f'`resume` is "latest", but "{output}" holds no checkpoint.'
    for folder in reversed(list_checkpoints(output)):
        reason = ""
        try:
            accelerator.load_state(str(folder))
        except Exception as error:  # what a half-written file raises depends on where it ends
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
        failed = torch.tensor(float(bool(reason)), device=accelerator.device)
        if accelerator.reduce(failed, "sum").item() == 0:  # all processes go on from the same one
            return folder
        problem = f'`resume` is "latest", but "{folder}" cannot be loaded: {reason or "another process failed"}'
        logger.warning("%s cannot be loaded, the checkpoint before it is tried: %s", folder.name, reason)
    raise ValueError(problem)


def list_checkpoints(output: str | Path) -> list[Path]:
    """Checkpoint folders, oldest first."""
    folders = (Path(output) / "checkpoints").glob("step-*")
    return sorted(folder for folder in folders if re.fullmatch(r"step-\d{8}", folder.name))
