"""Pixels of the embedded checkpoint as they were when they were last meant to change: refactoring must not move them.

    python tests/test_golden_pixels.py      # writes them anew, when they are meant to

They are compared to a tolerance, as processors and versions of torch round differently.
"""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from helpers.limbs import SPACING_MM, limb_slice

from diffusionct_pipeline import DiffusionCTPipeline
from diffusionct_pipeline.simulation.degradation import smooth

GOLDEN = Path(__file__).parent / "data/golden_pixels.npz"
SHOWN = np.s_[60:140:2, 40:120:2]  # skin, fat and muscle
SOFT, SHARP = (3.45, 25.0), (7.2, 80.0)  # MTF50 in lp/cm, noise in HU
CASES = {
    "standard": {},
    "of an odd size, to a kernel by name and the noise of the target": {
        "cut": np.s_[:201, 20:], "target": "Br44", "noise": "target",
    },
    "from a sharp kernel to a noise in HU": {"source": SHARP, "noise": 120.0},
    "reference": {"reference": SHARP},
    "smoothed": {"smoothed": True},
}  # fmt: skip


@pytest.fixture(scope="module")
def pipe():
    return loaded()


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as file:
        return dict(file)


@pytest.mark.parametrize("name", CASES)
def test_pixels_have_not_moved(pipe, golden, name):
    difference = np.abs(standardized(pipe, **CASES[name]).round() - golden[name])
    assert difference.mean() < 0.1 and difference.max() < 10, f"{difference.mean():.2f} HU on average"


def test_cases_differ(golden):
    """So that none of them could stand for another."""
    images = [golden[name].astype(float) for name in CASES]
    assert set(golden) == set(CASES)
    assert all(np.abs(one - two).mean() > 1 for i, one in enumerate(images) for two in images[:i])


def loaded():
    pipe = DiffusionCTPipeline.from_pretrained()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def standardized(pipe, source=SOFT, reference=None, cut=np.s_[:, :], smoothed=False, **options):
    """A part of the result, HU."""
    hu = limb(*source)[cut]
    if smoothed:
        hu = smooth(torch.from_numpy(hu), "statistical", 0.8).round().numpy()
    if reference is not None:
        options |= {"reference": limb(*reference, seed=5), "reference_pixel_spacing": SPACING_MM}
    return pipe(hu, pixel_spacing=SPACING_MM, **options).images[0][SHOWN]


def limb(mtf50, noise_hu, seed=1):
    return limb_slice(mtf50, noise_hu=noise_hu, seed=seed)


if __name__ == "__main__":
    made = loaded()
    GOLDEN.parent.mkdir(exist_ok=True)
    np.savez_compressed(
        GOLDEN, **{name: standardized(made, **case).round().astype(np.int16) for name, case in CASES.items()}
    )
