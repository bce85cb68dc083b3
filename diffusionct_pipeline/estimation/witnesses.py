"""Further witnesses of a kernel, beside skin and noise: whatever knows log T at some frequencies, and how surely."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from ..simulation.kernels import KERNELS, Kernel
from .law import log_mtf

HEADER_LP_CM = (2.0, 3.0, 4.0, 5.0, 6.0)
# Of the scale of frequency, and of log T beside it: real series have an MTF50 7 to 27 % below that of the table.
HEADER_SCALE_ERROR, HEADER_SHAPE_ERROR = 0.18, 0.08
HEADER_FREEDOM = 3.0  # heavy tails: a header may name a kernel that a later filter changed
LOWEST_LOG_MTF = -4.0  # below, a table's curve means nothing
GE_PREFIX = "GE_"
SIEMENS = re.compile(r"^(?P<family>B|Br|Bl|Bf|Bv|Hr|Hf|Hc|Qr)(?P<index>\d\d)[a-z]?(?:[\\_ ].*)?$")
CLASSIC = "B"  # B30f: the family of older scanners, which counts differently from the others


@dataclass(frozen=True)
class LogMTFWitness:
    """What one witness says of the MTF.

    Attributes:
        name: Of the witness: one word that reads well after "told by".
        frequency: (N,) lp/cm.
        log_mtf: (N,) natural logarithm of the MTF.
        covariance: (N, N) of that, positive definite.
        freedom: Degrees of freedom of its Student's t: few where it may be entirely wrong.
    """

    name: str
    frequency: tuple[float, ...]
    log_mtf: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]
    freedom: float = 5.0


def header_witness(kernel_name: str) -> LogMTFWitness | None:
    """Return what the name of a kernel in the header says; None for names that are not known.

    Args:
        kernel_name: ConvolutionKernel (0018,1210), as in "Br40", "B31f", "STANDARD".
    """
    kernel = kernel_named(kernel_name)
    if kernel is None:
        return None
    frequency = np.array(HEADER_LP_CM)

    def curve(scale: float) -> np.ndarray:
        found = log_mtf(frequency / scale, kernel.mtf50, kernel.mtf10, kernel.boost, kernel.boost_peak)
        return np.maximum(found, LOWEST_LOG_MTF)

    by_scale = (curve(1.01) - curve(1 / 1.01)) / (2 * np.log(1.01))
    covariance = HEADER_SCALE_ERROR**2 * np.outer(by_scale, by_scale) + HEADER_SHAPE_ERROR**2 * np.eye(len(frequency))
    return LogMTFWitness(
        "header",
        HEADER_LP_CM,
        tuple(curve(1.0).tolist()),
        tuple(tuple(row) for row in covariance.tolist()),
        HEADER_FREEDOM,
    )


def kernel_named(name: str) -> Kernel | None:
    """Return the kernel of a header's name: from the table, or between the two of its family with neighbouring indices."""
    name = name.strip()
    for known in (name, GE_PREFIX + name.upper()):
        if known in KERNELS:
            return KERNELS[known]
    match = SIEMENS.match(name)
    if match is None:
        return None
    classic, index = match["family"] == CLASSIC, int(match["index"])
    family = {}
    for kernel in KERNELS.values():
        other = SIEMENS.match(kernel.name)
        if other is not None and (other["family"] == CLASSIC) == classic:
            family[int(other["index"])] = kernel
    if not family or not min(family) - 10 <= index <= max(family) + 10:
        return None
    indices = np.array(sorted(family))
    low, high = (indices[i] for i in np.searchsorted(indices, index).clip(1, len(indices) - 1) - np.array([1, 0]))
    share = (index - low) / (high - low)

    def between(attribute: str) -> float:
        first, second = (float(getattr(family[at], attribute)) for at in (low, high))
        if attribute == "boost":
            return max(first + share * (second - first), 0.0)
        return float(first * (second / first) ** share)

    return Kernel(name, *(between(attribute) for attribute in ("mtf50", "mtf10", "boost", "boost_peak")))
