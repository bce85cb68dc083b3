"""Features a second, on one core and in two processes, beside MIRP and pyradiomics where they are installed.

    OMP_NUM_THREADS=1 python benchmarks/radiomics_speed.py

The regions are correlated noise in integer HU, 25 HU a grey level. pyradiomics measures its seven classes without
filters, MIRP all of its families in three dimensions. Every library gets the arrays in memory and measures a region at
a time; processes are started and warm before the clock runs.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context

import numpy as np
from scipy import ndimage

from diffusionct_pipeline.radiomics import extract
from diffusionct_pipeline.radiomics.ibsi import IbsiSettings, extract_ibsi

IBSI = IbsiSettings(bin_width_hu=25, range_hu=(-1000, 400))
REGIONS = ("block of 64 x 64 x 8", "disc of 40 in 512 x 512")
TWO = 2


@cache
def region(name: str) -> tuple[np.ndarray, np.ndarray]:
    """HU and mask, (slices, rows, columns)."""
    block = name == REGIONS[0]
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(10, 66, 66) if block else (1, 512, 512)), 0.8)
    hu = np.round(-100 + 120 * noise / noise.std())
    if block:
        return hu, np.pad(np.ones((8, 64, 64), bool), 1)
    _, y, x = np.indices(hu.shape)
    return hu, np.hypot(y - 256, x - 256) <= 20


@cache
def pyradiomics():
    """Its extractor."""
    from radiomics import featureextractor

    logging.getLogger("radiomics").setLevel(logging.ERROR)
    extractor = featureextractor.RadiomicsFeatureExtractor(binWidth=25)
    extractor.enableAllFeatures()
    return extractor


def measure(library: str, name: str) -> int:
    """How many values a library measures of a region."""
    hu, mask = region(name)
    if library == "DiffusionCT, 1,401":
        return len(extract(hu, mask))
    if library == "DiffusionCT, IBSI":
        return len(extract_ibsi(hu, mask, (1, 1, 1), IBSI))
    if library == "pyradiomics":
        import SimpleITK

        image, label = SimpleITK.GetImageFromArray(hu), SimpleITK.GetImageFromArray(mask.astype(np.uint8))
        return sum(key.startswith("original") for key in pyradiomics().execute(image, label))
    import mirp

    logging.disable(logging.INFO)
    warnings.simplefilter("ignore")
    table = mirp.extract_features(
        image=hu, mask=mask.astype(np.uint8), image_modality="ct", by_slice=False, base_feature_families="all",
        base_discretisation_method="fixed_bin_size", base_discretisation_bin_width=25.0,
        resegmentation_intensity_range=[-1000.0, 400.0],
    )[0]  # fmt: skip
    return sum("_" in column and not column.startswith(("image_", "sample_")) for column in table.columns)


def seconds(library: str, name: str, least_s: float) -> tuple[float, float]:
    """Median of one region on one core; and the mean of one where two processes share many."""
    measure(library, name)
    times: list[float] = []
    while sum(times) < least_s or len(times) < 3:
        start = time.perf_counter()
        measure(library, name)
        times.append(time.perf_counter() - start)
    count = TWO * len(times)
    with ProcessPoolExecutor(TWO, mp_context=get_context("spawn")) as pool:
        list(pool.map(measure, [library] * 2 * TWO, [name] * 2 * TWO))  # warm
        start = time.perf_counter()
        list(pool.map(measure, [library] * count, [name] * count))
        together = (time.perf_counter() - start) / count
    return statistics.median(times), together


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5.0, help="least time for each figure (default: %(default)s)")
    least_s = parser.parse_args().seconds
    print("| region | voxels | library | values | ms a region | values a second | in two processes |")
    print("|---|---|---|---|---|---|---|")
    for name in REGIONS:
        voxels = int(region(name)[1].sum())
        for library in ("DiffusionCT, 1,401", "DiffusionCT, IBSI", "pyradiomics", "MIRP"):
            try:
                values = measure(library, name)
            except ImportError:
                print(f"| {name} | {voxels:,} | {library} | not installed | | | |")
                continue
            one, two = seconds(library, name, least_s)
            print(
                f"| {name} | {voxels:,} | {library} | {values:,} | {one * 1e3:,.0f} | {values / one:,.0f} | "
                f"{values / two:,.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
