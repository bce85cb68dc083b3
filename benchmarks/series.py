"""Standardize a whole series and check it: speed, memory, HU of homogeneous regions, validity.

    python benchmarks/series.py SERIES_DIR OUT_DIR [--model DIR]

Homogeneous regions are squares of 21 x 21 pixels of the input whose mean lies in a tissue's HU range and whose standard
deviation is below `MAX_STD_HU`; shifts are taken over their inner 11 x 11 pixels, for a sharper kernel rightly changes
what lies within 5 pixels of an edge. A file of 12 bits cuts off what lies below -1024 HU, which raises the mean of noisy
air and lung: `mean_shift_hu_before_cut` is that of the pipeline's own output, for every 14th slice.

`folded_ratio` says whether a pattern of 32 pixels stands in output - input: about 1 is chance (metrics/lattice.py).
`noise_correlation` is that of the fine structure of neighbouring slices in homogeneous soft tissue, of the input and of the
output: a sharp series has about .75 half a thickness apart, .35 one apart.

Validity is the text of dciodvfy (Debian package dicom3tools), which may exit 0 and still print "Error".
"""

import argparse
import json
import resource
import shutil
import subprocess
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter, uniform_filter

from diffusionct_pipeline import DiffusionCTPipeline
from diffusionct_pipeline.dicom import read_slice, scan_folder
from diffusionct_pipeline.metrics.lattice import folded_ratio
from diffusionct_pipeline.standardize.folder import standardize_folder

TISSUES = {"air": (-1024, -950), "lung": (-940, -780), "fat": (-130, -70), "soft tissue": (0, 100), "bone": (250, 1500)}
SIDE, CORE = 21, 11  # pixels
FINE_PIXELS = 2.0  # standard deviation of the blur that is subtracted
QUIET_SIDE, QUIETEST, FEWEST_PIXELS = 15, 50, 500  # pixels, per cent of soft tissue, pixels
MAX_STD_HU = {"air": 25, "lung": 45, "fat": 30, "soft tissue": 30, "bone": 80}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--model", help="checkpoint; the embedded one by default")
    arguments = parser.parse_args()
    report = standardize_folder(arguments.source, arguments.output, model=arguments.model, overwrite=True)
    series = report["series"][0]
    pairs = list(written(arguments.source, arguments.output))
    result = {
        "slices": report["written"],
        "failures": report["failures"],
        "seconds_per_slice": series["seconds_per_slice"],
        "seconds_to_load": report["seconds_to_load"],
        "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
        "mean_shift_hu": mean_shifts(pairs),
        "mean_shift_hu_before_cut": mean_shifts(before_cut(arguments.source, arguments.model)),
        "folded_ratio": folded_ratio(np.stack([after - before for before, after in pairs])),
        "noise_correlation": {
            name: noise_correlation([pair[side] for pair in pairs], [pair[0] for pair in pairs])
            for side, name in enumerate(("input", "output"))
        },
        "dciodvfy_error_lines": count_errors(arguments.output),
    }
    print(json.dumps(result, indent=2))


def written(source, output):
    """Read HU of every slice and of its standardized file, by position."""
    for path in scan_folder(source).series[0].paths:
        yield read_slice(path).hu, read_slice(output / path.relative_to(source)).hu


def before_cut(source, model):
    """Return HU of some slices and of their results."""
    pipe = DiffusionCTPipeline.from_pretrained(model)
    pipe.set_progress_bar_config(disable=True)
    for path in scan_folder(source).series[0].paths[::14]:
        yield read_slice(path).hu, pipe(path, output_type="np").images[0]


def mean_shifts(slices):
    """Measure by tissue the mean shift of homogeneous squares, its 95 % quantile, and the number of squares."""
    shifts = {name: [] for name in TISSUES}
    for before, after in slices:
        mean = uniform_filter(before, SIDE)
        std = np.sqrt(np.maximum(uniform_filter(before**2, SIDE) - mean**2, 0))
        shift = uniform_filter(after - before, CORE)
        inside = np.zeros(mean.shape, bool)
        inside[SIDE // 2 :: SIDE, SIDE // 2 :: SIDE] = True  # squares must not overlap
        for name, (low, high) in TISSUES.items():
            shifts[name] += list(shift[inside & (mean > low) & (mean < high) & (std < MAX_STD_HU[name])])
    return {
        name: {
            "mean": round(float(np.mean(s)), 3),
            "95 % within": round(float(np.percentile(np.abs(s), 95)), 2),
            "n": len(s),
        }
        for name, s in shifts.items()
        if s
    }


def noise_correlation(slices, sources):
    """Measure the median correlation of the fine structure of neighbouring slices where both sources show quiet soft tissue."""
    found = []
    low, high = TISSUES["soft tissue"]
    fine = [hu - gaussian_filter(hu, FINE_PIXELS) for hu in slices]
    quiet = []
    for hu in sources:
        mean = uniform_filter(hu, QUIET_SIDE)
        std = np.sqrt(np.maximum(uniform_filter(hu**2, QUIET_SIDE) - mean**2, 0))
        tissue = (mean > low) & (mean < high)
        quiet.append(tissue & (std <= np.percentile(std[tissue], QUIETEST)) if tissue.any() else tissue)
    for i in range(len(slices) - 1):
        both = quiet[i] & quiet[i + 1]
        if both.sum() > FEWEST_PIXELS:
            found.append(np.corrcoef(fine[i][both], fine[i + 1][both])[0, 1])
    return round(float(np.median(found)), 3) if found else None


def count_errors(folder):
    """Count lines of dciodvfy with "Error" over all files; None without the tool."""
    if not shutil.which("dciodvfy"):
        return None
    texts = [subprocess.run(["dciodvfy", p], capture_output=True, text=True) for p in sorted(folder.rglob("*.dcm"))]
    return sum("Error" in line for text in texts for line in (text.stdout + text.stderr).splitlines())


if __name__ == "__main__":
    main()
