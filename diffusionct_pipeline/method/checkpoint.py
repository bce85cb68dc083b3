"""Checkpoints are only loaded whole, finite and made of this package's own classes; errors name the file or weight."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.schedulers import SchedulerMixin
from diffusers.schedulers.scheduling_utils import SCHEDULER_CONFIG_NAME
from safetensors import safe_open

from .. import models
from ..utils.registration import PACKAGE

MOST_STEPS = 100_000  # of a scheduler; training takes 1,000
MOST_BYTES = 10_000_000  # of its settings
NETWORKS = ("autoencoder", "denoiser")  # components that have weights


@contextmanager
def checkpoint_named(name: str) -> Iterator[None]:
    """Whatever a damaged checkpoint makes diffusers raise becomes a ValueError that names the checkpoint.

    Raises:
        ValueError: Naming it.
        OSError, MemoryError: As they came; an OSError names its file.
    """
    try:
        yield
    except (OSError, MemoryError):
        raise
    except Exception as error:  # depends on the damage
        reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise ValueError(f'checkpoint "{name}": {reason}') from error


def require_own_components(index: Mapping[str, Any]) -> None:
    """Refuse a model_index.json that names anything but this package's networks and a scheduler of diffusers.

    Raises:
        ValueError: naming the component and what is legal.
    """
    for component in NETWORKS:
        if index.get(component) not in ([PACKAGE, name] for name in models.__all__):
            legal = f"{', '.join(models.__all__)} of {PACKAGE}"
            raise ValueError(f"model_index.json names {index.get(component)!r} as {component}; legal are {legal}.")
    match index.get("scheduler"):
        case ["diffusers", str(name)] if is_scheduler(getattr(diffusers, name, None)):
            return
        case found:
            raise ValueError(f"model_index.json names {found!r} as scheduler; legal is a scheduler of diffusers.")


def require_modest_scheduler(folder: str | Path) -> None:
    """Refuse a scheduler that would take memory beyond reason: it makes tables of all its steps.

    Args:
        folder: Of the checkpoint, on this machine; one without a scheduler passes.

    Raises:
        ValueError: naming the setting, its value and what is legal.
    """
    path = Path(folder, "scheduler", SCHEDULER_CONFIG_NAME)
    if not path.is_file():
        return
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path.name} must have at most {MOST_BYTES} bytes, got {path.stat().st_size}.")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):  # damaged; diffusers says so, and names the file
        return
    for key, value in config.items() if isinstance(config, dict) else ():
        size = len(value) if isinstance(value, (list, str)) else value
        if (
            isinstance(size, (int, float)) and size > MOST_STEPS
        ):  # whatever it is called: `solver_order` takes memory too
            raise ValueError(f"`{key}` of its scheduler must be at most {MOST_STEPS}, got {size}.")


def is_scheduler(value: Any) -> bool:
    """Whether a value is a class of schedulers."""
    return isinstance(value, type) and issubclass(value, SchedulerMixin)


def weight_files(folder: str | Path, variant: str | None = None) -> list[Path]:
    """The safetensors files of a model that diffusers reads: those of a variant, or those of none where it has none."""
    files = sorted(Path(folder).glob("*.safetensors"))
    of_variant = [path for path in files if path.name.split(".")[1].partition("-")[0] == variant]
    return of_variant or [path for path in files if path.name.count(".") == 1]


def require_whole(component: str, model: torch.nn.Module, variant: str | None = None) -> None:
    """Refuse a model some weights of which are not in its files, which diffusers leaves as they were made.

    Args:
        component: Name of the model in messages.
        model: As `from_pretrained` of diffusers gave it.
        variant: That was asked for.

    Raises:
        ValueError: naming the first weight that is missing, or is no weight of the model.
    """
    stored = set()
    for path in weight_files(model.config["_name_or_path"], variant):
        with safe_open(path, "pt") as file:
            stored |= set(file.keys())
    for names, problem in ((model.state_dict().keys() - stored, "lacks"), (stored - model.state_dict().keys(), "has")):
        if names:
            raise ValueError(f"the file of {component} {problem} {min(names)!r}; legal are all weights and no others.")


def require_finite(component: str, model: torch.nn.Module) -> None:
    """Refuse weights that are NaN or infinite.

    Raises:
        ValueError: naming the first such weight.
    """
    for name, weight in model.state_dict().items():
        if not torch.isfinite(weight).all():
            raise ValueError(f"weight {name!r} of {component} holds values that are NaN or infinite.")
