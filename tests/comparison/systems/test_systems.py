"""What every system of the comparison does, whichever it is."""

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from helpers.tiny import tiny_pipeline

from diffusionct_pipeline import DiffusionCTPipeline, pipeline
from diffusionct_pipeline.comparison.systems import SYSTEMS, DiffusionCT, FittingPair, System, load_system
from diffusionct_pipeline.models import AutoencoderResNet18, ConditionalUNet1DModel

SPACING = 0.7


@pytest.fixture(scope="module", autouse=True)
def tiny_checkpoint(tmp_path_factory):
    """Takes the place of the embedded one."""
    folder = tmp_path_factory.mktemp("checkpoint")
    tiny_pipeline().save_pretrained(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "PRETRAINED", folder)
        yield


def noise_hu(seed, scale=100):
    return np.random.default_rng(seed).normal(0, scale, (64, 96)).astype(np.float32)


@pytest.fixture
def pairs():
    return [FittingPair(noise_hu(i), noise_hu(i, 200), SPACING) for i in range(2)]


@pytest.mark.parametrize("name", SYSTEMS)
class TestEverySystem:
    def test_obeys_the_protocol(self, name, pairs):
        system = SYSTEMS[name]()
        assert isinstance(system, System) and isinstance(system.target_kernel, str)
        assert system.fit(pairs) is system
        output = system.standardize(pairs[0].source, SPACING)
        assert output.shape == (64, 96) and output.dtype == np.float32 and np.isfinite(output).all()

    def test_leaves_its_input_alone(self, name, pairs):
        hu = noise_hu(5)
        before = hu.copy()
        SYSTEMS[name]().fit(pairs).standardize(hu, SPACING)
        np.testing.assert_array_equal(hu, before)

    def test_saved_and_loaded_is_the_same(self, name, pairs, tmp_path):
        system = SYSTEMS[name]().fit(pairs)
        system.save_pretrained(tmp_path)
        loaded = type(system).from_pretrained(tmp_path)
        hu = noise_hu(5)
        np.testing.assert_array_equal(loaded.standardize(hu, SPACING), system.standardize(hu, SPACING))
        assert loaded.target_kernel == system.target_kernel


class TestDiffusionCT:
    def test_is_the_pipeline(self):
        system, hu = DiffusionCT(), noise_hu(5)
        expected = system.pipe(hu, SPACING).images[0]
        np.testing.assert_array_equal(system.standardize(hu, SPACING), expected)
        assert system.target_kernel == "Bl64"

    def test_by_reference_is_the_pipeline_with_a_reference(self, pairs):
        system, hu = DiffusionCT(by_reference=True).fit(pairs[:1]), noise_hu(5)
        reference = {"reference": pairs[0].target, "reference_pixel_spacing": SPACING}
        np.testing.assert_array_equal(system.standardize(hu, SPACING), system.pipe(hu, SPACING, **reference).images[0])

    def test_by_pairs_is_the_checkpoint_adapted_to_them_and_anew_each_time(self, pairs):
        system, hu = DiffusionCT(by_pairs=True, num_inference_steps=1), noise_hu(5)
        with pytest.raises(ValueError, match="is not adapted"):
            system.standardize(hu, SPACING)
        other = system.fit(pairs[1:]).standardize(hu, SPACING)
        first = system.fit(pairs[:1]).standardize(hu, SPACING)
        assert system.target_kernel == "" and not np.array_equal(first, other)
        np.testing.assert_array_equal(system.fit(pairs[1:]).standardize(hu, SPACING), other)

    def test_by_reference_needs_one(self):
        with pytest.raises(ValueError, match="call `fit`"):
            DiffusionCT(by_reference=True).standardize(noise_hu(5), SPACING)

    def test_the_papers_own_networks_have_a_fixed_target(self, tmp_path):
        torch.manual_seed(0)
        autoencoder = AutoencoderResNet18(8, (8, 8, 8, 8, 16), decoder_channels=(8,) * 5)
        scheduler = DDPMScheduler(clip_sample=False)
        DiffusionCTPipeline(autoencoder, ConditionalUNet1DModel(8, (32, 32)), scheduler, 2).save_pretrained(tmp_path)
        system, hu = load_system("DiffusionCT (literal)", tmp_path), noise_hu(5)
        expected = system.pipe(hu, SPACING).images[0]
        np.testing.assert_array_equal(system.standardize(hu, SPACING), expected)
        with pytest.raises(ValueError, match="fixed target"):
            DiffusionCT(tmp_path, without="diffusion").standardize(hu, SPACING)
