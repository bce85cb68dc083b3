"""Averaged weights and resumable checkpoints."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn
from torch.optim.swa_utils import AveragedModel

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
    """Write `output/checkpoints/step-N` on every process and drop the oldest."""
    folder = Path(output) / "checkpoints" / f"step-{step:08d}"
    accelerator.save_state(str(folder))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        for old in list_checkpoints(output)[:-KEEP]:
            shutil.rmtree(old)


def find_checkpoint(output: str | Path, resume: str) -> Path:
    """The folder that `--resume` names.

    Raises:
        ValueError: if it does not exist.
    """
    if resume == "latest":
        found = list_checkpoints(output)
        if not found:
            raise ValueError(f'`resume` is "latest", but "{output}" holds no checkpoint.')
        return found[-1]
    if not Path(resume).is_dir():
        raise ValueError(f'`resume` is "{resume}"; legal are "latest" and the folder of a checkpoint.')
    return Path(resume)


def list_checkpoints(output: str | Path) -> list[Path]:
    """Checkpoint folders, oldest first."""
    folders = (Path(output) / "checkpoints").glob("step-*")
    return sorted(folder for folder in folders if re.fullmatch(r"step-\d{8}", folder.name))
