"""Features a second, on one core and in two processes, beside MIRP and pyradiomics where they are installed.

    OMP_NUM_THREADS=1 python benchmarks/radiomics_speed.py

The regions are correlated noise in integer HU, 25 HU a grey level. pyradiomics measures its seven classes without
filters, MIRP all of its families in three dimensions. Every library gets the arrays in memory and measures a region at
a time. CPU time counts, of processes that have measured such a region before, so that other work on the machine matters
less than it does on the clock; two processes have each a core where the machine has two that are free.
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
WARM: set[tuple[str, str]] = set()


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


def cpu_seconds(library: str, name: str) -> float:
    """What a region costs a process that has measured one before."""
    if (library, name) not in WARM:
        measure(library, name)
        WARM.add((library, name))
    start = time.process_time()
    measure(library, name)
    return time.process_time() - start


def medians(library: str, name: str, least_s: float) -> tuple[float, float]:
    """CPU seconds of a region: in one process, and in each of two that run side by side."""
    alone: list[float] = []
    while sum(alone) < least_s or len(alone) < 3:
        alone.append(cpu_seconds(library, name))
    count = TWO * len(alone)
    with ProcessPoolExecutor(TWO, mp_context=get_context("spawn")) as pool:
        together = list(pool.map(cpu_seconds, [library] * count, [name] * count))
    return statistics.median(alone), statistics.median(together)


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
            one, two = medians(library, name, least_s)
            print(
                f"| {name} | {voxels:,} | {library} | {values:,} | {one * 1e3:,.0f} | {values / one:,.0f} | "
                f"{TWO * values / two:,.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
