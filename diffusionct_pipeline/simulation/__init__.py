"""Simulated CT: kernels, a chest phantom, a scanner, and pairs of images that differ only in the kernel."""

from .kernels import KERNELS, Kernel, mtf
from .phantom import ChestPhantom

__all__ = ["KERNELS", "ChestPhantom", "Kernel", "mtf"]
