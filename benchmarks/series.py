"""Standardize a whole series and check it: speed, memory, HU of homogeneous regions, validity.

    python benchmarks/series.py SERIES_DIR OUT_DIR

Homogeneous regions are squares of 21 x 21 pixels of the input whose mean lies in a tissue's HU range and whose standard
deviation is below `MAX_STD_HU`; shifts are taken over their inner 11 x 11 pixels, for a sharper kernel rightly changes
what lies within 5 pixels of an edge. A file of 12 bits cuts off what lies below -1024 HU, which raises the mean of noisy
air and lung: `mean_shift_hu_before_cut` is that of the pipeline's own output, for every 14th slice.

Validity is the text of dciodvfy (Debian package dicom3tools), which may exit 0 and still print "Error".
"""

import argparse
import json
import resource
import shutil
import subprocess
from pathlib import Path

import numpy as np
from diffusionct_pipeline import DiffusionCTPipeline
from diffusionct_pipeline.dicom import read_slice, scan_folder
from diffusionct_pipeline.standardize_folder import standardize_folder
from scipy.ndimage import uniform_filter

TISSUES = {"air": (-1024, -950), "lung": (-940, -780), "fat": (-130, -70), "soft tissue": (0, 100), "bone": (250, 1500)}
SIDE, CORE = 21, 11  # pixels
MAX_STD_HU = {"air": 25, "lung": 45, "fat": 30, "soft tissue": 30, "bone": 80}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    report = standardize_folder(arguments.source, arguments.output)
    series = report["series"][0]
    result = {
        "slices": report["written"],
        "failures": report["failures"],
        "seconds_per_slice": series["seconds_per_slice"],
        "seconds_to_load": report["seconds_to_load"],
        "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
        "mean_shift_hu": mean_shifts(written(arguments.source, arguments.output)),
        "mean_shift_hu_before_cut": mean_shifts(before_cut(arguments.source)),
        "dciodvfy_error_lines": count_errors(arguments.output),
    }
    print(json.dumps(result, indent=2))


def written(source, output):
    """HU of every slice and of its standardized file."""
    for path in scan_folder(source).series[0].paths:
        yield read_slice(path).hu, read_slice(output / path.relative_to(source)).hu


def before_cut(source):
    """HU of some slices and what the pipeline makes of them."""
    pipe = DiffusionCTPipeline.from_pretrained()
    pipe.set_progress_bar_config(disable=True)
    for path in scan_folder(source).series[0].paths[::14]:
        yield read_slice(path).hu, pipe(path, output_type="np").images[0]


def mean_shifts(slices):
    """Tissue -> mean of output - input over its homogeneous squares, their largest shift in 95 %, and their number."""
    shifts = {name: [] for name in TISSUES}
    for before, after in slices:
        mean = uniform_filter(before, SIDE)
        std = np.sqrt(np.maximum(uniform_filter(before**2, SIDE) - mean**2, 0))
        shift = uniform_filter(after - before, CORE)
        inside = np.zeros(mean.shape, bool)
        inside[SIDE // 2 :: SIDE, SIDE // 2 :: SIDE] = True  # squares that do not overlap
        for name, (low, high) in TISSUES.items():
            shifts[name] += list(shift[inside & (mean > low) & (mean < high) & (std < MAX_STD_HU[name])])
    return {
        name: {"mean": round(float(np.mean(s)), 3), "95 % within": round(float(np.percentile(np.abs(s), 95)), 2), "n": len(s)}
        for name, s in shifts.items()
        if s
    }


def count_errors(folder):
    """Lines of dciodvfy with "Error" over all files; None without the tool."""
    if not shutil.which("dciodvfy"):
        return None
    texts = [subprocess.run(["dciodvfy", p], capture_output=True, text=True) for p in sorted(folder.rglob("*.dcm"))]
    return sum("Error" in line for text in texts for line in (text.stdout + text.stderr).splitlines())


if __name__ == "__main__":
    main()
