"""Measure the milliseconds of a 512 x 512 slice in each stage, from its file to the derived file.

    python benchmarks/stages.py                                        # CPU, one slice
    python benchmarks/stages.py --dtype bfloat16                       # as `--fast`
    python benchmarks/stages.py --steps 5                              # as for a scan that was smoothed
    python benchmarks/stages.py --rivals                               # beside two convolutional networks
    python benchmarks/stages.py --device cuda --batch 32 --dtype bfloat16 --compile

The slices are neighbours in a series of noise, 1 mm apart and thick, as noise fields of neighbours share work. "all" is
`standardize_batch`, by itself, on the slices after those of the stages. Reading and writing are files of the temporary
folder: TMPDIR decides on which disk.
"""

import argparse
import copy
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pydicom
import torch
from pydicom.data import get_testdata_file

from diffusionct_pipeline.comparison.systems.unet_l1 import UNetL1
from diffusionct_pipeline.dicom import read_slice, write_slice
from diffusionct_pipeline.dicom.deriving import set_pixels
from diffusionct_pipeline.standardize.loading import load_pipeline

SPACING_MM, THICKNESS_MM = 0.7, 1.0
STAGES = ("read", "noise", "encode", "estimate", "denoise", "decode", "derive", "write", "all")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="checkpoint; the embedded one by default")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--steps", type=int, help="denoising steps; one by default, as for a plain scan")
    parser.add_argument("--compile", action="store_true", help="torch.compile the denoiser")
    parser.add_argument(
        "--rivals", action="store_true", help="also time the U-Net and a plain CNN, in turns with the stages"
    )
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    pipe = load_pipeline(arguments.model, arguments.device).to(getattr(torch, arguments.dtype))
    if arguments.compile:
        pipe.denoiser.compile()
    steps = arguments.steps or 1
    rivals = make_rivals(pipe.device) if arguments.rivals else {}
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        timed(pipe, Path(folder), 0, arguments.batch, arguments.size, steps)
        first = time.perf_counter() - begun
        took = []
        for run in range(1, arguments.runs + 1):
            took.append(timed(pipe, Path(folder), run, arguments.batch, arguments.size, steps))
            took[-1] |= {name: timed_rival(rival, arguments.batch, arguments.size) for name, rival in rivals.items()}
    threads = f"{torch.get_num_threads()} threads"
    print(f"{arguments.device}, batch {arguments.batch}, {arguments.dtype}, {threads}, median ms a slice:")
    for name in (*STAGES, *rivals):
        value = statistics.median(run[name] for run in took)
        print(f"  {name:10s} {value:8.2f}" + (f"   {value / steps:.2f} a step of {steps}" if name == "denoise" else ""))
    print(f"  first run of all stages, with whatever is compiled: {first:.1f} s")


def make_rivals(device):
    """Make the U-Net of the comparison and six layers of 64 channels, laid out as a CPU prefers them, with random weights."""
    channels = (1, 64, 64, 64, 64, 64, 1)
    layers = [torch.nn.Conv2d(one, other, 3, padding=1) for one, other in zip(channels, channels[1:])]
    cnn = torch.nn.Sequential(*[part for layer in layers for part in (layer, torch.nn.ReLU())][:-1])
    networks = {"U-Net, L1": UNetL1(), "CNN": cnn}
    return {name: net.to(device, memory_format=torch.channels_last) for name, net in networks.items()}


@torch.no_grad()
def timed_rival(network, batch, size):
    """Measure the milliseconds per slice of a network from tensor to tensor."""
    device = next(network.parameters()).device
    hu = torch.randn(batch, 1, size, size, device=device) * 100
    begun = time.perf_counter()
    (network.translate(hu) if isinstance(network, UNetL1) else network(hu)).cpu()
    return (time.perf_counter() - begun) / batch * 1000


@torch.no_grad()
def timed(pipe, folder, run, batch, size, steps):
    """Measure the milliseconds per slice of each stage for the `run`-th batch of a series."""
    seconds = {}

    def clock(name, work):
        begun = time.perf_counter()
        result = work()
        if pipe.device.type == "cuda":
            torch.cuda.synchronize(pipe.device)
        seconds[name] = time.perf_counter() - begun
        return result

    paths = write_noise(folder, range(2 * run * batch, 2 * (run + 1) * batch), size)
    derivation, processor = pipe.derivation(steps), pipe.image_processor
    # 1. Stage by stage.
    slices = clock("read", lambda: processor.load(paths[:batch]))
    seeds = pipe.noise_seeds(slices)
    grid = processor.preprocess(slices, pipe.device)
    shape = grid[0].shape[1:]
    latent_a, skips = clock("encode", lambda: pipe.encode(*grid))
    source = clock("estimate", lambda: pipe.estimate(slices))
    step = pipe.step(source, pipe.resolve_target())
    start, texture = clock(
        "noise",
        lambda: (pipe.noise(slices, seeds, "latent", latent_a.shape[1:]), pipe.noise(slices, seeds, "texture", shape)),
    )
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    latent_b = clock("denoise", lambda: pipe.denoise(latent_a, step, steps, start, generators))
    hu = processor.postprocess(clock("decode", lambda: pipe.decode(latent_b, skips, texture)), slices)
    derived = clock(
        "derive", lambda: [derivation.derive(one, item.source, seed) for one, item, seed in zip(hu, slices, seeds)]
    )
    clock("write", lambda: [write_slice(one, folder / "out" / path.name) for one, path in zip(derived, paths)])
    # 2. The whole method on the next slices, whose noise is not cached yet.
    following = processor.load(paths[batch:])
    clock("all", lambda: pipe.standardize_batch(following, seeds, steps, step))
    return {name: value / batch * 1000 for name, value in seconds.items()}


def write_noise(folder, numbers, size):
    """Write a series of noise, from the slice of pydicom with other pixels and positions; return the paths of its slices."""
    template = read_slice(get_testdata_file("CT_small.dcm"))
    paths = []
    folder.mkdir(exist_ok=True)
    for number in numbers:
        dataset = copy.deepcopy(template.dataset)
        dataset.SOPInstanceUID = f"{template.dataset.StudyInstanceUID}.{number}"
        dataset.InstanceNumber, dataset.PixelSpacing, dataset.SliceThickness = (
            number + 1,
            [SPACING_MM] * 2,
            THICKNESS_MM,
        )
        dataset.ImagePositionPatient = [0, 0, number * THICKNESS_MM]
        cells = np.random.default_rng(number).normal(800, 100, (size, size)).round().astype(template.pixels.dtype)
        set_pixels(dataset, cells, template.pixels)
        paths.append(folder / f"{number:04d}.dcm")
        pydicom.dcmwrite(paths[-1], dataset, enforce_file_format=True)
    return paths


if __name__ == "__main__":
    main()
