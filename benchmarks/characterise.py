"""Compare kernel and noise that `diffusionct characterise` measures with the truth of the simulator.

    python benchmarks/characterise.py
    python benchmarks/characterise.py --scans scans.npz    # keeps the simulated scans in a file

A phantom of the test seeds, on a grid fine enough that its skin is sharp, is projected once; noise of three doses is drawn
twice, and all kernels are reconstructed from each sinogram. Truth of the resolution is the kernel's MTF50. Truth of the
noise is the standard deviation of the difference of the two scans over the square root of two: in the squares that were
measured, and in all squares of that tissue in the noise-free image.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from diffusionct_pipeline.estimation import EdgeSlice, estimate_kernel
from diffusionct_pipeline.estimation.noise import TISSUES, measure_noise
from diffusionct_pipeline.metrics.regions import tissue_squares
from diffusionct_pipeline.simulation import KERNELS, ChestPhantom, Scanner
from diffusionct_pipeline.simulation.scanner import LOWEST_STORED_HU, hu_to_mu, quantize
from diffusionct_pipeline.simulation.splits import TEST, take

KERNEL_NAMES = ("Br36", "Br40", "GE_STANDARD", "D45", "B70f", "Bl64")
DOSES_MAS = (30, 100, 300)
REPEATS = 2
SIZE, SPACING_MM, THICKNESS_MM = 512, 0.7, 1.0
PHANTOM_SIZE, PHANTOM_SPACING_MM = 2048, 0.175
TOLERANCE = 0.05


def simulate(seed, heights):
    """Simulate "z/mas/repeat/kernel" -> (slices, H, W) int16 HU; "clean" without noise, "neighbour" the slices above."""
    phantom = ChestPhantom(seed, size=PHANTOM_SIZE, spacing_mm=PHANTOM_SPACING_MM)
    scanner, scans = Scanner(), {}

    def add(key, sinogram, kernel):
        hu = scanner.reconstruct(sinogram, kernel, size=SIZE, spacing_mm=SPACING_MM)
        scans.setdefault(key, []).append(quantize(hu).numpy().astype(np.int16))

    low, high = phantom.z_range_mm
    for index, share in enumerate(np.linspace(0.2, 0.8, heights)):
        z = low + share * (high - low)
        above = phantom.slab_hu(z + THICKNESS_MM, THICKNESS_MM)
        add("neighbour", scanner.project(hu_to_mu(above), PHANTOM_SPACING_MM), "Br40")
        sinogram = scanner.project(hu_to_mu(phantom.slab_hu(z, THICKNESS_MM)), PHANTOM_SPACING_MM)
        add("clean", sinogram, "Br40")
        for mas in DOSES_MAS:
            for repeat in range(REPEATS):
                generator = torch.Generator().manual_seed(1000 * index + REPEATS * mas + repeat)
                noisy = scanner.add_noise(sinogram, mas, THICKNESS_MM, generator)
                for kernel in KERNEL_NAMES:
                    add(f"{mas}/{repeat}/{kernel}", noisy, kernel)
        print(f"simulated slice {index + 1} of {heights}", flush=True)
    return {key: np.stack(slices) for key, slices in scans.items()}


def measure(scans, mas, kernel):
    """Return the estimate of the kernel, and for each tissue the noise: measured, true there, true in the tissue."""
    first, second = (scans[f"{mas}/{repeat}/{kernel}"].astype(np.float32) for repeat in range(REPEATS))
    edges = [
        EdgeSlice(hu, SPACING_MM, neighbour_hu=above.astype(np.float32), neighbour_mm=THICKNESS_MM)
        for hu, above in zip(first, scans["neighbour"])
    ]
    estimated = estimate_kernel(edges, THICKNESS_MM, LOWEST_STORED_HU)
    difference, noise = (first - second) / np.sqrt(2), {}
    for tissue, found in measure_noise(first, SPACING_MM).items():
        side = found.squares.side
        here = [difference[i, y : y + side, x : x + side].std() for i, y, x in found.squares.corners]
        everywhere = [
            hu[square].std()
            for clean, hu in zip(scans["clean"].astype(np.float32), difference)
            for square in tissue_squares(clean, side, {tissue: TISSUES[tissue]})[tissue]
        ]
        noise[tissue] = found.noise_hu, np.median(here), np.median(everywhere)
    return estimated, noise


def off(measured, true):
    """Format an error, marked where it exceeds the tolerance."""
    error = measured / true - 1
    return f"{error:+7.1%}{'*' if abs(error) > TOLERANCE else ' '}"


def main():
    """Simulate or read the scans, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=Path, help="file to keep the simulated scans in")
    parser.add_argument("--heights", type=int, default=4, help="slices (default: %(default)s)")
    parser.add_argument("--offset", type=int, default=700, help="number of the phantom's seed (default: %(default)s)")
    options = parser.parse_args()
    if options.scans is not None and options.scans.is_file():
        scans = dict(np.load(options.scans))
    else:
        scans = simulate(take(TEST, 1, options.offset)[0], options.heights)
        if options.scans is not None:
            np.savez(options.scans, **scans)
    print(
        f"{'kernel':12} {'mAs':>4}   MTF50 true      off    MTF10 true      off   "
        + "   ".join(f"{tissue:>11}: HU  off here  off in all" for tissue in TISSUES)
    )
    for kernel in KERNEL_NAMES:
        for mas in DOSES_MAS:
            found, noise = measure(scans, mas, kernel)
            true50, true10 = KERNELS[kernel].mtf50, KERNELS[kernel].mtf10
            line = f"{kernel:12} {mas:4}   "
            line += f"{found.mtf50:5.2f} {true50:4.2f} {off(found.mtf50, true50)}   "
            line += f"{found.mtf10:5.2f} {true10:5.2f} {off(found.mtf10, true10)}"
            for tissue in TISSUES:
                if tissue in noise:
                    measured, here, everywhere = noise[tissue]
                    line += f"   {measured:13.1f}  {off(measured, here)}  {off(measured, everywhere)}"
                else:
                    line += f"   {'-':>13}{'':20}"
            print(line, flush=True)
    print("* beyond 5 %")


if __name__ == "__main__":
    main()
