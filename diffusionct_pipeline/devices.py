"""Where to compute."""

from __future__ import annotations

import torch

from .usage import UsageError


def usable_device(device: str | None) -> torch.device:
    """A device by name; None is the first GPU, else the CPU.

    Raises:
        UsageError: naming the device and the reason.
    """
    try:
        place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        raise UsageError(f'device "{device}" cannot be used: {first_line(error)}') from error
    return place


def first_line(error: Exception) -> str:
    """First line of an error's message, or its type."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
