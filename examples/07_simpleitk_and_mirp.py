"""Standardize a SimpleITK image, and measure features of another library, MIRP, where it is installed.

    python examples/07_simpleitk_and_mirp.py

The scan is simulated under a soft and a sharp kernel; in practice scan and mask come from `sitk.ReadImage`. MIRP (EUPL-1.2)
is not part of the extras: `pip install mirp`. Runs offline in under a minute.
"""

import importlib.util
import logging

import numpy as np
import SimpleITK as sitk

from diffusionct_pipeline import DiffusionCTPipeline
from diffusionct_pipeline.simulation import ChestPhantom, ScanOptions, simulate_pair


def as_image(slices):
    """Convert HU (slices, rows, columns) to an image with pixels of 0.7 mm and slices 2 mm apart."""
    image = sitk.GetImageFromArray(np.rint(slices).astype(np.int16))
    image.SetSpacing((0.7, 0.7, 2.0))
    return image


# 1. One scan under two kernels, and a region in its middle.
phantom, options = ChestPhantom(seed=1), ScanOptions(kernels=("Br40", "Bl64"), size=256, spacing_mm=0.7)
pairs = [simulate_pair(phantom, z_mm=z, options=options, seed=1).hu for z in (0.0, 2.0)]
images = {kernel: as_image(np.stack([pair[kernel] for pair in pairs])) for kernel in options.kernels}
mask = np.zeros((2, 256, 256), np.uint8)
mask[:, 40:80, 108:148] = 1

# 2. The result is an image with the same geometry.
pipe = DiffusionCTPipeline.from_pretrained()
pipe.set_progress_bar_config(disable=True)
images = {"input": images["Br40"], "standardized": pipe(images["Br40"]).images[0], "target": images["Bl64"]}
for name, image in images.items():
    inside = sitk.GetArrayFromImage(image)[mask > 0]
    print(
        f"{name:12s} spacing {image.GetSpacing()} mm   mean {inside.mean():6.1f} HU   standard deviation {inside.std():5.1f} HU"
    )

# 3. Features of the region by MIRP; any other library that takes images or arrays works as well.
if importlib.util.find_spec("mirp"):
    from mirp import extract_features

    logging.disable(logging.INFO)
    for name, image in images.items():
        table = extract_features(
            image=sitk.GetArrayFromImage(image).astype(float),
            mask=mask.astype(int),
            image_modality="ct",
            base_discretisation_method="fixed_bin_size",
            base_discretisation_bin_width=25.0,
            base_feature_families=["statistics", "cm"],
        )[0]
        contrast = next(column for column in table if column.startswith("cm_contrast"))
        print(
            f"{name:12s} MIRP: variance {float(table['stat_var'].iloc[0]):8.1f}   contrast {float(table[contrast].iloc[0]):6.2f}"
        )
else:
    print("MIRP is skipped, as it is not installed: pip install mirp")
