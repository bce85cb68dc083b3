"""Agreement of texture figures with the target before and after standardization, beside linear filters.

    python benchmarks/agreement.py simulated                  # held-out phantoms, Br40 -> Bl64, tumours and other regions
    python benchmarks/agreement.py pair SOFT_DIR SHARP_DIR    # a real pair: same file name, same slice

Prints one row a system: mean concordance correlation (Lin 1989) of the ten figures of `evaluation.texture` over all
regions, the share of figures within 15 % of the target's, root mean square error and mean difference in HU.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from diffusionct_pipeline import DiffusionCTPipeline
from diffusionct_pipeline.baselines import LinearFilter
from diffusionct_pipeline.dicom import read_slice
from diffusionct_pipeline.evaluation.agreement import ccc
from diffusionct_pipeline.evaluation.texture import square_regions, texture_figures
from diffusionct_pipeline.image_processor import AIR_HU
from diffusionct_pipeline.train.validation import TEST_SEED, regions, tumour_pairs
from tqdm import tqdm

FILTER_TRAINING_PAIRS = 6
REGION_PIXELS, REGIONS_A_SLICE = 48, 12  # as large as a tumour of 3 cm; evenly spread over the patient


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="checkpoint folder or Hub name; the embedded one by default")
    parser.add_argument("--steps", type=int, help="denoising steps; the checkpoint's own number by default")
    parser.add_argument("--json", type=Path, help="also write the table to this file")
    what = parser.add_subparsers(dest="what", required=True)
    simulated = what.add_parser("simulated")
    simulated.add_argument("--pairs", type=int, default=12)
    pair = what.add_parser("pair")
    pair.add_argument("soft", type=Path)
    pair.add_argument("sharp", type=Path)
    arguments = parser.parse_args()
    pipeline = DiffusionCTPipeline.from_pretrained(arguments.model)
    pipeline.set_progress_bar_config(disable=True)
    run = on_simulated if arguments.what == "simulated" else on_pair
    table = run(pipeline, arguments)
    for name, rows in table.items():
        print(f"\n{name}")
        for system, row in rows.items():
            print(f"  {system:32s}" + "  ".join(f"{key} {value:7.3f}" for key, value in row.items()))
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=2) + "\n")


def on_simulated(pipeline, arguments):
    """Held-out phantoms, plain and with an edge-preservingly smoothed source; the filters know the training phantoms."""
    table = {}
    for name, smoothing in (("Br40 -> Bl64", 0.0), ("smoothed Br40 -> Bl64", 0.6)):
        known = [
            (pair.hu["Br40"], pair.hu["Bl64"], pair.spacing_mm)
            for pair in tumour_pairs(FILTER_TRAINING_PAIRS, 0, smoothing)
        ]
        systems = {
            "input": lambda hu, spacing_mm: hu,
            "linear filter, least squares": LinearFilter("least_squares").fit(known).standardize,
            "linear filter, power": LinearFilter("power").fit(known).standardize,
            "DiffusionCT": lambda hu, spacing_mm: standardize(pipeline, hu, spacing_mm, arguments.steps),
        }
        cases = {"tumours": {}, "all regions": {}}
        for pair in tqdm(tumour_pairs(arguments.pairs, TEST_SEED, smoothing), total=arguments.pairs, desc=name):
            masks = regions(pair)
            tumours = [mask for mask in masks if pair.mask[mask].all()]
            for system, run in systems.items():
                output = run(pair.hu["Br40"], pair.spacing_mm)
                for case, chosen in (("tumours", tumours), ("all regions", masks)):
                    cases[case].setdefault(system, []).append((output, pair.hu["Bl64"], chosen))
        for case, rows in cases.items():
            table[f"{name}, {case}"] = {system: agreement(images) for system, images in rows.items()}
    return table


def on_pair(pipeline, arguments):
    """A real pair both ways, every slice with the style of another slice of the target: far from it, where there is one."""
    scans = {
        folder: [read_slice(path) for path in sorted(folder.glob("*.dcm"))]
        for folder in (arguments.soft, arguments.sharp)
    }
    slices = {
        folder: [(np.where(one.padding, AIR_HU, one.hu), one.spacing_mm) for one in scan] for folder, scan in scans.items()
    }
    count = len(slices[arguments.soft])
    masks = []
    for one in scans[arguments.soft]:  # no squares that reach out of the field of view
        grid = [mask for mask in square_regions(one.hu, REGION_PIXELS) if not one.padding[mask].any()]
        masks.append([grid[i] for i in np.linspace(0, len(grid) - 1, REGIONS_A_SLICE).round().astype(int)])
    table = {}
    for name, source, target in (
        ("soft -> sharp", arguments.soft, arguments.sharp),
        ("sharp -> soft", arguments.sharp, arguments.soft),
    ):
        rows = {}
        for i in range(count):
            (hu, spacing_mm), (truth, _) = slices[source][i], slices[target][i]
            far = (i + count // 2) % count
            reference, reference_spacing_mm = slices[target][far]
            known = [(slices[source][far][0], reference, reference_spacing_mm)]
            outputs = {
                "input": hu,
                "linear filter, least squares": LinearFilter("least_squares").fit(known).standardize(hu, spacing_mm),
                "linear filter, power": LinearFilter("power").fit(known).standardize(hu, spacing_mm),
                "DiffusionCT, reference": standardize(
                    pipeline, hu, spacing_mm, arguments.steps, reference=reference,
                    reference_pixel_spacing=reference_spacing_mm,
                ),
            }  # fmt: skip
            for system, output in outputs.items():
                rows.setdefault(system, []).append((output, truth, masks[i]))
        table[name] = {system: agreement(images) for system, images in rows.items()}
    return table


def standardize(pipeline, hu, spacing_mm, steps, **reference):
    generator = torch.Generator().manual_seed(0)
    return pipeline(hu, spacing_mm, num_inference_steps=steps, generator=generator, **reference).images[0]


def agreement(images):
    """Figures over (output, target, masks) triples, the output clipped at the lowest HU that the target's file holds."""
    images = [(output.clip(min=target.min()), target, masks) for output, target, masks in images]
    ours, theirs = (
        np.array([list(texture_figures(image[i], mask).values()) for image in images for mask in image[2]])
        for i in (0, 1)
    )
    error = np.abs(ours - theirs) / np.abs(theirs)
    difference = [output - target for output, target, _ in images]
    return {
        "regions": len(ours),
        "CCC": float(ccc(ours, theirs).mean()),
        "within 15 %": float((error < 0.15).mean()),
        "RMSE HU": float(np.sqrt(np.mean([np.mean(one**2) for one in difference]))),
        "bias HU": float(np.mean([one.mean() for one in difference])),
    }


if __name__ == "__main__":
    main()
