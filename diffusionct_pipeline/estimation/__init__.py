"""Estimate the reconstruction kernel and the noise of a CT series from its own slices."""

from .estimating import estimate_kernel, estimate_kernel_of_series, estimate_kernel_of_slices
from .kernel_estimate import KernelEstimate
from .noise import measure_noise
from .skin import EdgeSlice
from .witnesses import LogMTFWitness, header_witness

__all__ = [
    "EdgeSlice",
    "KernelEstimate",
    "LogMTFWitness",
    "estimate_kernel",
    "estimate_kernel_of_series",
    "estimate_kernel_of_slices",
    "header_witness",
    "measure_noise",
]
