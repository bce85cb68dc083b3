"""Simulate a pair of scans, train both phases at toy size, and standardize the simulated scan with the result.

    python examples/04_simulate_and_train_tiny.py [OUT]

Offline, on the CPU, under a minute. Real training takes the same calls with the default sizes and hours, see
training/train_all.sh.
"""

import sys
from pathlib import Path

import numpy as np

from diffusionct_pipeline import DiffusionCTPipeline
from diffusionct_pipeline.dicom import read_slice
from diffusionct_pipeline.simulation import SeriesOptions, simulate
from diffusionct_pipeline.train import AutoencoderOptions, LatentOptions, train_autoencoder, train_latent
from diffusionct_pipeline.training_data.splits import EXAMPLES

out = Path(sys.argv[1] if len(sys.argv) > 1 else "tiny")

# 1. One slice of a phantom that no training sees, with a soft and with a sharp kernel: two CT series.
series = SeriesOptions(kernels=("Br40", "Bl64"), phantoms=1, slices=1, seed=EXAMPLES[0], size=128, spacing_mm=0.8)
phantom = simulate(out / "simulated", series)[0]

# 2. Both phases; pairs of kernels are drawn on the fly from two noise-free phantom slices.
tiny = {
    "batch_size": 2, "crop": 64, "phantom_slices": 2, "validation_steps": 0, "checkpoint_steps": 0, "warmup_steps": 5,
    "ema_decay": 0.9, "cpu": True, "learning_rate": 2e-3,
}  # fmt: skip
train_autoencoder(
    AutoencoderOptions(
        output=str(out / "phase1"), max_steps=60, block_out_channels=[16, 16, 16, 32, 32], decoder_channels=[16] * 5, **tiny
    )
)
train_latent(
    LatentOptions(
        output=str(out / "phase2"), autoencoder=str(out / "phase1" / "autoencoder"), max_steps=100,
        block_out_channels=[32, 32], **tiny,
    )
)  # fmt: skip

# 3. The trained pipeline: encode, denoise, decode.
pipe = DiffusionCTPipeline.from_pretrained(out / "phase2")
soft, sharp = (next((phantom / kernel).glob("*.dcm")) for kernel in ("Br40", "Bl64"))
images = {"Br40": read_slice(soft).hu, "standardized": pipe(soft, output_type="np").images[0], "Bl64": read_slice(sharp).hu}
for name, hu in images.items():
    print(f"{name:13s} mean {hu.mean():7.1f} HU   noise (difference of neighbours) {np.diff(hu).std():6.1f} HU")
