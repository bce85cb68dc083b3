"""Standardize simulated scans under several kernels, and measure their agreement with the same scan under the standard.

    python benchmarks/kernels_to_standard.py --phantoms 8
    python benchmarks/kernels_to_standard.py --phantoms 8 --target Br40 --noise keep

Each phantom (held out of all training) is scanned in two slices, at another dose, pixel size and slice thickness; the kernel is told
from these two slices alone. Prints, for every source kernel, the share of the ten figures of `evaluation.texture` within 15 % of the
target's and their mean concordance, over tumours and squares; as they are and standardized; and how far the level and MTF50 are off.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from diffusionct_pipeline import DiffusionCTPipeline
from diffusionct_pipeline.metrics.regions import tumour_sized_squares
from diffusionct_pipeline.metrics.texture import texture_agreement
from diffusionct_pipeline.physics.kernels import get_kernel
from diffusionct_pipeline.simulation import Scanner, ScanOptions, simulate_pair
from diffusionct_pipeline.simulation.degradation import smooth
from diffusionct_pipeline.simulation.splits import SPLITS, take
from diffusionct_pipeline.simulation.tumour_pairs import phantom_and_tumour

SOURCES = ("Br36", "Br40", "D45", "B70f", "GE_LUNG")
MAS, SPACING_MM, THICKNESS_MM = (60.0, 120.0, 200.0), (0.6, 0.7, 0.8, 0.9), (1.0, 2.0, 1.0, 3.0)
OFFSET = 800  # of phantoms, beyond those of the other benchmarks
BESIDE_MM = 4.0  # the second slice


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="checkpoint; the embedded one by default")
    parser.add_argument("--split", choices=("test", "validation"), default="test", help="validation is for choices")
    parser.add_argument("--phantoms", type=int, default=8)
    parser.add_argument("--offset", type=int, default=OFFSET)
    parser.add_argument("--target", default="Bl64")
    parser.add_argument("--noise", default="keep", choices=("keep", "target"))
    parser.add_argument(
        "--smoothing", nargs=2, metavar=("FAMILY", "STRENGTH"), help="smoothing of the sources, in the image domain"
    )
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    pipe = DiffusionCTPipeline.from_pretrained(arguments.model)
    pipe.set_progress_bar_config(disable=True)
    table = measure(pipe, arguments)
    for name, row in table.items():
        print(f"{name:10s}" + "  ".join(f"{key} {value:.3f}" for key, value in row.items()))
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=2) + "\n")


def measure(pipe, arguments):
    scanner, goal = Scanner(), pipe.resolve_target(arguments.target)
    images, errors = {}, {}
    seeds = take(SPLITS[arguments.split], arguments.phantoms, arguments.offset)
    for number, seed in enumerate(tqdm(seeds, desc="phantoms")):
        phantom, tumour = phantom_and_tumour(seed, number)
        kernels = tuple(dict.fromkeys((*SOURCES, arguments.target)))
        options = ScanOptions(
            kernels=kernels,
            mas=MAS[number % 3],
            spacing_mm=SPACING_MM[number % 4],
            thickness_mm=THICKNESS_MM[number // 2 % 4],
        )
        pairs = [
            simulate_pair(phantom, tumour.centre_mm[2] + shift, options, seed=2 * seed + i, scanner=scanner)
            for i, shift in enumerate((0.0, BESIDE_MM))
        ]
        for name in SOURCES:
            hu = [pair.hu[name] for pair in pairs]
            if arguments.smoothing:
                family, strength = arguments.smoothing
                hu = [smooth(torch.from_numpy(one), family, float(strength)).round().numpy() for one in hu]
            slices = pipe.image_processor.load(np.stack(hu), options.spacing_mm)
            slices = pipe.image_processor.place(slices, [0.0, BESIDE_MM], options.thickness_mm)
            source = pipe.estimate(slices)
            step = pipe.step(source, goal, arguments.noise)
            for i, pair in enumerate(pairs):
                (result,) = pipe.standardize_batch([slices[i]], [seed], None, step)
                target = pair.hu[arguments.target]
                masks = tumour_sized_squares(target)
                images.setdefault(name, []).append((hu[i], result.clip(target.min()), target, masks))
            true = get_kernel(name).mtf50
            off = np.nan if source.kernel is None else np.log(source.kernel.mtf50 / true)
            errors.setdefault(name, []).append((off, step.noise == "keep"))
    table = {}
    for name, made in images.items():
        before = texture_agreement([(one[0], one[2], one[3]) for one in made])
        after = texture_agreement([(one[1], one[2], one[3]) for one in made])
        offs = np.array(errors[name], float)
        table[name] = {
            "as they are": before.reproducible, "CCC": before.mean_ccc, "standardized": after.reproducible, "its CCC": after.mean_ccc,
            "std ratio": float((after.output[:, 0] / after.target[:, 0]).mean()), "log MTF50 error": float(np.nanmean(offs[:, 0])),
            "rms": float(np.sqrt(np.nanmean(offs[:, 0] ** 2))), "dose kept": float(offs[:, 1].mean()),
        }  # fmt: skip
    return table


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
