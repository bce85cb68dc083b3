"""Estimates of kernels and scans made to measure."""

import numpy as np
import torch

from diffusionct_pipeline.estimation import KernelEstimate
from diffusionct_pipeline.estimation.scan_estimate import ScanEstimate
from diffusionct_pipeline.physics.kernels import find_kernel


def kernel_estimate(name="Br40", deviation=0.01, **changes):
    """That of a kernel of the table, known surely; pixels so small that nothing aliases."""
    kernel = find_kernel(name)
    law = {"mtf50": kernel.mtf50, "mtf10": kernel.mtf10, "boost": kernel.boost, "boost_peak": kernel.boost_peak}
    values = {
        "covariance": tuple(map(tuple, np.diag([deviation**2] * 4).tolist())),
        "blur_width_mm": 0.82, "blur_log_bound": -1.6, "whitening": 0.044, "whitening_deviation": 0.01,
        "noise_hu": {"soft tissue": 20.0}, "noise_log_density": 5.0, "witnesses": ("skin", "noise"), "slices": 4,
        "skin_mm": 300.0, "spacing_mm": 0.4, "thickness_mm": 1.0,
    }  # fmt: skip
    return KernelEstimate(**law | values | changes)


def scan_estimate(kernel=None, tokens=5, channels=8, seed=0):
    """Some positions, and a kernel."""
    drawn = torch.randn(tokens, channels, generator=torch.Generator().manual_seed(seed))
    return ScanEstimate(kernel, drawn.half())
