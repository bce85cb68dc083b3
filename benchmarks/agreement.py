"""Measure the agreement of texture figures with the target for every system of the comparison.

    python benchmarks/agreement.py simulated                  # held-out phantoms, Br40 -> Bl64, tumours and other regions
    python benchmarks/agreement.py pair SOFT_DIR SHARP_DIR    # a real pair: same file name, same slice

Prints one row a system: mean concordance correlation (Lin 1989) of the ten figures of `evaluation.texture` over all
regions, the share of figures within 15 % of the target's, root mean square error and mean difference in HU. Systems are
fitted on pairs of training phantoms, or on a far slice of the real pair; one whose target kernel is fixed is left out
where another is wanted.
"""

import argparse
import inspect
import json
from pathlib import Path

import numpy as np
from tqdm import tqdm

from diffusionct_pipeline.comparison.systems import SYSTEMS, FittingPair
from diffusionct_pipeline.dicom import read_slice
from diffusionct_pipeline.image_processor import hu_with_air_padding
from diffusionct_pipeline.metrics.regions import tumour_sized_squares
from diffusionct_pipeline.metrics.texture import texture_agreement
from diffusionct_pipeline.simulation.splits import IMAGE_PAIRS, TEST, take
from diffusionct_pipeline.simulation.tumour_pairs import (
    SOURCE,
    TARGET,
    measured_regions,
    tumour_pairs,
    with_smoothed_source,
)

FITTING_PAIRS = 6
SMOOTHING = {"Br40 -> Bl64": None, "smoothed Br40 -> Bl64": ("bilateral", 0.6)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, metavar="NAME", help="default: all")
    parser.add_argument("--model", help="checkpoint of the systems that have one; the embedded one by default")
    parser.add_argument("--steps", type=int, help="denoising steps; the checkpoint's own number by default")
    parser.add_argument("--json", type=Path, help="also write the table to this file")
    what = parser.add_subparsers(dest="what", required=True)
    simulated = what.add_parser("simulated")
    simulated.add_argument("--pairs", type=int, default=12)
    pair = what.add_parser("pair")
    pair.add_argument("soft", type=Path)
    pair.add_argument("sharp", type=Path)
    arguments = parser.parse_args()
    run = on_simulated if arguments.what == "simulated" else on_pair
    table = run(arguments)
    for name, rows in table.items():
        print(f"\n{name}")
        for system, row in rows.items():
            print(f"  {system:32s}" + "  ".join(f"{key} {value:7.3f}" for key, value in row.items()))
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=2) + "\n")


def make_systems(arguments, target_kernel):
    """Return new systems by name, for those that can produce the target kernel."""
    systems = {}
    for name in arguments.systems or SYSTEMS:
        wished = {"model": arguments.model, "num_inference_steps": arguments.steps}
        known = inspect.signature(SYSTEMS[name]).parameters
        system = SYSTEMS[name](**{key: value for key, value in wished.items() if value is not None and key in known})
        if system.target_kernel in ("", target_kernel):
            systems[name] = system
    return systems


def on_simulated(arguments):
    """Measure held-out phantoms, plain and with a smoothed source; systems are fitted on training phantoms."""
    table = {}
    systems = make_systems(arguments, TARGET)
    for name, smoothing in SMOOTHING.items():
        known = [
            FittingPair(pair.hu[SOURCE], pair.hu[TARGET], pair.spacing_mm)
            for pair in pairs(take(IMAGE_PAIRS, FITTING_PAIRS), smoothing)
        ]
        for system in systems.values():
            system.fit(known)
        cases = {"tumours": {}, "all regions": {}}
        seeds = take(TEST, arguments.pairs)
        for pair in tqdm(pairs(seeds, smoothing), total=len(seeds), desc=name):
            tumours, squares = measured_regions(pair)
            for system_name, system in systems.items():
                output = system.standardize(pair.hu[SOURCE], pair.spacing_mm)
                for case, masks in (("tumours", tumours), ("all regions", [*tumours, *squares])):
                    cases[case].setdefault(system_name, []).append((output, pair.hu[TARGET], masks))
        for case, rows in cases.items():
            table[f"{name}, {case}"] = {system: agreement(images) for system, images in rows.items()}
    return table


def pairs(seeds, smoothing):
    """Return pairs of phantoms with a smoothed source or, with None, a plain one."""
    for pair in tumour_pairs(seeds):
        yield pair if smoothing is None else with_smoothed_source(pair, *smoothing)


def read_pair(soft, sharp):
    """Read a real pair: folder -> slices, folder -> HU of each with air where nothing was measured, and squares of each slice.

    Slices of equal file names are one; no square reaches out of the field of view.
    """
    names = sorted(path.name for path in soft.glob("*.dcm"))
    scans = {folder: [read_slice(folder / name) for name in names] for folder in (soft, sharp)}
    measured = {folder: [hu_with_air_padding(item) for item in scan] for folder, scan in scans.items()}
    return scans, measured, [tumour_sized_squares(item.hu, avoid=item.padding) for item in scans[soft]]


def far_from(i, count):
    """Return the index of the slice to learn from for slice `i` of `count`."""
    return (i + count // 2) % count


def on_pair(arguments):
    """Measure a real pair in both directions; for every slice, systems are fitted on another slice, distant if possible."""
    scans, measured, masks = read_pair(arguments.soft, arguments.sharp)
    table = {}
    for name, source, target in (
        ("soft -> sharp", arguments.soft, arguments.sharp),
        ("sharp -> soft", arguments.sharp, arguments.soft),
    ):
        systems, rows = make_systems(arguments, "the target's"), {}
        for i in range(len(masks)):
            far = far_from(i, len(masks))
            known = FittingPair(measured[source][far], measured[target][far], scans[source][far].spacing_mm)
            for system_name, system in systems.items():
                output = system.fit([known]).standardize(measured[source][i], scans[source][i].spacing_mm)
                rows.setdefault(system_name, []).append((output, measured[target][i], masks[i]))
        table[name] = {system: agreement(images) for system, images in rows.items()}
    return table


def agreement(images):
    """Measure figures over (output, target, masks), with the output clipped at the lowest HU of the target's file."""
    images = [(output.clip(min=target.min()), target, masks) for output, target, masks in images]
    texture = texture_agreement(images)
    difference = [output - target for output, target, _ in images]
    return {
        "regions": len(texture.target),
        "CCC": texture.mean_ccc,
        "within 15 %": texture.reproducible,
        "RMSE HU": float(np.sqrt(np.mean([np.mean(error**2) for error in difference]))),
        "bias HU": float(np.mean([error.mean() for error in difference])),
    }


if __name__ == "__main__":
    main()
