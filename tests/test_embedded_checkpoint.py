"""What the shipped weights must do, on a scan that no training saw."""

import json

import numpy as np
import pytest
import torch
from diffusionct_pipeline import DiffusionCTPipeline
from diffusionct_pipeline.image_processor import to_hu, to_model
from diffusionct_pipeline.pipeline import PRETRAINED
from diffusionct_pipeline.simulation import ChestPhantom, ScanOptions, simulate_pair
from diffusionct_pipeline.training_data.splits import TEST

SEED = TEST[500]
RING_LP_CM = np.arange(0.5, 6.01, 0.5)  # below 6 lp/cm a soft kernel still shows what is there


@pytest.fixture(scope="module")
def pipeline():
    pipeline = DiffusionCTPipeline.from_pretrained()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def pair():
    phantom = ChestPhantom(SEED)
    x, y, z = phantom.tumours[0].centre_mm
    return simulate_pair(phantom, z, ScanOptions(size=256, spacing_mm=0.7, centre_mm=(x, y)), seed=SEED)


def encode(pipeline, hu, spacing_mm):
    with torch.no_grad():
        return pipeline.autoencoder.encode(to_model(torch.from_numpy(hu)[None, None]), torch.tensor([spacing_mm]))


def decode(pipeline, latent, skips):
    with torch.no_grad():
        return to_hu(pipeline.autoencoder.decode(latent, skips))[0, 0].numpy()


def ring_power(hu, spacing_mm):
    """Power in rings of `RING_LP_CM`."""
    window = np.outer(np.hanning(hu.shape[0]), np.hanning(hu.shape[1]))
    power = np.abs(np.fft.rfft2((hu - hu.mean()) * window)) ** 2
    cycles = np.hypot(np.fft.fftfreq(hu.shape[0])[:, None], np.fft.rfftfreq(hu.shape[1])[None]) / spacing_mm * 10
    return np.array([power[(cycles >= low) & (cycles < high)].mean() for low, high in zip(RING_LP_CM, RING_LP_CM[1:])])


@pytest.mark.parametrize("kernel", ["Br40", "Bl64"])
def test_own_latent_gives_the_slice_back(pipeline, pair, kernel):
    same = decode(pipeline, *encode(pipeline, pair.hu[kernel], pair.spacing_mm))
    ratio = ring_power(same, pair.spacing_mm) / ring_power(pair.hu[kernel], pair.spacing_mm)
    np.testing.assert_allclose(ratio, 1, atol=0.1)


def test_the_latent_carries_the_style(pipeline, pair):
    _, skips = encode(pipeline, pair.hu["Br40"], pair.spacing_mm)
    latent_b, _ = encode(pipeline, pair.hu["Bl64"], pair.spacing_mm)
    changed = decode(pipeline, latent_b, skips)
    soft, sharp, ours = (ring_power(hu, pair.spacing_mm) for hu in (pair.hu["Br40"], pair.hu["Bl64"], changed))
    assert np.abs(np.log(ours / sharp)).mean() < 0.25 * np.abs(np.log(soft / sharp)).mean()
    rmse = [np.sqrt(np.mean((hu - pair.hu["Bl64"]) ** 2)) for hu in (changed, pair.hu["Br40"])]
    assert rmse[0] < 0.8 * rmse[1]


def test_the_pipeline_moves_texture_towards_the_standard_and_keeps_the_mean(pipeline, pair):
    output = pipeline(pair.hu["Br40"], pair.spacing_mm).images[0]
    soft, sharp, ours = (ring_power(hu, pair.spacing_mm) for hu in (pair.hu["Br40"], pair.hu["Bl64"], output))
    assert np.abs(np.log(ours / sharp)).mean() < 0.4 * np.abs(np.log(soft / sharp)).mean()
    assert abs(output.mean() - pair.hu["Br40"].mean()) < 1


def test_size_and_record():
    sizes = [path.stat().st_size for path in PRETRAINED.rglob("*") if path.is_file()]
    assert sum(sizes) < 40e6 and max(sizes) < 16e6
    record = json.loads((PRETRAINED / "metrics.json").read_text())
    assert {"training", "scores"} <= record.keys()
