"""Standardize a soft slice to the texture of a reference scan: another patient, another pixel size, a sharp kernel.

    python examples/02_standardize_to_a_reference.py

Both scans are simulated, so that the result can be compared with the true sharp image of the first one. Runs offline in
under a minute.
"""

import numpy as np
from scipy.ndimage import laplace

from diffusionct_pipeline import DiffusionCTPipeline
from diffusionct_pipeline.simulation import ChestPhantom, ScanOptions, simulate_pair

# 1. Patient 1 was reconstructed with a soft kernel (Br40); its sharp image is for comparison only.
options = ScanOptions(kernels=("Br40", "Bl64"), size=256, spacing_mm=0.7)
patient = simulate_pair(ChestPhantom(seed=1), z_mm=0.0, options=options, seed=1)
# 2. Patient 2, whose texture is the target, was reconstructed with a sharp kernel.
options = ScanOptions(kernels=("Bl64",), size=256, spacing_mm=0.8)
other = simulate_pair(ChestPhantom(seed=2), z_mm=20.0, options=options, seed=2)

# 3. Arrays need their pixel spacing, because kernels are defined per millimetre.
pipe = DiffusionCTPipeline.from_pretrained()
standardized = pipe(
    patient.hu["Br40"],
    pixel_spacing=patient.spacing_mm,
    reference=other.hu["Bl64"],
    reference_pixel_spacing=other.spacing_mm,
).images[0]

# 4. The amount of fine texture, and the mean HU, which should not change.
images = {"input (Br40)": patient.hu["Br40"], "output": standardized, "target (Bl64)": patient.hu["Bl64"]}
for name, hu in images.items():
    print(f"{name:14s} mean {np.mean(hu):8.1f} HU   standard deviation of the Laplacian {np.std(laplace(hu)):7.1f} HU")
