"""What the shipped weights must do, on a scan that no training saw."""

import json

import numpy as np
import pytest
import torch
from scipy.ndimage import laplace

from diffusionct_pipeline import DiffusionCTPipeline, ReferenceUNet1DModel, TextureAutoencoder
from diffusionct_pipeline.image_processor import to_hu, to_model
from diffusionct_pipeline.metrics.lattice import folded_ratio
from diffusionct_pipeline.pipeline import PRETRAINED
from diffusionct_pipeline.simulation import ChestPhantom, ScanOptions, simulate_pair
from diffusionct_pipeline.simulation.degradation import HELD_OUT_SMOOTHERS, smooth
from diffusionct_pipeline.simulation.splits import TEST

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
    noise = torch.randn(skips.sample.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return to_hu(pipeline.autoencoder.decode(latent, skips, noise))[0, 0].numpy()


def ring_power(hu, spacing_mm):
    """Power in rings of `RING_LP_CM`."""
    window = np.outer(np.hanning(hu.shape[0]), np.hanning(hu.shape[1]))
    power = np.abs(np.fft.rfft2((hu - hu.mean()) * window)) ** 2
    cycles = np.hypot(np.fft.fftfreq(hu.shape[0])[:, None], np.fft.rfftfreq(hu.shape[1])[None]) / spacing_mm * 10
    return np.array([power[(cycles >= low) & (cycles < high)].mean() for low, high in zip(RING_LP_CM, RING_LP_CM[1:])])


def distance(hu, target_hu, spacing_mm):
    """Mean log ratio of the ring powers, without sign."""
    return np.abs(np.log(ring_power(hu, spacing_mm) / ring_power(target_hu, spacing_mm))).mean()


def test_it_is_of_the_networks_of_today(pipeline):
    assert type(pipeline.autoencoder) is TextureAutoencoder and type(pipeline.denoiser) is ReferenceUNet1DModel
    assert pipeline.autoencoder.config.rings == pipeline.denoiser.config.rings


@pytest.mark.parametrize("kernel", ["Br40", "Bl64"])
def test_own_latent_gives_the_slice_back(pipeline, pair, kernel):
    same = decode(pipeline, *encode(pipeline, pair.hu[kernel], pair.spacing_mm))
    np.testing.assert_allclose(same, pair.hu[kernel], atol=0.1)


@pytest.mark.parametrize("side", (512, 256, 160))
def test_a_part_of_a_slice_gets_no_other_noise_than_the_whole(pipeline, side):
    phantom = ChestPhantom(SEED + 1)
    hu = simulate_pair(phantom, phantom.tumours[0].centre_mm[2], ScanOptions(), seed=SEED).hu
    part = np.s_[(512 - side) // 2 : (512 + side) // 2, (512 - side) // 2 : (512 + side) // 2]
    output = pipeline(hu["Br40"][part], pixel_spacing=0.7).images[0]

    def roughness(image):
        tiles = image[: side // 16 * 16, : side // 16 * 16].reshape(side // 16, 16, side // 16, 16).swapaxes(1, 2)
        return np.median([laplace(tile).std() for tile in tiles.reshape(-1, 16, 16)])

    assert roughness(output.clip(-1024)) == pytest.approx(roughness(hu["Bl64"][part]), rel=0.25)


def test_the_latent_of_the_target_gives_its_texture(pipeline, pair):
    _, skips = encode(pipeline, pair.hu["Br40"], pair.spacing_mm)
    latent_b, _ = encode(pipeline, pair.hu["Bl64"], pair.spacing_mm)
    changed, soft, sharp = decode(pipeline, latent_b, skips), pair.hu["Br40"], pair.hu["Bl64"]
    assert distance(changed, sharp, pair.spacing_mm) < 0.15 * distance(soft, sharp, pair.spacing_mm)
    rmse = [np.sqrt(np.mean((hu - sharp) ** 2)) for hu in (changed, soft)]
    assert rmse[0] < rmse[1]  # although noise was added: what is still true is kept


@pytest.mark.parametrize("by_reference", [False, True])
def test_the_pipeline_moves_texture_towards_the_target_and_keeps_the_mean(pipeline, pair, by_reference):
    soft, sharp = pair.hu["Br40"], pair.hu["Bl64"]
    reference = {"reference": sharp, "reference_pixel_spacing": pair.spacing_mm} if by_reference else {}
    output = pipeline(soft, pair.spacing_mm, **reference).images[0]
    assert distance(output, sharp, pair.spacing_mm) < 0.4 * distance(soft, sharp, pair.spacing_mm)
    assert abs(output.mean() - soft.mean()) < 1


@pytest.mark.parametrize("family", HELD_OUT_SMOOTHERS)
def test_texture_that_an_unseen_smoother_removed_comes_back(pipeline, pair, family):
    smoothed, sharp = smooth(torch.from_numpy(pair.hu["Br40"]), family).numpy(), pair.hu["Bl64"]
    output = pipeline(smoothed, pair.spacing_mm).images[0]
    assert distance(output, sharp, pair.spacing_mm) < 0.6 * distance(smoothed, sharp, pair.spacing_mm)


def test_a_slice_of_the_standard_stays_close_to_what_it_was(pipeline, pair):
    sharp = pair.hu["Bl64"]
    output = pipeline(sharp, pair.spacing_mm).images[0]
    assert distance(output, sharp, pair.spacing_mm) < 0.15
    assert np.corrcoef(output.ravel(), sharp.ravel())[0, 1] > 0.98


def test_samples_differ_where_texture_was_removed_more_than_where_it_was_not(pipeline, pair):
    plain = pair.hu["Br40"]
    smoothed = smooth(torch.from_numpy(plain), "bilateral").numpy()
    spreads = [pipeline(hu, pair.spacing_mm, num_samples=4).spread[0].mean() for hu in (plain, smoothed)]
    assert 0 < spreads[0] < spreads[1]


def test_it_draws_no_lattice(pipeline, pair):
    difference = pipeline(pair.hu["Br40"], pair.spacing_mm).images[0] - pair.hu["Br40"]
    assert max(folded_ratio(difference, period) for period in (16, 32)) < 1.2


def test_size_and_record():
    sizes = [path.stat().st_size for path in PRETRAINED.rglob("*") if path.is_file()]
    assert sum(sizes) < 40e6 and max(sizes) < 16e6
    record = json.loads((PRETRAINED / "metrics.json").read_text())
    assert {"training", "scores"} <= record.keys()
