"""Averaged weights and resumable checkpoints."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn
from torch.optim.swa_utils import AveragedModel

from ..utils.files import full_disk

logger = logging.getLogger(__name__)

KEEP = 2  # resumable checkpoints left on disk


def averaged(model: nn.Module, decay: float) -> AveragedModel:
    """Return an exponential moving average of `model`, BatchNorm buffers included.

    The decay warms up as (1 + n) / (10 + n).
    """

    @torch.no_grad()
    def update(average: Sequence[torch.Tensor], current: Sequence[torch.Tensor], updates: torch.Tensor | int) -> None:
        now = min(decay, (1 + int(updates)) / (10 + int(updates)))
        for kept, new in zip(average, current):
            if kept.is_floating_point():
                kept.lerp_(new, 1 - now)
            else:
                kept.copy_(new)

    return AveragedModel(model, multi_avg_fn=update, use_buffers=True)


class Clock:
    """Steps and seconds so far, which accelerate saves and restores with the rest of the state."""

    def __init__(self) -> None:
        self.step, self.seconds = 0, 0.0

    def state_dict(self) -> dict[str, float]:
        """Return what a checkpoint stores."""
        return {"step": self.step, "seconds": self.seconds}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Continue from what a checkpoint stores."""
        self.step, self.seconds = int(state["step"]), state["seconds"]


def save_checkpoint(accelerator: Accelerator, output: str | Path, step: int) -> None:
    """Write `output/checkpoints/step-N` atomically, from all processes, and remove the oldest.

    Raises:
        OSError: naming the folder, if the disk is full. Other errors of accelerate are passed on; no partial checkpoint
            is left.
    """
    folder = Path(output) / "checkpoints" / f"step-{step:08d}"
    part = folder.with_name(f".{folder.name}.part")  # all processes must agree on its name
    if accelerator.is_main_process:
        for left in folder.parent.glob(".step-*.part"):  # from a run that was killed
            shutil.rmtree(left)
    accelerator.wait_for_everyone()
    try:
        accelerator.save_state(str(part))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            _drop(folder)  # from an earlier run
            part.replace(folder)
            for old in list_checkpoints(output)[:-KEEP]:
                _drop(old)
    except Exception as error:
        shutil.rmtree(part, ignore_errors=True)
        if full := full_disk(error):
            raise OSError(full.errno, full.strerror, str(folder)) from error
        raise


def _drop(folder: Path) -> None:
    """Remove a checkpoint if it exists. If killed, this leaves no partial checkpoint under its name."""
    if folder.exists():
        part = folder.with_name(f".{folder.name}.old.part")
        folder.replace(part)
        shutil.rmtree(part)


def load_checkpoint(accelerator: Accelerator, output: str | Path, resume: str) -> Path:
    """Load the state that `--resume` names: a folder, or the newest complete one in `output`.

    Returns:
        The folder that was loaded.

    Raises:
        ValueError: if the folder does not exist, or none can be loaded.
    """
    if resume != "latest":
        if not Path(resume).is_dir():
            raise ValueError(f'`resume` must be "latest" or the folder of a checkpoint, got "{resume}".')
        accelerator.load_state(resume)
        return Path(resume)
    problem = f'`resume` is "latest", but "{output}" holds no checkpoint.'
    for folder in reversed(list_checkpoints(output)):
        reason = ""
        try:
            accelerator.load_state(str(folder))
        except Exception as error:  # the error of a truncated file depends on where it ends
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
        failed = torch.tensor(float(bool(reason)), device=accelerator.device)
        if accelerator.reduce(failed, "sum").item() == 0:  # all processes continue from the same one
            return folder
        problem = f'`resume` is "latest", but "{folder}" cannot be loaded: {reason or "another process failed"}'
        logger.warning("%s cannot be loaded, trying the checkpoint before it: %s", folder.name, reason)
    raise ValueError(problem)


def list_checkpoints(output: str | Path) -> list[Path]:
    """Return checkpoint folders, oldest first."""
    folders = (Path(output) / "checkpoints").glob("step-*")
    return sorted(folder for folder in folders if re.fullmatch(r"step-\d{8}", folder.name))
