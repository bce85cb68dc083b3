"""Check what networks and schedulers return before it becomes an image: no NaN, and no values that no scan has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

if TYPE_CHECKING:
    from ..image_processor import HUSlice

# Of the diffused variable, in standard deviations of training. Schedulers that converge stay below 4 in most slices and reach 21
# at positions unlike any in training; those that diverge give thousands.
MOST_DEVIATIONS = 200.0
# Change of all but a thousandth of the pixels: ten times the noise of a photon-starved scan. Edges of metal may change by more.
MOST_CHANGE_HU, COUNTED = 5000.0, 0.999


class Scheduler(Protocol):
    """Declare what the pipeline uses of diffusers' schedulers, whose common base class declares none of it."""

    config: Any
    timesteps: torch.Tensor
    init_noise_sigma: float | torch.Tensor

    def set_timesteps(self, num_inference_steps: int, device: torch.device | None = None) -> None:
        """Set the timesteps of a sampling."""

    def scale_model_input(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """Return the model's input for a sample at a timestep."""

    def step(self, model_output: torch.Tensor, timestep: torch.Tensor, sample: torch.Tensor, **options: Any) -> Any:
        """Take a step; the result has the next sample as `prev_sample`."""


@contextmanager
def scheduler_named(scheduler: Scheduler, steps: int) -> Iterator[None]:
    """Turn any error of an unsuitable scheduler into a ValueError that names it.

    Raises:
        ValueError: naming the scheduler and its steps.
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # schedulers for other models lack methods, need other arguments, or assert
        raise ValueError(f"{described(scheduler, steps)} cannot be used: {type(error).__name__}: {error}") from error


def require_denoises(scheduler: Scheduler) -> None:
    """Refuse a scheduler that goes from an image to noise: its timesteps rise.

    Raises:
        ValueError: naming its first and last timestep.
    """
    first, last = float(scheduler.timesteps[0]), float(scheduler.timesteps[-1])
    if first < last:
        raise ValueError(f"its timesteps must fall, they rise from {first:g} to {last:g}: it adds noise.")


def require_converged(sampled: torch.Tensor, scheduler: Scheduler, steps: int, is_residual: bool) -> None:
    """Refuse samples of a scheduler that diverged.

    Args:
        sampled: The samples, of any shape, normalized.
        scheduler, steps: The scheduler and its number of steps.
        is_residual: Whether the samples are residuals, which `MOST_DEVIATIONS` limits; the paper's latents may have any spikes.

    Raises:
        ValueError: naming the scheduler and its steps.
    """
    largest = float(sampled.abs().max())  # NaN if any value is
    if not largest <= (MOST_DEVIATIONS if is_residual else torch.finfo(sampled.dtype).max):
        found = "values that are not finite" if not np.isfinite(largest) else f"{largest:.3g} standard deviations"
        raise ValueError(
            f"{described(scheduler, steps)} diverged: it sampled {found}. Use more steps, or the scheduler that the "
            "checkpoint was trained with."
        )


def require_plausible(results: Sequence[np.ndarray], slices: Sequence[HUSlice], maker: str) -> None:
    """Refuse standardized slices that cannot be images of their scan.

    Args:
        results: HU (H, W) each.
        slices: The slices that they were made from.
        maker: Name of what made the results, at the start of the message.

    Raises:
        ValueError: naming the maker and what was found.
    """
    for made, item in zip(results, slices):
        if not np.isfinite(made).all():
            raise ValueError(f"{maker} returned values that are not finite. No image was made.")
        change = float(np.quantile(np.abs(made - item.hu), COUNTED))
        if change > MOST_CHANGE_HU:
            raise ValueError(
                f"{maker} changed pixels by {change:.3g} HU; changes must be at most {MOST_CHANGE_HU:g} HU. No image was made."
            )


def described(scheduler: Scheduler, steps: int) -> str:
    """Name a scheduler in a message."""
    return f"The scheduler {type(scheduler).__name__} with {steps} step{'s' * (steps != 1)}"
