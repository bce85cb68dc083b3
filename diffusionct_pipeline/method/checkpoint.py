"""Check that a checkpoint is complete, finite and made of this package's own classes; errors name the file or weight."""

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
from ..models.network import Network
from ..utils.registration import PACKAGE

MOST_STEPS = 100_000  # of a scheduler; training uses 1,000
MOST_BYTES = 10_000_000  # of its configuration file
NETWORKS = ("autoencoder", "denoiser")  # the components that have weights


@contextmanager
def checkpoint_named(name: str) -> Iterator[None]:
    """Turn any error that diffusers raises for a damaged checkpoint into a ValueError that names the checkpoint.

    Raises:
        ValueError: naming the checkpoint.
        OSError, MemoryError: unchanged; an OSError names its file.
    """
    try:
        yield
    except (OSError, MemoryError):
        raise
    except Exception as error:  # its type depends on the damage
        reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise ValueError(f'checkpoint "{name}": {reason}') from error


def require_own_components(index: Mapping[str, Any]) -> None:
    """Refuse a model_index.json that names anything other than this package's networks and a scheduler of diffusers.

    Raises:
        ValueError: naming the component and what is allowed.
    """
    for component in NETWORKS:
        if index.get(component) not in [[PACKAGE, name] for name in models.__all__]:
            allowed = f"one of {', '.join(models.__all__)} of {PACKAGE}"
            raise ValueError(f"`{component}` of model_index.json must be {allowed}, got {index.get(component)!r}.")
    match index.get("scheduler"):
        case ["diffusers", str(name)] if is_scheduler(getattr(diffusers, name, None)):
            return
        case found:
            raise ValueError(f"`scheduler` of model_index.json must be a scheduler of diffusers, got {found!r}.")


def require_modest_scheduler(folder: str | Path) -> None:
    """Refuse a scheduler that would take an unreasonable amount of memory: schedulers build tables of all their steps.

    Args:
        folder: Local folder of the checkpoint; one without a scheduler passes.

    Raises:
        ValueError: naming the setting, its value and what is allowed.
    """
    path = Path(folder, "scheduler", SCHEDULER_CONFIG_NAME)
    if not path.is_file():
        return
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path.name} must have at most {MOST_BYTES} bytes, got {path.stat().st_size}.")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):  # damaged: diffusers reports it and names the file
        return
    for key, value in config.items() if isinstance(config, dict) else ():
        size = len(value) if isinstance(value, (list, str)) else value
        # Every setting is checked, whatever its name: `solver_order` takes memory, too.
        if isinstance(size, (int, float)) and size > MOST_STEPS:
            raise ValueError(f"`{key}` of its scheduler must be at most {MOST_STEPS}, got {size}.")


def is_scheduler(value: Any) -> bool:
    """Return whether a value is a class of schedulers."""
    return isinstance(value, type) and issubclass(value, SchedulerMixin)


def weight_files(folder: str | Path, variant: str | None = None) -> list[Path]:
    """Return the safetensors files that diffusers reads for a model: those of the variant, else those of no variant."""
    files = sorted(Path(folder).glob("*.safetensors"))
    of_variant = [path for path in files if path.name.split(".")[1].partition("-")[0] == variant]
    return of_variant or [path for path in files if path.name.count(".") == 1]


def require_whole(component: str, model: Network, variant: str | None = None) -> None:
    """Refuse a model whose files lack weights, which diffusers would leave at their initial values.

    Args:
        component: Name of the model in messages.
        model: As `from_pretrained` of diffusers returned it.
        variant: The variant that was requested.

    Raises:
        ValueError: naming the first weight that is missing or does not belong to the model.
    """
    stored: set[str] = set()
    for path in weight_files(model.config["_name_or_path"], variant):
        with safe_open(path, "pt") as file:
            stored |= set(file.keys())
    for names, problem in ((model.state_dict().keys() - stored, "lacks"), (stored - model.state_dict().keys(), "has")):
        if names:
            raise ValueError(
                f"the file of {component} must hold all its weights and no others; it {problem} {min(names)!r}."
            )


def require_finite(component: str, model: torch.nn.Module) -> None:
    """Refuse weights that are NaN or infinite.

    Raises:
        ValueError: naming the first such weight.
    """
    for name, weight in model.state_dict().items():
        if not torch.isfinite(weight).all():
            raise ValueError(f"weight {name!r} of {component} must be finite, got values that are NaN or infinite.")
