"""Choose the device to compute on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import scipy.linalg  # noqa: F401  only a BLAS that is loaded can be limited
import torch
from threadpoolctl import threadpool_limits

from .usage import UsageError


def usable_device(device: str | None) -> torch.device:
    """Return a device by name; None selects the first GPU, or the CPU if there is none.

    Raises:
        UsageError: naming the device and the reason why it cannot be used.
    """
    try:
        place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        raise UsageError(f'device "{device}" cannot be used: {first_line(error)}') from error
    return place


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on a single CPU thread while the block runs.

    PyTorch, and the BLAS of numpy and scipy, sum in a different order with a different number of threads, which by default is the
    number of visible cores: the last bits of a result would depend on the machine, or on what a batch system grants. Use several
    processes to use several cores.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or the name of its type if the message is empty."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
