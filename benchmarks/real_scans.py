"""Measure results on real scans: resolution and noise, groups of a cohort, small fields of view, noise beside bone.

    python benchmarks/real_scans.py series DIR [DIR ...] --target Br40      # MTF50 and noise before and after
    python benchmarks/real_scans.py cohort --group STANDARD DIR DIR --group SOFT DIR DIR   # ratio of group means of three figures
    python benchmarks/real_scans.py fields DIR [DIR ...]                    # noise in the middle of cropped slices and of whole ones
    python benchmarks/real_scans.py bone DIR [DIR ...]                      # change of local power beside bone and elsewhere

Each DIR holds one DICOM series. "cohort" measures squares of soft tissue: standard deviation, deviation of the Laplacian and GLCM
contrast; a ratio of 1 means that the kernels can no longer be told apart.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt, gaussian_filter, uniform_filter

from diffusionct_pipeline import DiffusionCTPipeline
from diffusionct_pipeline.dicom import scan_folder
from diffusionct_pipeline.estimation import estimate_kernel_of_series
from diffusionct_pipeline.estimation.scan_estimate import ScanEstimate
from diffusionct_pipeline.image_processor import CTImageProcessor
from diffusionct_pipeline.method.slices import checked_indices
from diffusionct_pipeline.metrics.texture import TEXTURE_FIGURES, texture_table

FIGURES = ("std", "laplacian_std", "glcm_contrast")
SIDE, SQUARES = 28, 40  # pixels, and how many of a slice
SOFT_TISSUE_HU, FLAT_HU = (0.0, 100.0), 60.0
FIELDS = (256, 160, 96)  # pixels
BONE_HU, NEAR_MM, CLEAR_MM = 250.0, 20.0, 6.0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("series", "cohort", "fields", "bone"))
    parser.add_argument("folders", nargs="*", type=Path, metavar="DIR")
    parser.add_argument(
        "--group",
        nargs="+",
        action="append",
        default=[],
        metavar="NAME DIR",
        help="name and folders of a group of the cohort",
    )
    parser.add_argument("--model", help="checkpoint; the embedded one by default")
    parser.add_argument("--target", help="kernel; the checkpoint's standard by default")
    parser.add_argument("--noise", default="keep", help='"keep", "target" or HU')
    arguments = parser.parse_args()
    arguments.noise = arguments.noise if arguments.noise in ("keep", "target") else float(arguments.noise)
    pipe = DiffusionCTPipeline.from_pretrained(arguments.model)
    pipe.set_progress_bar_config(disable=True)
    if arguments.what == "cohort":
        cohort(pipe, arguments)
    for folder in arguments.folders:
        {"series": series, "fields": fields, "bone": bone}[arguments.what](pipe, folder, arguments)


def read(pipe, folder):
    """A series with its estimate and the slices that are measured."""
    found = scan_folder(folder).require_one_series()
    few = [CTImageProcessor().load(found.paths[i])[0] for i in checked_indices(len(found.paths))]
    return ScanEstimate(estimate_kernel_of_series(found), pipe.scan_tokens(few)), few


def standardized(pipe, items, step):
    return [pipe.standardize_batch([item], [seed], None, step)[0] for item, seed in zip(items, pipe.noise_seeds(items))]


def series(pipe, folder, arguments):
    source, few = read(pipe, folder)
    goal = pipe.resolve_target(arguments.target)
    step = pipe.step(source, goal, arguments.noise)
    reached = pipe.check(source, goal, few, standardized(pipe, few, step))
    level = "-" if step.level is None else f"{step.level:+.2f} +- {step.level_deviation:.2f}"
    print(
        f"{folder.name:28s} {reached.in_words():48s} wanted {reached.wanted_mtf50} -> {reached.label}; "
        f"level {level}, told by {source.told_by}; {reached.remark} {step.remarks}",
        flush=True,
    )


def soft_squares(hu):
    """Return masks of flat squares of soft tissue."""
    smooth = gaussian_filter(hu.clip(-1024, 1500), 3)
    draw, masks, tries = np.random.default_rng(0), [], 0
    high, low = (uniform_filter(smooth, SIDE), smooth)
    while len(masks) < SQUARES and tries < 20000:
        tries += 1
        row, column = draw.integers(0, np.array(hu.shape) - SIDE)
        inner = low[row : row + SIDE, column : column + SIDE]
        mean = high[row + SIDE // 2, column + SIDE // 2]
        if SOFT_TISSUE_HU[0] < mean < SOFT_TISSUE_HU[1] and np.ptp(inner) < 2 * FLAT_HU:
            mask = np.zeros(hu.shape, bool)
            mask[row : row + SIDE, column : column + SIDE] = True
            masks.append(mask)
    return masks


def cohort(pipe, arguments):
    before, after = {}, {}
    goal = pipe.resolve_target(arguments.target)
    for name, *folders in arguments.group:
        for folder in map(Path, folders):
            source, few = read(pipe, folder)
            step = pipe.step(source, goal, arguments.noise)
            results = standardized(pipe, few, step)
            chosen = [soft_squares(item.hu) for item in few]
            for table, images in ((before, [item.hu for item in few]), (after, results)):
                figures = texture_table((hu, mask) for hu, masks in zip(images, chosen) for mask in masks)
                table.setdefault(name, []).append(figures.mean(0))
            level = "-" if step.level is None else f"{step.level:+.2f} +- {step.level_deviation:.2f}"
            print(
                f"  {folder.name}: MTF50 {source.kernel and round(source.kernel.mtf50, 2)}, level {level}, "
                f"{step.noise}, std {before[name][-1][0]:.0f} to {after[name][-1][0]:.0f} HU",
                flush=True,
            )
    first, second = list(before)
    for title, table in (("as they are", before), ("standardized", after)):
        means = {name: np.mean(rows, 0) for name, rows in table.items()}
        ratio = means[first] / means[second]
        print(
            f"{title:14s} {first} over {second}: "
            + ", ".join(f"{name} {ratio[TEXTURE_FIGURES.index(name)]:.2f}" for name in FIGURES),
            flush=True,
        )


def fields(pipe, folder, arguments):
    source, few = read(pipe, folder)
    goal = pipe.resolve_target(arguments.target)
    step = pipe.step(source, goal, arguments.noise)
    whole = standardized(pipe, few, step)
    for size in FIELDS:
        row, own = [], []
        for item, result in zip(few, whole):
            top, left = ((side - size) // 2 for side in item.hu.shape)
            part = np.s_[top : top + size, left : left + size]
            cut = replace(item, hu=item.hu[part], padding=item.padding[part], source=None)
            masks = list(soft_squares(cut.hu))
            if not masks:
                continue
            alone = pipe.step(pipe.estimate([cut]), goal, arguments.noise)
            for table, used in ((row, step), (own, alone)):
                made = standardized(pipe, [cut], used)[0]
                one, other = (texture_table((hu, mask) for mask in masks)[:, 0].mean() for hu in (made, result[part]))
                table.append(one / other)
        if row:
            print(
                f"{folder.name:28s} {size} pixels: noise {np.mean(row):.3f} of the whole slice's with the series' estimate, "
                f"{np.mean(own):.3f} ({np.min(own):.2f} to {np.max(own):.2f}) estimated from the cut slice alone",
                flush=True,
            )


def bone(pipe, folder, arguments):
    source, few = read(pipe, folder)
    step = pipe.step(source, pipe.resolve_target(arguments.target), arguments.noise)
    near, far = [], []
    for item, result in zip(few, standardized(pipe, few, step)):
        smooth = gaussian_filter(item.hu.clip(-1024, 2000), 2.0)
        distance_mm = distance_transform_edt(smooth < BONE_HU) * item.spacing_mm
        for mask in soft_squares(item.hu):
            middle = distance_mm[mask].min(), distance_mm[mask].max()
            change = np.log(result[mask].var() / item.hu[mask].var())
            if CLEAR_MM < middle[0] < NEAR_MM:
                near.append(change)
            elif middle[0] >= NEAR_MM:
                far.append(change)
    if near and far:
        print(
            f"{folder.name:28s} log change of variance within {NEAR_MM:g} mm of bone {np.mean(near):.3f} ({len(near)} squares), "
            f"elsewhere {np.mean(far):.3f} ({len(far)}): noise {np.exp((np.mean(near) - np.mean(far)) / 2):.3f} times",
            flush=True,
        )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
