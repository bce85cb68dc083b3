"""Test the kernel estimate of a series against simulated truth, parts of itself, and another kernel of the same scan.

    python benchmarks/estimation.py                              # simulated scans of two scanners, about three minutes
    python benchmarks/estimation.py scans/a scans/b              # series: all slices, either half, single slices
    python benchmarks/estimation.py --pair scans/soft scans/sharp    # two reconstructions of one scan, same slices

Simulated scans are estimated from noise alone, from skin alone, from both, and with a header that is right or names another
kernel beside.

The level is 2 log T, mean over 2 to 6 lp/cm as far as T is above .08: an error of it is an error of the log of the dose.
z is an error over its stated standard deviation. For a pair the truth is the cross-spectrum of tissue over the power
spectrum of the soft slices, which noise that both share makes exact.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist

import numpy as np
import torch

from diffusionct_pipeline.dicom import read_slice, scan_folder
from diffusionct_pipeline.estimation import EdgeSlice, estimate_kernel_of_slices
from diffusionct_pipeline.estimation.estimating import Evidence
from diffusionct_pipeline.estimation.law import LEVEL_LP_CM, log_mtf
from diffusionct_pipeline.image_processor import from_dicom
from diffusionct_pipeline.metrics.regions import Tissue, spread, tissue_squares
from diffusionct_pipeline.simulation import KERNELS, ChestPhantom, Scanner
from diffusionct_pipeline.simulation.scanner import LOWEST_STORED_HU, hu_to_mu, quantize
from diffusionct_pipeline.simulation.splits import VALIDATION, take

SCANNERS = {"ideal": (0.5, 0.4), "blurred": (0.9, 0.85)}  # aperture and focal spot, mm
KERNEL_NAMES = ("Br36", "Br44", "D45", "B70f", "Bl64")
DOSES_MAS = (60, 200)
GRIDS = ((512, 0.68), (420, 0.93))  # pixels, mm
HEIGHTS_MM = (-40.0, 60.0)
PHANTOM_SIZE, PHANTOM_SPACING_MM, THICKNESS_MM = 2048, 0.175, 1.0
SQUARE = 32  # pixels, of the cross-spectrum
SOFT_TISSUE = Tissue(-120.0, 200.0)


def simulated(seed):
    """Yield (scanner, kernel, spacing, two slices) of one phantom."""
    phantom = ChestPhantom(seed, size=PHANTOM_SIZE, spacing_mm=PHANTOM_SPACING_MM)
    slabs = [[hu_to_mu(phantom.slab_hu(z + up, THICKNESS_MM)) for up in (0.0, THICKNESS_MM)] for z in HEIGHTS_MM]
    for name, (aperture_mm, focal_mm) in SCANNERS.items():
        scanner = Scanner(aperture_mm=aperture_mm, focal_mm=focal_mm)
        sinograms = [[scanner.project(mu, PHANTOM_SPACING_MM) for mu in pair] for pair in slabs]

        def image(sinogram, kernel, size, spacing_mm):
            return quantize(scanner.reconstruct(sinogram, kernel, size=size, spacing_mm=spacing_mm)).numpy()

        for size, spacing_mm in GRIDS:
            above = [image(pair[1], "Br40", size, spacing_mm) for pair in sinograms]
            for mas in DOSES_MAS:
                noisy = [
                    scanner.add_noise(pair[0], mas, THICKNESS_MM, torch.Generator().manual_seed(mas + 1000 * height))
                    for height, pair in enumerate(sinograms)
                ]
                for kernel in KERNEL_NAMES:
                    yield (
                        name,
                        kernel,
                        [
                            EdgeSlice(image(one, kernel, size, spacing_mm), spacing_mm, None, other, THICKNESS_MM)
                            for one, other in zip(noisy, above)
                        ],
                    )


def estimates(slices, kernel):
    """Return evidence -> estimate for slices of a known kernel; None where the evidence is inconclusive."""
    whole = Evidence(THICKNESS_MM, LOWEST_STORED_HU)
    for item in slices:
        whole.add(item)
    skinless, noiseless = replace(whole, skin=[]), replace(whole, squares=[{} for _ in slices])
    other = KERNEL_NAMES[(KERNEL_NAMES.index(kernel) + 1) % len(KERNEL_NAMES)]
    return {
        "noise": skinless.estimate("", []),
        "skin": noiseless.estimate("", []),
        "both": whole.estimate("", []),
        "both, right header": whole.estimate(kernel, []),
        "both, wrong header": whole.estimate(other, []),
        "noise, right header": skinless.estimate(kernel, []),
    }


def print_simulated(seed):
    """Print errors of MTF50 and level by evidence and scanner."""
    errors = {}
    for scanner, kernel, slices in simulated(seed):
        true = KERNELS[kernel]
        for evidence, found in estimates(slices, kernel).items():
            if found is None:
                print(f"{scanner} {kernel}: {evidence} tells nothing")
                continue
            wanted = 2 * log_mtf(found.level_band, true.mtf50, true.mtf10, true.boost, true.boost_peak).mean()
            scale = np.log(found.mtf50 / true.mtf50)
            level = found.level - wanted
            deviation = np.sqrt(found.covariance[0][0]) / found.mtf50
            row = (scale, scale / deviation, level, level / found.level_deviation)
            errors.setdefault((evidence, scanner), []).append(row)
            errors.setdefault((evidence, "all"), []).append(row)
    print(f"{'evidence':20} {'scanner':8}  n   MTF50 rms     z rms, worst   level rms  worst    z rms, worst  in 90 %")
    for (evidence, scanner), rows in errors.items():
        rms, worst = np.sqrt(np.mean(np.square(rows), 0)), np.abs(rows).max(0)
        held = (np.abs(rows)[:, 3] < NormalDist().inv_cdf(0.95)).mean()
        print(f"{evidence:20} {scanner:8} {len(rows):3}   {rms[0]:9.1%}   {rms[1]:7.2f} {worst[1]:7.2f}   {rms[2]:9.3f} "
              f"{worst[2]:6.2f}  {rms[3]:7.2f} {worst[3]:7.2f}   {held:5.0%}")  # fmt: skip


def load(folder):
    """Read at most 48 slices of the series in a folder."""
    series = scan_folder(folder).require_one_series()
    return [from_dicom(read_slice(path)) for path in series.paths[:48]]


def words(found):
    """Format an estimate on one line."""
    if found is None:
        return "nothing tells it"
    low, high = found.mtf50_interval()
    return (f"MTF50 {found.mtf50:5.2f} ({low:.2f} to {high:.2f})  level {found.level:+.2f} +- {found.level_deviation:.2f}  "
            f"K {found.whitening:.3f}  told by {found.told_by}")  # fmt: skip


def print_series(folder):
    """Print estimates of one series, its halves and single slices."""
    slices = load(folder)
    print(Path(folder).name, f"header {slices[0].kernel!r}")
    print("  as it is    ", words(estimate_kernel_of_slices(slices)))
    for name, part in (
        ("all", slices),
        ("first half", slices[: len(slices) // 2]),
        ("second half", slices[len(slices) // 2 :]),
    ):
        print(f"  {name:12}", words(estimate_kernel_of_slices(part, "")), flush=True)
    for item in spread(slices, 4):
        print("  one slice   ", words(estimate_kernel_of_slices([item], "")), flush=True)


def cross_spectrum_ratio(soft, sharp):
    """Measure (frequencies in lp/cm, T of sharp over T of soft) of two reconstructions of one scan."""
    window = np.outer(np.hanning(SQUARE + 1)[:-1], np.hanning(SQUARE + 1)[:-1])
    y, x = np.indices((SQUARE, SQUARE)).reshape(2, -1)
    plane = np.linalg.qr(np.column_stack([np.ones(SQUARE**2), y, x]))[0]

    def spectrum(square):
        flat = square.ravel() - plane @ (plane.T @ square.ravel())
        return np.fft.fft2(flat.reshape(SQUARE, SQUARE) * window)

    cross, power = np.zeros((SQUARE, SQUARE)), np.zeros((SQUARE, SQUARE))
    for first, second in zip(soft, sharp):
        (squares,) = tissue_squares(first.hu, SQUARE, {"": SOFT_TISSUE}).values()
        for square in squares:
            one, other = spectrum(first.hu[square]), spectrum(second.hu[square])
            cross += (other * one.conj()).real
            power += np.abs(one) ** 2
    frequency = np.fft.fftfreq(SQUARE) * 10 / soft[0].spacing_mm
    radius = np.hypot(frequency[:, None], frequency[None])
    rings = [np.abs(radius - at) < frequency[1] / 2 for at in LEVEL_LP_CM]
    return LEVEL_LP_CM, np.array([cross[ring].sum() / power[ring].sum() for ring in rings])


def print_pair(soft_folder, sharp_folder):
    """Print the difference in level between two kernels of one scan, as estimated and as measured from their slices."""
    soft, sharp = load(soft_folder), load(sharp_folder)
    first, second = (estimate_kernel_of_slices(slices, "") for slices in (soft, sharp))
    frequency, ratio = cross_spectrum_ratio(soft, sharp)
    used = first.mtf(frequency) > 0.08
    estimated = np.log(second.mtf(frequency) / first.mtf(frequency))[used]
    true = np.log(ratio)[used]
    deviation = np.hypot(first.level_deviation, second.level_deviation)
    print("soft ", words(first), "\nsharp", words(second))
    print(
        f"2 log T apart: estimated {2 * estimated.mean():.2f} +- {deviation:.2f}, cross-spectrum {2 * true.mean():.2f}"
    )
    print("log T apart by frequency, estimated less true: " +
          ", ".join(f"{at:.1f} lp/cm {error:+.2f}" for at, error in zip(frequency[used][::2], (estimated - true)[::2])))  # fmt: skip


def main():
    """Print the tables that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, help="folders with one series each")
    parser.add_argument("--pair", nargs=2, type=Path, metavar=("SOFT", "SHARP"), help="two reconstructions of one scan")
    parser.add_argument("--offset", type=int, default=3, help="number of the phantom's seed (default: %(default)s)")
    options = parser.parse_args()
    for folder in options.folders:
        print_series(folder)
    if options.pair:
        print_pair(*options.pair)
    if not options.folders and not options.pair:
        print_simulated(take(VALIDATION, 1, options.offset)[0])


if __name__ == "__main__":
    main()
