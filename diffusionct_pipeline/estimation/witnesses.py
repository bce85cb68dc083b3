"""Define further witnesses of a kernel besides skin and noise: log T at some frequencies, with its uncertainty."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..physics.kernels import find_kernel
from .law import log_mtf

HEADER_LP_CM = (2.0, 3.0, 4.0, 5.0, 6.0)
# Of the scale of frequency, and of log T beside it: real series have an MTF50 7 to 27 % below that of the table.
HEADER_SCALE_ERROR, HEADER_SHAPE_ERROR = 0.18, 0.08
HEADER_FREEDOM = 3.0  # heavy tails: a header may name a kernel that a later filter changed
LOWEST_LOG_MTF = -4.0  # a table's curve is meaningless below


@dataclass(frozen=True)
class LogMTFWitness:
    """Hold what one witness states on the MTF.

    Attributes:
        name: Name of the witness, one word.
        frequency: (N,) lp/cm.
        log_mtf: (N,) natural logarithm of the MTF.
        covariance: (N, N) covariance of `log_mtf`, positive definite.
        freedom: Degrees of freedom of its Student's t: few if it may be entirely wrong.
    """

    name: str
    frequency: tuple[float, ...]
    log_mtf: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]
    freedom: float = 5.0


def header_witness(kernel_name: str) -> LogMTFWitness | None:
    """Return the witness of a kernel's name in the header; None for unknown names.

    Args:
        kernel_name: ConvolutionKernel (0018,1210), as in "Br40", "B31f", "STANDARD".
    """
    kernel = find_kernel(kernel_name)
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
