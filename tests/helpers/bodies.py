"""Slices of an elliptic body under a known kernel and noise: the truth that measures are held against."""

import numpy as np
import torch

from diffusionct_pipeline.simulation import KERNELS, mtf

FINE_MM = 0.35  # the body is drawn so finely, and every second pixel is kept
BODY_MM, SKIN_MM, FAT_MM = (78.0, 72.0), 1.8, 22.0
LUNG_MM = (26.0, 26.0)


def body_slice(kernel="Br40", noise_hu=20.0, seed=0, size=256, lowest_hu=-1024.0):
    """(hu, noise): (size, size) of 0.7 mm, HU as stored; the noise is that of filtered backprojection.

    Args:
        kernel: Name of the table.
        noise_hu: Standard deviation under any kernel.
        seed: Of the noise; two kernels with one seed share it.
        size: Pixels.
        lowest_hu: Lower values are cut off.
    """
    fine = 2 * size
    axis = (np.arange(fine) - fine / 2 + 0.31) * FINE_MM
    y, x = axis[:, None], axis[None, :]

    def inside(a, b, centre=0.0):
        radius = np.hypot(x - centre, y)
        level = np.hypot((x - centre) / a, y / b)
        slope = np.hypot((x - centre) / a**2, y / b**2) / np.maximum(level, 1e-6)
        distance = (level - 1) / np.maximum(slope, 1e-6)  # to first order
        return np.where(radius < 1, 1.0, np.clip(0.5 - distance / FINE_MM, 0, 1))

    hu = np.full((fine, fine), -1000.0)
    for depth, value in ((0, 25.0), (SKIN_MM, -100.0), (FAT_MM, 45.0)):
        share = inside(BODY_MM[0] - depth, BODY_MM[1] - depth)
        hu += (value - hu) * share
    hu += (-860.0 - hu) * inside(*LUNG_MM, 0.0)
    frequency = np.hypot(np.fft.fftfreq(fine, FINE_MM)[:, None], np.fft.rfftfreq(fine, FINE_MM)[None])
    transfer = mtf(torch.from_numpy(10 * frequency), KERNELS[kernel]).numpy()
    white = np.fft.rfft2(np.random.default_rng(seed).standard_normal((fine, fine)))
    noise = np.fft.irfft2(white * np.sqrt(frequency) * transfer, s=hu.shape)
    noise *= noise_hu / noise.std()
    drawn = np.sinc(FINE_MM * frequency)  # what the partly covered pixels of an edge blur
    blurred = np.fft.irfft2(np.fft.rfft2(hu) * transfer / drawn, s=hu.shape)
    seen = (blurred + noise)[::2, ::2]
    return np.round(seen).clip(lowest_hu, 3071).astype(np.float32), noise[::2, ::2].astype(np.float32)
