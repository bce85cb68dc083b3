"""Simulate a pair of scans, train both phases at toy size, and standardize the simulated scan with the result.

    python examples/04_simulate_and_train_tiny.py [OUT]

Runs offline on the CPU in about a minute, most of it for the simulation. Real training uses the same calls with the
default sizes and takes hours, see training/train_all.sh.
"""

import sys
from pathlib import Path

import numpy as np

from diffusionct_pipeline import DiffusionCTPipeline
from diffusionct_pipeline.dicom import read_slice
from diffusionct_pipeline.simulation import SeriesOptions, simulate
from diffusionct_pipeline.simulation.splits import EXAMPLES
from diffusionct_pipeline.train import AutoencoderOptions, AutoencoderPhase, LatentOptions, LatentPhase, train
from diffusionct_pipeline.train.data.scans import simulate_groups

out = Path(sys.argv[1] if len(sys.argv) > 1 else "tiny")

# 1. One slice of a phantom that is not trained on, with a soft and with a sharp kernel: two CT series.
series = SeriesOptions(kernels=("Br40", "Bl64"), phantoms=1, slices=1, seed=EXAMPLES[0], size=128, spacing_mm=0.8)
phantom = simulate(out / "simulated", series)[0]

# 2. A group of two scans to train on, with four slices under five kernels each; each is a reference for the other.
simulate_groups(out / "scans", groups=1, size=128)

# 3. Both phases.
tiny = {
    "scans": str(out / "scans"), "batch_size": 8, "validation_steps": 0, "checkpoint_steps": 0, "warmup_steps": 5,
    "ema_decay": 0.9, "cpu": True, "learning_rate": 2e-3,
}  # fmt: skip
train(AutoencoderOptions(output=str(out / "phase1"), max_steps=40, **tiny), AutoencoderPhase)
phase2 = {"autoencoder": str(out / "phase1" / "autoencoder"), "max_steps": 40, **tiny}
sizes = {"block_out_channels": [32, 32], "standard_tokens": 32}
train(LatentOptions(output=str(out / "phase2"), **sizes, **phase2), LatentPhase)

# 4. The trained pipeline: encode, denoise, decode.
pipe = DiffusionCTPipeline.from_pretrained(out / "phase2")
soft, sharp = (next((phantom / kernel).glob("*.dcm")) for kernel in ("Br40", "Bl64"))
standardized = pipe(soft, output_type="np").images[0]
images = {"Br40": read_slice(soft).hu, "standardized": standardized, "Bl64": read_slice(sharp).hu}
for name, hu in images.items():
    print(f"{name:13s} mean {hu.mean():7.1f} HU   noise (difference of neighbours) {np.diff(hu).std():6.1f} HU")
