"""Seconds of a 512 x 512 slice in each stage of the pipeline: noise, encode, denoise, decode.

    python benchmarks/stages.py                                        # CPU, one slice
    python benchmarks/stages.py --device cuda --batch 32 --dtype bfloat16 --compile
"""

import argparse
import statistics
import time

import numpy as np
import torch
from diffusionct_pipeline import DiffusionCTPipeline

SIZE, SPACING_MM = 512, 0.7


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="checkpoint; the embedded one by default")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--steps", type=int, help="denoising steps; the checkpoint's own number by default")
    parser.add_argument("--compile", action="store_true", help="torch.compile the networks")
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    pipe = DiffusionCTPipeline.from_pretrained(arguments.model).to(arguments.device, getattr(torch, arguments.dtype))
    if arguments.compile:
        pipe.denoiser.compile()
        pipe.autoencoder.incoherent_share.compile()
    steps = arguments.steps or pipe.config.default_num_inference_steps
    hu = np.random.default_rng(0).normal(-400, 100, (arguments.batch, SIZE, SIZE)).astype(np.float32)
    slices = pipe.image_processor.load(hu, SPACING_MM)
    seeds = list(range(arguments.batch))
    seconds = {name: [] for name in ("noise", "encode", f"denoise, {steps} steps", "decode", "all")}
    for run in range(arguments.runs + 1):  # the first warms up
        took = timed(pipe, slices, seeds, steps)
        if run:
            for name, value in zip(seconds, took):
                seconds[name].append(value / arguments.batch)
    print(f"{arguments.device}, batch {arguments.batch}, {arguments.dtype}, {torch.get_num_threads()} threads, per slice:")
    for name, values in seconds.items():
        print(f"  {name:20s} {statistics.median(values) * 1000:8.2f} ms")


@torch.no_grad()
def timed(pipe, slices, seeds, steps):
    """Seconds of noise, encode, denoise, decode, and all of `standardize_batch`."""
    device = pipe.device

    def clock():
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    sample, spacing_mm = pipe.image_processor.preprocess(slices, device)
    latent_a, skips = pipe.encode(sample, spacing_mm)
    times = [clock()]
    start = pipe.noise(slices, seeds, "latent", latent_a.shape[1:])
    texture = pipe.noise(slices, seeds, "texture", sample.shape[1:])
    times.append(clock())
    latent_a, skips = pipe.encode(sample, spacing_mm)
    times.append(clock())
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    latent_b = pipe.denoise(latent_a, None, steps, start, generators)
    times.append(clock())
    pipe.decode(latent_b, skips, texture)
    times.append(clock())
    pipe.standardize_batch(slices, seeds, steps)
    times.append(clock())
    return np.diff(times)


if __name__ == "__main__":
    main()
