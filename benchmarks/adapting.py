"""Measure the gain of `diffusionct adapt` by 1, 5 and 20 pairs of slices, beside linear filters fitted on the same pairs.

    python benchmarks/adapting.py
    python benchmarks/adapting.py --real SOFT_DIR SHARP_DIR --json adapting.json

Simulated: slices of training phantoms to adapt to, tumours and squares of test phantoms to judge by; from Br40, plain and after
non-local means, to a kernel unlike all of the simulator's table. Real (same file name, same slice): one pair to adapt to, and
squares of the slices far from it. Prints mean concordance and share within 15 % of the ten figures of `evaluation.texture`, and
the seconds that adapting took.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from agreement import agreement, read_pair
from tqdm import tqdm

from diffusionct_pipeline import DiffusionCTPipeline
from diffusionct_pipeline.adapt.pairs import SlicePair, adapt
from diffusionct_pipeline.comparison.systems import FittingPair, LinearFilter
from diffusionct_pipeline.simulation import Kernel, Scanner, ScanOptions, simulate_pair
from diffusionct_pipeline.simulation.degradation import smooth
from diffusionct_pipeline.simulation.splits import IMAGE_PAIRS, TEST, take
from diffusionct_pipeline.simulation.tumour_pairs import measured_regions, phantom_and_tumour

UNFAMILIAR = Kernel("unfamiliar", mtf50=6.5, mtf10=9.0, boost=1.8, boost_peak=4.5)
SOURCES = {"plain": None, "after non-local means": ("non-local means", 1.0)}
TEST_OFFSET = 600  # beyond the tumours of the other benchmarks
FAR = 2  # slices from this one on are far from the first two of the real pair


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="checkpoint; the embedded one by default")
    parser.add_argument("--pairs", type=int, nargs="+", default=[1, 5, 20])
    parser.add_argument("--tumours", type=int, default=12, help="tumours for the evaluation")
    parser.add_argument("--real", type=Path, nargs=2, metavar=("SOFT_DIR", "SHARP_DIR"))
    parser.add_argument("--json", type=Path, help="also write the table to this file")
    arguments = parser.parse_args()
    pipe = DiffusionCTPipeline.from_pretrained(arguments.model)
    pipe.set_progress_bar_config(disable=True)
    table = simulated(pipe, arguments.pairs, arguments.tumours)
    if arguments.real:
        table |= real(pipe, *arguments.real)
    for case, rows in table.items():
        print(f"\n{case}")
        for row, values in rows.items():
            print(f"  {row:36s}" + "  ".join(f"{key} {value:.3f}" for key, value in values.items()))
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=2) + "\n")


def simulated(pipe, counts, tumours):
    """Measure case -> row -> figures."""
    scanner, table = Scanner(), {}
    known = [scan(scanner, seed, i) for i, seed in enumerate(tqdm(take(IMAGE_PAIRS, max(counts)), desc="pairs"))]
    tested = [scan(scanner, seed, i) for i, seed in enumerate(tqdm(take(TEST, tumours, TEST_OFFSET), desc="tumours"))]
    for name, smoothing in SOURCES.items():

        def given(pair, smoothing=smoothing):
            hu = pair.hu["Br40"]
            return hu if smoothing is None else smooth(torch.from_numpy(hu), *smoothing).round().numpy()

        fitting = [FittingPair(given(pair), pair.hu[UNFAMILIAR.name], pair.spacing_mm) for pair in known]
        judged = [
            (given(pair), pair.hu[UNFAMILIAR.name], pair.spacing_mm, sum(measured_regions(pair), [])) for pair in tested
        ]
        for count in counts:
            table[f"simulated, {name}, {count} pairs"] = rows_of(pipe, fitting[:count], judged)
    return table


def scan(scanner, seed, index):
    phantom, tumour = phantom_and_tumour(seed, index)
    spacing_mm = 0.6 + 0.05 * (index % 5)
    options = ScanOptions(kernels=("Br40", UNFAMILIAR), mas=40.0 * 1.5 ** (index % 4), spacing_mm=spacing_mm)
    return simulate_pair(phantom, tumour.centre_mm[2], options, seed=seed, scanner=scanner)


def real(pipe, soft, sharp):
    """Measure both directions of a real pair, adapted to its first slice."""
    scans, hu, masks = read_pair(soft, sharp)
    table = {}
    for name, source, target in (("soft to sharp", soft, sharp), ("sharp to soft", sharp, soft)):
        slices = list(zip(hu[source], hu[target], [item.spacing_mm for item in scans[source]], masks))
        table[f"real, {name}, 1 pair"] = rows_of(pipe, [FittingPair(*slices[0][:3])], slices[FAR:])
    return table


def rows_of(pipe, fitting, judged):
    """Measure row -> figures."""

    def load(hu, spacing_mm):
        return pipe.image_processor.load(hu, spacing_mm)[0]

    pairs = [SlicePair(load(pair.source, pair.spacing_mm), load(pair.target, pair.spacing_mm)) for pair in fitting]
    started = time.perf_counter()
    adapted = adapt(pipe, pairs)
    seconds = time.perf_counter() - started
    reference = pipe.resolve_target(None, [pair.target for pair in pairs])
    steps = pipe.config.default_num_inference_steps
    filters = {kind: LinearFilter(kind).fit(fitting) for kind in ("least_squares", "power")}
    images = {}
    for number, (source, target, spacing_mm, masks) in enumerate(judged):
        outputs = {"input": source}
        outputs |= {
            f"linear filter, {kind}": system.standardize(source, spacing_mm) for kind, system in filters.items()
        }
        item = [load(source, spacing_mm)]
        known = pipe.estimate(item)
        outputs["zero-shot by reference"] = pipe.standardize_batch(item, [number], steps, pipe.step(known, reference))[
            0
        ]
        step = adapted.pipe.step(known, adapted.pipe.resolve_target())
        outputs["adapted"] = adapted.pipe.standardize_batch(item, [number], steps, step)[0]
        for row, output in outputs.items():
            images.setdefault(row, []).append((output, target, masks))
    rows = {row: agreement(made) for row, made in images.items()}
    rows["adapted"] |= {"seconds": seconds, "held out: would be refused": float(bool(adapted.worse_than()))}
    return rows


if __name__ == "__main__":
    main()
