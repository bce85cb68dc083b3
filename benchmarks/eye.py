"""How well a learnt eye tells kernels of series that it never learnt from, beside what skin and noise tell of them.

    python benchmarks/eye.py --eye runs/eye/eye --series CT/a CT/b --pair CT/soft CT/sharp --cohort CT/cohort

Of every series: error of log T as it is, under random filters, and under smoothers that training never saw. Truth is
the estimate of skin and noise, plus the filter's logarithm. The pair is one scan under two kernels; the truth of their
ratio is the amplitude of one over that of the other where they agree in phase. The folders of the cohort end in their
kernel's name: one kernel's series should not differ, two kernels' should.
"""

import argparse
import time
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import torch

from diffusionct_pipeline.dicom import read_slice, scan_folder
from diffusionct_pipeline.estimation import estimate_kernel_of_slices
from diffusionct_pipeline.estimation.eye import PATCHES, answer_for_patches, eye_witness
from diffusionct_pipeline.estimation.kernel_fit import fit_kernel
from diffusionct_pipeline.estimation.law import log_mtf
from diffusionct_pipeline.estimation.noise import find_squares, noise_of_squares
from diffusionct_pipeline.evaluation.regions import spread
from diffusionct_pipeline.image_processor import from_dicom, measured_hu, to_hu
from diffusionct_pipeline.models.kernel_eye import KernelEye
from diffusionct_pipeline.simulation.degradation import HELD_OUT_SMOOTHERS
from diffusionct_pipeline.training_data.eye_patches import (
    STEP_LP_CM,
    STORED_HU,
    EyePatches,
    draw_version,
    series_source,
    unchanged,
)

SLICES = 16  # of a series
BAND = (2.0, 5.0)  # lp/cm
COHORT_BAND = (2.0, 4.0)  # pixels of 1 mm end at 5
SMOOTHING = (0.7, 1.0)  # strength and threshold
SQUARE = 128  # pixels, of the pair's spectra


def read(folder):
    """Some slices of the one series in a folder."""
    series = scan_folder(folder).require_one_series()
    return [from_dicom(read_slice(path)) for path in spread(series.paths, SLICES)]


def without_skin(slices, frequency, witnesses=()):
    """log T that the noise of tissue and further witnesses tell, None without homogeneous tissue."""
    spacing_mm, hu = slices[0].spacing_mm, [item.hu for item in slices]
    noise = noise_of_squares(hu, [find_squares(item.hu, spacing_mm, item.padding) for item in slices], spacing_mm)
    if not {"soft tissue", "fat"} & noise.keys():
        return None
    values = fit_kernel(None, noise, witnesses, spacing_mm, -1024.0, slices[0].thickness_mm or 1.0).values
    mtf50 = values["mtf50"]
    return log_mtf(frequency, mtf50, mtf50 * values["ratio"], values["boost"], mtf50 * values["peak"])


def in_band(frequency, band=BAND):
    return (frequency >= band[0]) & (frequency <= band[1])


def errors(witness, truth):
    """rms of log T, error of the level 2 log T, and that in stated deviations, over the band."""
    frequency = np.array(witness.frequency)
    chosen = in_band(frequency)
    error = (np.array(witness.log_mtf) - truth(frequency))[chosen]
    stated = 2 * np.sqrt(np.array(witness.covariance)[np.ix_(chosen, chosen)].mean())
    return np.sqrt((error**2).mean()), 2 * error.mean(), 2 * error.mean() / stated


def score_series(eye, folder, versions, seed):
    """Print a series' errors; returns them by kind of version."""
    slices, found, rng = read(folder), series_source(folder), np.random.default_rng(seed)
    if found is None:
        print(f"{Path(folder).name}: nothing tells its kernel, or the body is too small")
        return {}
    source, _ = found
    estimate = estimate_kernel_of_slices(slices, header_kernel="")
    started = time.process_time()
    witness = eye_witness(eye, slices)
    seconds = time.process_time() - started
    frequency = np.array(witness.frequency)
    words = f"{estimate.told_by} {np.log(estimate.mtf(frequency)).round(2)}, level +- {estimate.level_deviation:.2f}"
    print(f"\n{Path(folder).name}: {words}")
    for name, witnesses in {"noise alone": [], "noise and eye": [witness]}.items():
        told = without_skin(slices, frequency, witnesses)
        if told is not None:
            error = (told - np.log(estimate.mtf(frequency)))[in_band(frequency)]
            print(f"  {name} {told.round(2)}: rms {np.sqrt((error**2).mean()):.2f}, level {2 * error.mean():+.2f}")
    deviation = np.sqrt(np.diag(witness.covariance))
    print(f"  eye {np.round(witness.log_mtf, 2)} +- {deviation.round(2)}, {seconds:.2f} s")
    if "skin" not in estimate.witnesses:
        print("  no skin in view: no truth")
        return {}
    grid = np.arange(len(source.log_mtf[0])) * STEP_LP_CM
    source = replace(source, log_mtf=np.log(estimate.mtf(grid).clip(1e-5))[None])
    patches = EyePatches([source], [], eye.config.frequencies, eye.config.pixel_mm, eye.config.patch_pixels)
    plain = unchanged(source, 0)
    filters = [draw_version(source, 0, rng) for _ in range(versions)]
    kinds = {
        "filtered": [replace(plain, log_gain=drawn.log_gain, log_mtf=drawn.log_mtf) for drawn in filters],
        **{f"smoothed by {name}": [replace(plain, smoother=(name, *SMOOTHING))] for name in HELD_OUT_SMOOTHERS},
    }
    scores = {"as it is": [errors(witness, lambda f: np.log(estimate.mtf(f)))]}
    for kind, drawn in kinds.items():
        scores[kind] = []
        for version in drawn:
            places = spread(source.hu, PATCHES)
            seen = [patches.render(place[0] * np.float32(STORED_HU), version, rng) for place in places]
            answer = answer_for_patches(eye, np.stack(seen), source.spacing_mm)
            if answer is not None and max(answer.frequency) >= BAND[0]:
                scores[kind].append(errors(answer, lambda f, curve=version.log_mtf: np.interp(f, grid, curve)))
    for kind, rows in scores.items():
        print(f"  {kind}: {summary(rows)}")
    return scores


def summary(rows):
    rms, level, z = (np.sqrt(np.mean(np.square(column))) for column in zip(*rows))
    mean = np.mean([row[1] for row in rows])
    return f"rms {rms:.2f}, level rms {level:.2f} (mean {mean:+.2f}), z rms {z:.1f}, n = {len(rows)}"


def log_ratio_of_pair(soft, sharp, frequency):
    """log of the ratio of MTFs of two reconstructions of one scan, by their cross-spectrum."""
    step, window = SQUARE // 2, np.outer(np.hanning(SQUARE), np.hanning(SQUARE))
    spacing_mm = soft[0].spacing_mm
    radius = 10 * np.hypot(*np.meshgrid(np.fft.fftfreq(SQUARE, spacing_mm), np.fft.fftfreq(SQUARE, spacing_mm)))
    cross, power = np.zeros((SQUARE, SQUARE)), np.zeros((SQUARE, SQUARE))
    for a, b in zip(soft, sharp):
        a, b = measured_hu(a), measured_hu(b)
        for top in range(0, len(a) - SQUARE, step):
            for left in range(0, len(a) - SQUARE, step):
                here = np.s_[top : top + SQUARE, left : left + SQUARE]
                if a[here].mean() < -950:
                    continue
                first, second = (np.fft.fft2((each[here] - each[here].mean()) * window) for each in (a, b))
                cross += (first.conj() * second).real
                power += np.abs(first) ** 2
    rings = [np.abs(radius - f) < 0.25 for f in frequency]
    return np.log([cross[ring].sum() / power[ring].sum() for ring in rings])


def score_pair(eye, soft_folder, sharp_folder):
    """Print the ratio of the MTFs of a pair beside the truth."""
    slices = {"soft": read(soft_folder), "sharp": read(sharp_folder)}
    witnesses = [eye_witness(eye, each) for each in slices.values()]
    frequency = np.arange(1.0, min(len(each.frequency) for each in witnesses) + 1)
    truth = log_ratio_of_pair(*slices.values(), frequency)

    def with_skin(item, frequency, seen=()):
        return np.log(estimate_kernel_of_slices(item, "", seen).mtf(frequency))

    told = {}
    for name, tell in {"skin and noise": with_skin, "noise alone": without_skin}.items():
        told[name] = [tell(each, frequency) for each in slices.values()]
        told[f"{name}, and eye"] = [tell(each, frequency, [seen]) for each, seen in zip(slices.values(), witnesses)]
    eyes = [np.array(each.log_mtf[: len(frequency)]) for each in witnesses]
    print(f"\npair, log T of sharp over soft at {frequency} lp/cm: truth {truth.round(2)}")
    for name, (soft, sharp) in ({"eye": eyes} | told).items():
        error = (sharp - soft - truth)[in_band(frequency)]
        words = f"rms {np.sqrt((error**2).mean()):.2f}, level {2 * error.mean():+.2f}"
        print(f"  {name} {(sharp - soft).round(2)}: {words}")
    for name, witness in zip(slices, witnesses):
        print(f"  eye, {name}: {np.round(witness.log_mtf, 2)} +- {np.sqrt(np.diag(witness.covariance)).round(2)}")


def score_cohort(eye, folder):
    """Print how well the mean log T of series tells their kernels apart, and how far it differs within one."""
    def middle(frequency, curve):
        return float(np.mean(np.array(curve)[in_band(np.array(frequency), COHORT_BAND)]))

    told = {"eye": {}, "skin and noise": {}, "noise alone": {}}
    for each in sorted(Path(folder).iterdir()):
        slices, frequency = read(each), np.arange(COHORT_BAND[0], COHORT_BAND[1] + 1)
        kernel, witness = each.name.split("_")[-1], eye_witness(eye, slices)
        if witness is not None and max(witness.frequency) >= COHORT_BAND[1]:
            told["eye"].setdefault(kernel, []).append(middle(witness.frequency, witness.log_mtf))
        estimate, alone = estimate_kernel_of_slices(slices, header_kernel=""), without_skin(slices, frequency)
        if estimate is not None and "skin" in estimate.witnesses:
            told["skin and noise"].setdefault(kernel, []).append(middle(frequency, np.log(estimate.mtf(frequency))))
        if alone is not None:
            told["noise alone"].setdefault(kernel, []).append(middle(frequency, alone))
    print(f"\ncohort, mean log T at {COHORT_BAND[0]:g} to {COHORT_BAND[1]:g} lp/cm")
    for name, kernels in told.items():
        print(f"  {name}: " + ", ".join(f"{kernel} {np.round(values, 2)}" for kernel, values in kernels.items()))
        spreads = [np.std(values, ddof=1) for values in kernels.values() if len(values) > 1]
        if spreads:
            print(f"    deviation within a kernel {np.sqrt(np.mean(np.square(spreads))):.3f}")
        for (one, low), (other, high) in combinations(sorted(kernels.items(), key=lambda item: np.mean(item[1])), 2):
            area = np.mean([[b > a for a in low] for b in high])
            print(f"    {other} above {one}: AUC {area:.2f}, difference {np.mean(high) - np.mean(low):+.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--eye", required=True, help="folder of a KernelEye")
    parser.add_argument("--series", nargs="*", default=[], help="folders of series never learnt from")
    parser.add_argument("--pair", nargs=2, default=None, help="folders of one scan under a soft and a sharp kernel")
    parser.add_argument("--cohort", default="", help="folder of folders that end in _KERNEL")
    parser.add_argument("--versions", type=int, default=8, help="filtered versions of every series")
    parser.add_argument("--seed", type=int, default=0, help="of the versions")
    options = parser.parse_args()
    torch.set_num_threads(1)
    eye = KernelEye.from_pretrained(options.eye).eval()
    every = {}
    for folder in options.series:
        for kind, rows in score_series(eye, folder, options.versions, options.seed).items():
            every.setdefault(kind, []).extend(rows)
    if every:
        print("\nall series")
    for kind, rows in every.items():
        print(f"  {kind}: {summary(rows)}")
    if options.pair:
        score_pair(eye, *options.pair)
    if options.cohort:
        score_cohort(eye, options.cohort)


if __name__ == "__main__":
    main()
