"""Standardize CT volumes in a training pipeline, with MONAI or TorchIO where they are installed, or with neither.

    python examples/06_monai_and_torchio.py

The scan is simulated; in practice the first transform of MONAI is `LoadImaged("ct")`, and TorchIO reads
`ScalarImage("ct.nii.gz")`. Runs offline in under a minute.
"""

import importlib.util

import numpy as np
import torch

from diffusionct_pipeline import DiffusionCTPipeline, StandardizeCT, StandardizeCTd
from diffusionct_pipeline.simulation import ChestPhantom, ScanOptions, simulate_pair

# 1. A scan of two slices under a soft kernel in the layout of these libraries: (1, x, y, z), x to the right, y to the front.
phantom, options = ChestPhantom(seed=1), ScanOptions(kernels=("Br40",), size=256, spacing_mm=0.7)
slices = [simulate_pair(phantom, z_mm=z, options=options, seed=1).hu["Br40"] for z in (0.0, 2.0)]
volume = torch.from_numpy(np.stack(slices)[None, :, ::-1, ::-1].transpose(0, 3, 2, 1).copy())
affine = np.diag([0.7, 0.7, 2.0, 1.0])

# 2. Arrays and tensors with an affine need neither library.
pipe = DiffusionCTPipeline.from_pretrained()
pipe.set_progress_bar_config(disable=True)
results = {"input": volume, "tensor": StandardizeCT(pipe)(volume, affine)}

# 3. A dictionary in MONAI's Compose, before intensities are scaled and volumes resampled or cropped.
if importlib.util.find_spec("monai"):
    from monai.data import MetaTensor
    from monai.transforms import Compose

    steps = Compose([StandardizeCTd("ct", pipe)])
    results["MONAI"] = steps({"ct": MetaTensor(volume, affine=torch.from_numpy(affine))})["ct"]
else:
    print('MONAI is skipped, as it is not installed: pip install ".[transforms]" in the folder of the source')

# 4. A Subject in TorchIO's Compose; label maps are not changed.
if importlib.util.find_spec("torchio"):
    import torchio

    subject = torchio.Subject(ct=torchio.ScalarImage(tensor=volume, affine=affine))
    results["TorchIO"] = torchio.Compose([StandardizeCT(pipe)])(subject)["ct"].data
else:
    print('TorchIO is skipped, as it is not installed: pip install ".[transforms]" in the folder of the source')

for name, image in results.items():
    image = np.asarray(image)
    noise = np.diff(image[0], axis=0).std()
    print(f"{name:8s} mean {image.mean():7.1f} HU   noise (difference of neighbours) {noise:6.1f} HU")
