"""A round limb under any kernel: skin, fat, muscle, and noise whose spectrum follows the law that estimation assumes."""

import numpy as np

from diffusionct_pipeline.estimation.law import log_blur_power_gain, log_mtf

FINE = 2  # the limb is drawn on pixels so much finer
SIZE, SPACING_MM = 224, 0.7
RADIUS_MM, SKIN_MM, FAT_MM = 62.0, 1.8, 20.0


def limb_slice(mtf50, ratio=1.6, boost=0.1, noise_hu=25.0, seed=0, *, width_mm=0.8, rough=0.0, body=True):
    """(SIZE, SIZE) HU of 0.7 mm as stored, from -1024 on.

    Args:
        mtf50: lp/cm. ratio: MTF10 / MTF50. boost: Its peak is at .55 MTF50.
        noise_hu: Standard deviation before what is cut off.
        seed: Of the noise.
        width_mm: Blur of detector and focal spot: it whitens the noise.
        rough: mm^2, blurs edges only.
        body: False leaves air.
    """
    side, fine_mm = SIZE * FINE, SPACING_MM / FINE
    axis = (np.arange(side) - side / 2 + 0.31) * fine_mm
    radius = np.hypot(axis[:, None], axis[None])
    hu = np.full((side, side), -1000.0)
    for depth, value in ((0.0, 25.0), (SKIN_MM, -100.0), (FAT_MM, 45.0)) if body else ():
        hu += (value - hu) * np.clip(0.5 + (RADIUS_MM - depth - radius) / fine_mm, 0, 1)
    frequency = np.hypot(np.fft.fftfreq(side, fine_mm)[:, None], np.fft.rfftfreq(side, fine_mm)[None])
    lp_cm = np.maximum(10 * frequency, 1e-3)
    transfer = np.exp(log_mtf(lp_cm, mtf50, mtf50 * ratio, boost, 0.55 * mtf50))
    gain = np.exp(log_blur_power_gain(lp_cm, width_mm, -1.6))
    white = np.fft.rfft2(np.random.default_rng(seed).standard_normal((side, side)))
    noise = np.fft.irfft2(white * transfer * np.sqrt(frequency * gain), s=hu.shape)
    edges = transfer * np.exp(-2 * rough * (np.pi * frequency) ** 2) / np.sinc(fine_mm * frequency)
    seen = np.fft.irfft2(np.fft.rfft2(hu) * edges, s=hu.shape) + noise * noise_hu / noise.std()
    return np.round(seen[::FINE, ::FINE]).clip(-1024, 3071).astype(np.float32)
