"""Standardize two reconstructions of one scan, and measure whether they become alike. This needs no true target.

    python benchmarks/two_reconstructions.py --pair SOFT_DIR SHARP_DIR
    python benchmarks/two_reconstructions.py --rekernel B70f DIR --rekernel GE_LUNG DIR --target Br40 --noise keep
    python benchmarks/two_reconstructions.py --smoothed DIR --smoothed SOFT_DIR SHARP_DIR --noise target

`--pair` takes two series of one scan (same file name, same slice); `--rekernel NAME DIR` a sharp real series, which one linear
filter turns from kernel NAME into each of `KERNELS`, all pairs of which are compared; `--smoothed DIR [PLAIN_DIR]` a series
after each of `SMOOTHERS`, the first two seen in training, beside itself as it is, or beside another reconstruction.
For every scan it prints the kernel as it is estimated, MTF50 at the skin and noise in soft tissue before and after, and, for
every pair, the share of ten texture figures (evaluation.texture) within 15 % of each other and their mean concordance, over
squares of soft tissue and lung.
"""

import argparse
import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import uniform_filter

from diffusionct_pipeline import DiffusionCTPipeline
from diffusionct_pipeline.dicom import scan_folder
from diffusionct_pipeline.estimation import estimate_kernel_of_slices
from diffusionct_pipeline.image_processor import UNMEASURED_HU, CTImageProcessor
from diffusionct_pipeline.method.slices import sample_seed
from diffusionct_pipeline.metrics.agreement import REPRODUCIBLE, ccc, relative_error
from diffusionct_pipeline.metrics.texture import texture_table
from diffusionct_pipeline.physics.kernels import get_kernel, kernel_mtf
from diffusionct_pipeline.simulation.degradation import smooth
from diffusionct_pipeline.utils.padding import extend_into_padding

KERNELS = ("Br36", "Br44", "D45", "Br59", "B70f")  # soft to sharp
LARGEST_GAIN, MARGIN = 8.0, 64
SMOOTHERS = {
    "bilateral": 0.6,
    "statistical": 0.8,
    "non-local means": 1.0,
    "total variation": 1.0,
    "statistical, q-GGMRF": 0.8,
}  # fmt: skip  family -> strength
SIDE, SQUARES = 28, 48  # pixels, and how many in a slice
SOFT_TISSUE_HU, LUNG_HU = (-120.0, 200.0), (-950.0, -600.0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="checkpoint; the embedded one by default")
    parser.add_argument("--pair", type=Path, nargs=2, action="append", default=[], metavar=("SOFT_DIR", "SHARP_DIR"))
    parser.add_argument("--rekernel", nargs=2, action="append", default=[], metavar=("NAME", "DIR"))
    parser.add_argument("--smoothed", type=Path, nargs="+", action="append", default=[], metavar="DIR")
    parser.add_argument("--target", help="kernel; the checkpoint's standard by default")
    parser.add_argument("--noise", default="keep", help='"keep", "target" or HU')
    parser.add_argument("--slices", type=int, default=4, help="slices of each series")
    parser.add_argument("--compared", type=int, default=2, help="slices of these that are standardized and compared")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    pipe = DiffusionCTPipeline.from_pretrained(arguments.model)
    pipe.set_progress_bar_config(disable=True)
    noise = arguments.noise if arguments.noise in ("keep", "target") else float(arguments.noise)
    goal, table = pipe.resolve_target(arguments.target), {}
    for folders in arguments.pair:
        scans = {folder.name: read(folder, arguments.slices) for folder in folders}
        table[" and ".join(scans)] = compare(pipe, scans, goal, noise, arguments.compared)
    for name, folder in arguments.rekernel:
        series = read(Path(folder), arguments.slices)
        scans = {kernel: rekernelled(series, name, kernel) for kernel in KERNELS}
        table[f"{Path(folder).name} re-kernelled"] = compare(pipe, scans, goal, noise, arguments.compared)
    for folders in arguments.smoothed:
        series, plain = (read(folder, arguments.slices) for folder in (folders[0], folders[-1]))
        scans = {family: smoothed(series, family, strength) for family, strength in SMOOTHERS.items()}
        table[f"{folders[0].name} smoothed"] = compare(pipe, {"plain": plain, **scans}, goal, noise, arguments.compared)
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=2) + "\n")


def read(folder, count):
    """Read `count` evenly spaced slices of a series, each followed by its neighbour, without their headers."""
    series = scan_folder(folder).require_one_series()
    last = len(series.paths) - 1
    chosen = np.linspace(0, last, min(count, last + 1)).round().astype(int)
    places = [place for i in chosen for place in (i, i + 1 if i < last else i - 1)] if last else [0]
    return [replace(CTImageProcessor().load(series.paths[i])[0], source=None) for i in places]


def rekernelled(slices, old, new):
    """Filter slices linearly as if kernel `new` had been used instead of `old`."""
    before, after = (kernel_mtf(get_kernel(name)) for name in (old, new))

    def one(item):
        whole = extend_into_padding(item.hu, item.padding, UNMEASURED_HU)  # without a step that is not anatomy
        padded = np.pad(np.clip(whole, -1500, 3071), MARGIN, mode="reflect")
        rows, columns = padded.shape
        f = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(columns)[None]) * 10 / item.spacing_mm
        gain = np.minimum(after(f) / np.maximum(before(f), 1e-3), LARGEST_GAIN)
        hu = np.fft.irfft2(np.fft.rfft2(padded) * gain, s=padded.shape)[MARGIN:-MARGIN, MARGIN:-MARGIN]
        return replace(item, hu=np.where(item.padding, item.hu, hu.round()).astype(np.float32))

    return [one(item) for item in slices]


def smoothed(slices, family, strength):
    """Smooth slices as an external program would."""
    return [replace(item, hu=smooth(torch.from_numpy(item.hu), family, strength).round().numpy()) for item in slices]


def compare(pipe, scans, goal, noise, compared):
    """Print and return figures of standardized scans (name -> slices) of one acquisition."""
    done, rows = {}, {}
    for name, slices in scans.items():
        source = pipe.estimate(slices)
        step = pipe.step(source, goal, noise)
        batch = slices[: 2 * compared : 2]
        done[name] = [pipe.standardize_batch([item], [sample_seed(7, 0)], None, step)[0] for item in batch]
        made = [replace(item, hu=hu.round()) for item, hu in zip(batch, done[name])]
        after = estimate_kernel_of_slices(made, header_kernel="")
        rows[name] = {
            "told by": source.told_by,
            "source": described(source.kernel),
            "result": described(after),
            "level": step.level,
            "level deviation": step.level_deviation,
            "remarks": step.remarks,
        }
        print(f"{name:10s} {rows[name]}", flush=True)
    base = next(iter(scans.values()))[: 2 * compared : 2]
    squares = [squares_of(item.hu) for item in base]
    shares = []
    for one, two in combinations(scans, 2):
        before = agreement(squares, *([item.hu for item in scans[name][::2]] for name in (one, two)))
        after = agreement(squares, done[one], done[two])
        shares.append((*before, *after))
        rows[f"{one} and {two}"] = {"as they are": before, "standardized": after}
        print(
            f"  {one} and {two}: {before[0]:.0%} {before[1]:.3f} as they are, {after[0]:.0%} {after[1]:.3f} standardized",
            flush=True,
        )
    mean = np.mean(shares, 0)
    rows["mean"] = {"as they are": mean[:2].tolist(), "standardized": mean[2:].tolist()}
    print(f"mean: {mean[0]:.0%} {mean[1]:.3f} as they are, {mean[2]:.0%} {mean[3]:.3f} standardized\n", flush=True)
    return rows


def described(kernel):
    """Format MTF50 in lp/cm with its deviation, and noise in soft tissue in HU."""
    if kernel is None:
        return None
    low, high = kernel.mtf50_interval()
    noise = kernel.noise_hu.get("soft tissue")
    return {
        "MTF50": round(kernel.mtf50, 2),
        "90 %": [round(low, 2), round(high, 2)],
        "noise HU": noise and round(noise, 1),
        "whitening": round(kernel.whitening, 3),
    }


def squares_of(hu):
    """Return masks of squares, half in soft tissue and half in lung, as far as there are any."""
    draw, smooth, masks, tries = np.random.default_rng(0), uniform_filter(hu, 15), [], 0
    while len(masks) < SQUARES and tries < 20000:
        tries += 1
        row, column = draw.integers(20, min(hu.shape) - 48, 2)
        middle = smooth[row + SIDE // 2, column + SIDE // 2]
        wanted = (SOFT_TISSUE_HU, LUNG_HU)[len(masks) % 2 :][:1] if tries < 10000 else (SOFT_TISSUE_HU, LUNG_HU)
        if any(low < middle < high for low, high in wanted):
            mask = np.zeros(hu.shape, bool)
            mask[row : row + SIDE, column : column + SIDE] = True
            masks.append(mask)
    return masks


def agreement(squares, one, two):
    """Measure the share of figures within 15 % of each other, and the mean concordance."""
    a, b = (
        texture_table((hu.clip(-1024), mask) for hu, masks in zip(side, squares) for mask in masks)
        for side in (one, two)
    )
    return float((relative_error(a, b) < REPRODUCIBLE).mean()), float(np.mean(ccc(a, b)))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
