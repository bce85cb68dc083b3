"""Draw pictures that would show a pattern, a seam or flicker; look at them before trusting figures.

    python benchmarks/pictures.py docs --real FC13_DIR --reference FC51_SLICE

docs/difference.png: input, output, output - input and, magnified, the mean of its 32-pixel tiles beside chance, of a slice of
a simulated scan and of a real one. docs/coronal.png: coronal reformat through a tumour of a simulated scan of contiguous
slices, input, output and target.
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from tqdm import tqdm

from diffusionct_pipeline import DiffusionCTPipeline
from diffusionct_pipeline.dicom import read_slice
from diffusionct_pipeline.metrics.lattice import PERIOD, folded_ratio
from diffusionct_pipeline.simulation import ChestPhantom, Scanner, ScanOptions, simulate_pair
from diffusionct_pipeline.simulation.splits import DEMO
from diffusionct_pipeline.simulation.tumour_pairs import SOURCE, TARGET

SEED = DEMO[1]
SLICES, THICKNESS_MM, MAS = 48, 1.0, 100.0
LUNG_WINDOW = {"cmap": "gray", "vmin": -1350, "vmax": 150}
DIFFERENCE_HU = 300


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--real", type=Path, help="a slice that may be published")
    parser.add_argument("--reference", type=Path, help="slice of the target texture")
    parser.add_argument("--model", help="checkpoint; the embedded one by default")
    arguments = parser.parse_args()
    pipe = DiffusionCTPipeline.from_pretrained(arguments.model)
    pipe.set_progress_bar_config(disable=True)

    # 1. Contiguous slices through a tumour.
    phantom, scanner = ChestPhantom(SEED), Scanner()
    x, y, z = phantom.tumours[0].centre_mm
    heights = z + (np.arange(SLICES) - SLICES // 2) * THICKNESS_MM
    options = ScanOptions(kernels=(SOURCE, TARGET), thickness_mm=THICKNESS_MM, mas=MAS)
    pairs = [simulate_pair(phantom, h, options, seed=i, scanner=scanner) for i, h in enumerate(tqdm(heights))]
    source, target = (np.stack([pair.hu[kernel] for pair in pairs]) for kernel in (SOURCE, TARGET))
    output = np.stack(
        pipe(source, options.spacing_mm, slice_positions=heights, slice_thickness=THICKNESS_MM).images
    ).clip(target.min())
    row = options.size // 2 + round(y / options.spacing_mm)
    figure, axes = plt.subplots(3, 1, figsize=(10, 6.6), layout="constrained")
    for axis, volume, title in zip(axes, (source, output, target), (SOURCE, "standardized", TARGET)):
        aspect = THICKNESS_MM / options.spacing_mm
        axis.imshow(volume[::-1, row], aspect=aspect, interpolation="nearest", **LUNG_WINDOW)
        axis.set_title(f"{title}, coronal", fontsize=9)
        axis.axis("off")
    figure.savefig(arguments.output / "coronal.png", dpi=110)

    # 2. Differences.
    middle = SLICES // 2
    rows = [("simulated", source[middle], output[middle])]
    if arguments.real:
        real = read_slice(arguments.real)
        standardized = pipe(arguments.real, reference=arguments.reference, output_type="np").images[0]
        rows.append(("real phantom", real.hu, standardized.clip(real.hu.min())))
    figure, axes = plt.subplots(len(rows), 5, figsize=(15, 3.1 * len(rows)), layout="constrained", squeeze=False)
    for axis, (name, before, after) in zip(axes, rows):
        difference = after - before
        folded = {"tiles": fold(difference), "tiles, rolled": fold(difference, np.random.default_rng(0))}
        limit = max(np.abs(tile).max() for tile in folded.values())
        axis[0].imshow(before, **LUNG_WINDOW)
        axis[1].imshow(after, **LUNG_WINDOW)
        axis[2].imshow(difference, cmap="gray", vmin=-DIFFERENCE_HU, vmax=DIFFERENCE_HU)
        for place, (title, tile) in zip(axis[3:], folded.items()):
            place.imshow(tile, cmap="gray", vmin=-limit, vmax=limit)
            place.set_title(f"mean of {title}, +-{limit:.0f} HU", fontsize=9)
        titles = (f"{name}: input", "output", f"difference +-{DIFFERENCE_HU} HU, folded {folded_ratio(difference):.2f}")
        for place, title in zip(axis, titles):
            place.set_title(title, fontsize=9)
        for place in axis:
            place.axis("off")
    figure.savefig(arguments.output / "difference.png", dpi=110)


def fold(image, rolled_by=None):
    """Average the tiles of an image (H, W), each rolled at random if a generator is given."""
    side = PERIOD
    height, width = (size // side for size in image.shape)
    tiles = (
        image[: height * side, : width * side].reshape(height, side, width, side).swapaxes(1, 2).reshape(-1, side, side)
    )
    if rolled_by is not None:
        tiles = [np.roll(tile, rolled_by.integers(side, size=2), (0, 1)) for tile in tiles]
    return np.mean(tiles, axis=0)


if __name__ == "__main__":
    main()
