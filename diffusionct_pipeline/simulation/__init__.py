"""Simulate CT: kernels, a chest phantom, a scanner, and pairs of images that differ only in the kernel."""

from ..physics.kernels import KERNELS, Kernel, mtf
from .ct_series import write_series
from .degradation import smooth_like_iterative
from .pairs import ScanOptions, SimulatedPair, detectors_needed, rekernel_slice, simulate_pair
from .phantom import ChestPhantom
from .phantom_series import SeriesOptions, simulate
from .scanner import Scanner

__all__ = [
    "KERNELS",
    "ChestPhantom",
    "Kernel",
    "ScanOptions",
    "Scanner",
    "SeriesOptions",
    "SimulatedPair",
    "detectors_needed",
    "mtf",
    "rekernel_slice",
    "simulate",
    "simulate_pair",
    "smooth_like_iterative",
    "write_series",
]
