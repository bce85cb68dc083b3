"""The table of the comparison: every system on the same held-out simulated pairs.

    training/train_systems.sh 3600 runs/systems                      # the rivals, an hour each
    python benchmarks/systems.py runs/systems/record.json --json table.json

Br40 -> Bl64 through tumours of phantoms of the test split, tumours and squares of other tissue. One row a system:
parameters, seconds of training, seconds a slice here, mean concordance correlation of the ten figures of
`evaluation.texture`, the share of figures within 15 %, root mean square error and mean difference in HU, distance of the
noise power spectra. Systems without training are fitted on pairs of training phantoms. Published figures stand below: of
other data, for reference only.
"""

import argparse
import json
import math
import time
from pathlib import Path

import torch
from agreement import agreement
from diffusionct_pipeline.evaluation.image_metrics import nps_distance
from diffusionct_pipeline.systems import SYSTEMS, FittingPair, load_system
from diffusionct_pipeline.train.system_phase import fitting_pairs
from diffusionct_pipeline.training_data.splits import TEST, take
from diffusionct_pipeline.training_data.tumour_pairs import SOURCE, TARGET, measured_regions, tumour_pairs
from tqdm import tqdm

# CCC of GOH, GLCM, GLRLM, ID, IH and NID in Selim et al. 2023, table 1, and the papers it cites.
PUBLISHED = {
    "input": (0.90, 0.20, 0.59, 0.33, 0.35, 0.28),
    "GANai": (0.95, 0.50, 0.63, 0.59, 0.44, 0.65),
    "STAN-CT": (0.95, 0.70, 0.72, 0.75, 0.61, 0.71),
    "RadiomicGAN": (1.00, 0.80, 0.75, 0.82, 0.72, 0.73),
    "encoder-decoder": (1.00, 0.38, 0.61, 0.52, 0.39, 0.33),
    "DDPM": (1.00, 0.81, 0.80, 0.85, 0.77, 0.82),
    "DiffusionCT (literal)": (1.00, 0.85, 0.79, 0.89, 0.41, 0.86),
}
CLASSES = ("GOH", "GLCM", "GLRLM", "ID", "IH", "NID")
ORACLE = "encoder-decoder, of the target"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, nargs="?", help="of training/train_systems.sh; none: without the rivals")
    parser.add_argument("--systems", nargs="+", metavar="NAME", help="default: all")
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, help="also write the table to this file")
    arguments = parser.parse_args()
    table = measure(arguments)
    for name, row in table.items():
        print(f"{name:40s}" + "  ".join(f"{key} {value:.4g}" for key, value in row.items()))
    print(f"\npublished CCC, other data: {', '.join(CLASSES)}")
    for name, values in PUBLISHED.items():
        print(f"{name:40s}" + "  ".join(f"{value:.2f}" for value in values))
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=2) + "\n")


def measure(arguments):
    """Name of each row -> its cells."""
    record = json.loads(arguments.record.read_text())["systems"] if arguments.record else {}
    systems = make_systems(arguments, record)
    images, distances = ({name: [] for name in systems} for _ in range(2))
    seconds = dict.fromkeys(systems, 0.0)
    for pair in tqdm(tumour_pairs(take(TEST, arguments.pairs)), total=arguments.pairs):
        tumours, squares = measured_regions(pair)
        for name, system in systems.items():
            started = time.perf_counter()
            output = system.standardize(pair.hu[TARGET if name == ORACLE else SOURCE], pair.spacing_mm)
            seconds[name] += time.perf_counter() - started
            images[name].append((output, pair.hu[TARGET], [*tumours, *squares]))
            distances[name].append(noise_distance(output, pair.hu[TARGET], pair.spacing_mm))
    table = {}
    for name, system in systems.items():
        cells = {
            "parameters": parameters(system),
            "training s": record.get(name, {}).get("seconds", 0.0),
            "s a slice": seconds[name] / arguments.pairs,
        }
        remark = getattr(system, "remark", "")
        cells |= agreement(images[name]) | {"noise power dB": sum(distances[name]) / arguments.pairs}
        table[f"{name} ({remark})" if remark else name] = cells
    return table


def noise_distance(output, target, spacing_mm):
    """Distance of noise power in dB over the slice; not a number where an output has none at some frequency."""
    try:
        return nps_distance(output, target, spacing_mm)
    except ValueError:
        return math.nan


def make_systems(arguments, record):
    """Name -> system: those without training, fitted, and those of the record, on the device."""
    wanted = arguments.systems or [*SYSTEMS, *record, ORACLE]
    fitting = [name for name in SYSTEMS if name in wanted]
    simulated = fitting_pairs() if fitting else ()
    known = [FittingPair(pair.hu[SOURCE], pair.hu[TARGET], pair.spacing_mm) for pair in simulated]
    systems = {name: SYSTEMS[name]() for name in fitting}
    trained = [name for name in record if name in wanted]
    systems |= {name: load_system(name, arguments.record.parent / record[name]["folder"]) for name in trained}
    for name, system in systems.items():
        network = getattr(system, "pipe", system)
        if hasattr(network, "to"):
            network.to(arguments.device)
        if name in fitting:
            system.fit(known)
    if ORACLE in wanted and "encoder-decoder" in systems:
        systems[ORACLE] = systems["encoder-decoder"]
    return systems


def parameters(system):
    """Weights of the networks of a system; 0 without any."""
    pipe = getattr(system, "pipe", None)
    modules = [system] if pipe is None else list(pipe.components.values())
    return sum(p.numel() for module in modules if isinstance(module, torch.nn.Module) for p in module.parameters())


if __name__ == "__main__":
    main()
