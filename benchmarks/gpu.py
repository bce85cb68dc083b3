"""Measure the pipeline on a GPU: time and memory by batch size, a whole series, and the agreement of bfloat16.

    python benchmarks/gpu.py --device cuda
    python benchmarks/gpu.py --device cpu --quick                        # only tests whether the script runs
    python benchmarks/gpu.py --device cpu --parts agreement --pairs 6

batches: milliseconds a slice of 512 x 512 in each stage (see stages.py) and the largest memory, for float32 and for what
`--fast` does (bfloat16; on a GPU a compiled denoiser in a CUDA graph).
Convolutions lie channels_last in both (`lay_out_weights`). The first run of every batch size warms up, and compiles.
series: `--slices` files through `standardize_folder`, and the same work part by part: what is not "networks" is time in
which the GPU waits, and what reading ahead and writing behind could save at most.
agreement: mean CCC of the ten texture figures of held-out phantoms with the target, smoothed Br40 to Bl64, in both
precisions, and of one precision with the other. Of plain scans no figure hangs on the network, nor on its precision.
"""

import argparse
import json
import statistics
import tempfile
import time
from functools import cache
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from stages import STAGES, timed, write_noise

from diffusionct_pipeline.dicom import scan_folder, write_slice
from diffusionct_pipeline.method.slices import checked_indices
from diffusionct_pipeline.metrics.regions import square_regions
from diffusionct_pipeline.metrics.texture import texture_agreement
from diffusionct_pipeline.simulation.splits import TEST, take
from diffusionct_pipeline.simulation.tumour_pairs import (
    SOURCE,
    TARGET,
    measured_regions,
    tumour_pairs,
    with_smoothed_source,
)
from diffusionct_pipeline.standardize.folder import standardize_folder
from diffusionct_pipeline.standardize.loading import load_pipeline, make_fast

SPACING_MM = 0.7
SERIES_STAGES = ("read", "estimate", "networks", "derive", "write")
SMOOTHING = ("bilateral", 0.6)
PRECISIONS = {"float32": False, "fast": True}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="checkpoint; the embedded one by default")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--slices", type=int, default=400)
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="tiny slices of noise in place of phantoms")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.batches, arguments.slices, arguments.pairs, arguments.size, arguments.runs = [1, 2], 3, 1, 64, 1
    device = torch.cuda.get_device_name(arguments.device) if arguments.device.startswith("cuda") else arguments.device
    result = {"device": device, "torch": torch.__version__, "threads": torch.get_num_threads()}
    for part in arguments.parts:
        result[part] = {name: PARTS[part](arguments, fast) for name, fast in PRECISIONS.items()}
    if "agreement" in result:
        result["agreement"] = compared(result["agreement"])
    print(json.dumps(result, indent=2))


def load(arguments, fast):
    """Load a pipeline on the device, fast or not."""
    pipe = load_pipeline(arguments.model, arguments.device)
    return make_fast(pipe) if fast else pipe


def on_batches(arguments, fast):
    """Measure batch size -> median milliseconds per slice in each stage, and the peak memory in GiB."""
    pipe, table = load(arguments, fast), {}
    steps, on_gpu = pipe.config.default_num_inference_steps, pipe.device.type == "cuda"
    for batch in arguments.batches:
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(pipe.device)
        with tempfile.TemporaryDirectory() as folder:
            runs = [timed(pipe, Path(folder), run, batch, arguments.size, steps) for run in range(arguments.runs + 1)]
        table[batch] = {f"{name} ms": round(statistics.median(run[name] for run in runs[1:]), 2) for name in STAGES}
        table[batch]["memory GiB"] = round(torch.cuda.max_memory_allocated(pipe.device) / 2**30, 2) if on_gpu else None
    return table


def on_series(arguments, fast):
    """Measure the seconds of a run over a series, without loading, and of its parts in sequence in batches of a GPU."""
    with tempfile.TemporaryDirectory() as work:
        source, output = Path(work, "in"), Path(work, "out")
        write_noise(source, range(arguments.slices), arguments.size)
        options = {"model": arguments.model, "device": arguments.device, "fast": fast}
        begun = time.perf_counter()
        report = standardize_folder(source, output, **options)
        run = time.perf_counter() - begun - report["seconds_to_load"]
        if report["failures"]:
            raise RuntimeError(f"{report['failures']} slices failed: {report['series'][0]['failures'][:1]}")
        parts = in_parts(load(arguments, fast), source, Path(work, "parts"))
        files = [
            {path.name: path.read_bytes() for path in folder.glob("*.dcm")} for folder in (output, Path(work, "parts"))
        ]
    table = {"slices": report["written"], "run": run, **parts, "sum of parts": sum(parts.values())}
    table = {name: round(value, 2) for name, value in table.items()}
    return {**table, "equal files": sum(files[0][name] == files[1][name] for name in files[0])}


def in_parts(pipe, source, output):
    """Measure the seconds of each part of the work on a series, in sequence."""
    seconds = dict.fromkeys(SERIES_STAGES, 0.0)

    def done(name, begun):
        seconds[name] += time.perf_counter() - begun

    begun, slices = time.perf_counter(), []
    for path in scan_folder(source).series[0].paths:
        slices += pipe.image_processor.load(path)
    done("read", begun)
    begun = time.perf_counter()
    known, goal = pipe.estimate(slices), pipe.resolve_target()
    step, seeds = pipe.step(known, goal), pipe.noise_seeds(slices)
    steps = pipe.recommended_steps(step)
    checked = checked_indices(len(slices))
    trial = [pipe.standardize_batch([slices[i]], [seeds[i]], steps, step)[0] for i in checked]
    reached = pipe.check(known, goal, [slices[i] for i in checked], trial)
    derivation = pipe.derivation(steps, goal).of_source(known, "keep", steps).named(reached)
    done("estimate", begun)
    for batch in pipe.batches(slices):
        inputs = [slices[i] for i in batch]
        seeds = pipe.noise_seeds(inputs)
        begun = time.perf_counter()
        results = pipe.standardize_batch(inputs, seeds, steps, step)  # ends on the CPU, which waits for the GPU
        done("networks", begun)
        begun = time.perf_counter()
        derived = [derivation.derive(hu, item.source, seed) for hu, item, seed in zip(results, inputs, seeds)]
        done("derive", begun)
        begun = time.perf_counter()
        for item, dataset in zip(inputs, derived):
            write_slice(dataset, output / item.source.path.name)
        done("write", begun)
    return seconds


def on_agreement(arguments, fast):
    """Return (output, target, masks) of every pair."""
    pipe, images = load(arguments, fast), []
    for source, target, spacing_mm, masks in (
        noise_pairs(arguments.size) if arguments.quick else phantoms(arguments.pairs)
    ):
        output = pipe(source, pixel_spacing=spacing_mm).images[0]
        images.append((output.clip(min=target.min()), target, masks))
    return images


@cache
def phantoms(count):
    """Simulate HU of source and target, spacing and masks of held-out phantoms, once for both precisions."""
    pairs = []
    for plain in tumour_pairs(take(TEST, count)):
        pair = with_smoothed_source(plain, *SMOOTHING)
        tumours, squares = measured_regions(pair)
        pairs.append((pair.hu[SOURCE], pair.hu[TARGET], pair.spacing_mm, [*tumours, *squares]))
    return pairs


def noise_pairs(size):
    """Return the same as `phantoms`, of noise."""
    sharp = np.random.default_rng(0).normal(0, 200, (size, size)).astype(np.float32)
    soft = gaussian_filter(sharp, 1)
    yield soft, sharp, SPACING_MM, square_regions(soft, 16)


def compared(images):
    """Measure the agreement of each precision with the target, and with each other."""
    exact, fast = images.values()
    between = [(one[0], other[0], one[2]) for one, other in zip(fast, exact)]
    triples = {**images, "fast against float32": between}
    found = {name: texture_agreement(triple) for name, triple in triples.items()}
    table = {name: {"CCC": one.mean_ccc, "within 15 %": one.reproducible} for name, one in found.items()}
    difference = [np.abs(one[0] - other[0]) for one, other in zip(fast, exact)]
    return {
        "regions": len(found["fast"].target),
        **{name: {key: round(float(value), 4) for key, value in row.items()} for name, row in table.items()},
        "mean absolute difference HU": round(float(np.mean([hu.mean() for hu in difference])), 3),
        "largest HU": round(float(max(hu.max() for hu in difference)), 1),
    }


PARTS = {"batches": on_batches, "series": on_series, "agreement": on_agreement}

if __name__ == "__main__":
    main()
