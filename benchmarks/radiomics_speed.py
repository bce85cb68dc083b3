"""Measure the time of one feature extraction on one core, beside pyradiomics where it is installed.

    OMP_NUM_THREADS=1 python benchmarks/radiomics_speed.py

pyradiomics extracts fewer values (its first-order, GLCM, GLRLM and NGTDM classes, one set per region) and another
design; the column "values" says how many.
"""

import time

import numpy as np
from scipy import ndimage

from diffusionct_pipeline.radiomics import extract

REPEATS = 21


def regions():
    """Return two regions with correlated noise in integer HU: a box in space, and a disc in a full slice."""
    rng = np.random.default_rng(0)

    def texture(shape):
        noise = ndimage.gaussian_filter(rng.normal(size=shape), 0.8)
        return np.round(-100 + 120 * noise / noise.std())

    y, x = np.indices((512, 512))
    yield "64 x 64 x 8 box (goal 40 ms)", texture((8, 64, 64)), np.ones((8, 64, 64), bool)
    yield "disc of 40 pixels in 512 x 512 (goal 20 ms)", texture((512, 512)), np.hypot(y - 256, x - 256) <= 20


def milliseconds(call):
    call()  # caches and imports
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1e3)
    return np.median(times), min(times)


def pyradiomics_call(hu, mask):
    """Return a function that extracts with pyradiomics, or None where it is not installed."""
    try:
        import SimpleITK
        from radiomics import featureextractor, setVerbosity
    except ImportError:
        return None
    setVerbosity(60)
    extractor = featureextractor.RadiomicsFeatureExtractor(binWidth=21.875, force2D=hu.ndim == 2)
    extractor.disableAllFeatures()
    for name in ("firstorder", "glcm", "glrlm", "ngtdm"):
        extractor.enableFeatureClassByName(name)
    image, label = np.atleast_3d(hu.T).T, np.atleast_3d(mask.T).T.astype(np.uint8)
    image, label = SimpleITK.GetImageFromArray(image), SimpleITK.GetImageFromArray(label)
    return lambda: {k: v for k, v in extractor.execute(image, label, label=1).items() if k.startswith("original")}


def main():
    print(f"{'region':45} {'library':14} {'values':>6} {'median ms':>10} {'best ms':>8}")
    for title, hu, mask in regions():
        calls = {"this package": lambda: extract(hu, mask), "pyradiomics": pyradiomics_call(hu, mask)}
        for library, call in calls.items():
            if call is None:
                print(f"{title:45} {library:14} not installed")
                continue
            median, best = milliseconds(call)
            print(f"{title:45} {library:14} {len(call()):6d} {median:10.1f} {best:8.1f}")


if __name__ == "__main__":
    main()
