"""How far latents lie from training, and whether they show a chest."""

import numpy as np
import pytest
from helpers.bodies import body_slice
from helpers.tiny import tiny_pipeline

from diffusionct_pipeline import DiffusionCTPipeline
from diffusionct_pipeline.pipeline import PRETRAINED
from diffusionct_pipeline.standardize.likeness import (
    FAR,
    Likeness,
    SliceLatent,
    _shows_lung,
    has_texture_latent,
    latent_remarks,
    likeness,
    slice_latents,
)

needs_checkpoint = pytest.mark.skipif(not (PRETRAINED / "model_index.json").is_file(), reason="no embedded checkpoint")


@pytest.fixture(scope="module")
def embedded():
    return DiffusionCTPipeline.from_pretrained()


def latents_of(pipe, hu):
    encoded = pipe.encode_batch(pipe.image_processor.load(hu, 0.7))
    return encoded, slice_latents(pipe, encoded.latent_a, encoded.shape[-1] // 32)


@needs_checkpoint
def test_plain_slices_are_like_training_and_white_noise_is_not(embedded):
    hu, _ = body_slice("Br40", 20.0)
    near = likeness(embedded, latents_of(embedded, hu)[1], 0.7)
    white = np.random.default_rng(0).normal(0, 1500, hu.shape).astype(np.float32)
    far = likeness(embedded, latents_of(embedded, np.where(hu > -500, hu + white, hu))[1], 0.7)
    assert latent_remarks(near, 1) == []
    assert far.deviations > FAR and "sharper" in latent_remarks(far, 1)[0]


def test_latents_without_lung_are_told_after_enough_slices():
    pipe = tiny_pipeline()
    assert has_texture_latent(pipe) and not has_texture_latent(object())
    hu = np.random.default_rng(0).normal(40, 15, (128, 128)).astype(np.float32)
    (latent,) = latents_of(pipe, hu)[1]
    assert not latent.shows_lung and np.isfinite(latent.mean).all()
    where = Likeness(0.0, 3.0, shows_lung=False)
    assert latent_remarks(where, 3) == [] and "no lung" in latent_remarks(where, 30)[0]


def test_a_lung_is_enclosed_air_or_a_wide_place_of_its_density():
    local_hu = np.full((8, 8), -1000.0)
    assert not _shows_lung(local_hu), "air"
    local_hu[1:7, 1:7] = 20.0
    assert not _shows_lung(local_hu), "a body"
    local_hu[3:5, 3:5] = -990.0
    assert _shows_lung(local_hu), "a plastic lung"
    assert _shows_lung(np.full((8, 8), -850.0)), "a lung that fills the field of view"


def test_the_farthest_frequency_within_reach_of_the_pixels_counts():
    pipe = tiny_pipeline()
    rings = pipe.autoencoder.config.rings
    mean = np.zeros(rings, np.float32)
    mean[-1] = 9.0  # beyond the Nyquist frequency of 0.7 mm
    mean[rings // 2 - 1] = -2.0
    where = likeness(pipe, [SliceLatent(mean, True)], 0.7)
    assert where.deviations == -2.0 and where.at_lp_cm < 5 / 0.7
    assert "denoised" in latent_remarks(where, 1)[0]


def test_pixels_too_coarse_for_noise_break_nothing():
    pipe = tiny_pipeline()
    where = likeness(pipe, [SliceLatent(np.zeros(pipe.autoencoder.config.rings, np.float32), True)], 5.0)
    assert where.deviations == 0
