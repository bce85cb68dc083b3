"""What networks and schedulers give is checked before it becomes an image: never NaN, nor values that no scan has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from diffusers.schedulers import SchedulerMixin

if TYPE_CHECKING:
    from ..image_processor import HUSlice

# Of what is diffused, in standard deviations of its training. Schedulers that converge stay below 4 in most slices, and reach 21
# in places unlike any of the training; those that diverge give thousands.
MOST_DEVIATIONS = 200.0
# Change of all pixels but a thousandth: ten times the noise of a starved scan. A soft kernel's edge of metal may change by more.
MOST_CHANGE_HU, COUNTED = 5000.0, 0.999


@contextmanager
def scheduler_named(scheduler: SchedulerMixin, steps: int) -> Iterator[None]:
    """Whatever a scheduler raises that does not fit becomes a ValueError that names it.

    Raises:
        ValueError: naming the scheduler and its steps.
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # schedulers for other models lack methods, ask for other arguments, or assert
        raise ValueError(f"{described(scheduler, steps)} cannot be used: {type(error).__name__}: {error}") from error


def require_denoises(scheduler: SchedulerMixin) -> None:
    """Refuse a scheduler that goes from an image to noise, whose timesteps rise.

    Raises:
        ValueError: naming its first and last timestep.
    """
    first, last = (float(scheduler.timesteps[i]) for i in (0, -1))
    if first < last:
        raise ValueError(f"its timesteps rise from {first:g} to {last:g}: it adds noise.")


def require_converged(sampled: torch.Tensor, scheduler: SchedulerMixin, steps: int, is_residual: bool) -> None:
    """Refuse what a scheduler that diverged has sampled.

    Args:
        sampled: Of any shape, normalized.
        scheduler, steps: What sampled it.
        is_residual: Whether deviations of training tell how large it can be; a latent of the paper's may have any spikes.

    Raises:
        ValueError: naming the scheduler and its steps.
    """
    largest = float(sampled.abs().max())  # NaN if any is
    if not largest <= (MOST_DEVIATIONS if is_residual else torch.finfo(sampled.dtype).max):
        found = "values that are no numbers" if not np.isfinite(largest) else f"{largest:.3g} standard deviations"
        raise ValueError(
            f"{described(scheduler, steps)} diverged: it sampled {found}; take more steps, or the scheduler that the "
            "checkpoint was trained with."
        )


def require_plausible(results: Sequence[np.ndarray], slices: Sequence[HUSlice], maker: str) -> None:
    """Refuse standardized slices that cannot be images of their scan.

    Args:
        results: HU (H, W) each.
        slices: What they were made of.
        maker: Of the results, at the start of the message.

    Raises:
        ValueError: naming the maker and what was found.
    """
    for made, item in zip(results, slices):
        if not np.isfinite(made).all():
            raise ValueError(f"{maker} gave values that are no numbers. Nothing was made of it.")
        change = float(np.quantile(np.abs(made - item.hu), COUNTED))
        if change > MOST_CHANGE_HU:
            raise ValueError(
                f"{maker} changed pixels by {change:.3g} HU; changes must be at most {MOST_CHANGE_HU:g} HU. "
                "Nothing was made of it."
            )


def described(scheduler: SchedulerMixin, steps: int) -> str:
    """Name a scheduler for a message."""
    return f"The scheduler {type(scheduler).__name__} with {steps} steps"
