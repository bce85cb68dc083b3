"""A derived UID changes whenever pixels can, and only then."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from helpers.tiny import tiny_pipeline
from pydicom.data import get_testdata_file

import diffusionct_pipeline
from diffusionct_pipeline import DiffusionCTPipeline, image_processor
from diffusionct_pipeline.dicom import hounsfield
from diffusionct_pipeline.estimation import kernel_estimate
from diffusionct_pipeline.method import provenance, step
from diffusionct_pipeline.method.provenance import constants_of, model_id, pixel_constants
from diffusionct_pipeline.models.texture import channels, coherence, local_spectrum, power_shift, synthesis
from diffusionct_pipeline.physics import scan_noise as noise
from diffusionct_pipeline.utils import padding

CT_SMALL = get_testdata_file("CT_small.dcm")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    tiny_pipeline().save_pretrained(folder)
    return folder


def uids(folder):
    """Instance and series UID that a checkpoint gives CT_small."""
    pipe = DiffusionCTPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    derived = pipe(CT_SMALL).images[0]
    return derived.SOPInstanceUID, derived.SeriesInstanceUID


def numbers_of_the_config(model):
    config = {name: value for name, value in model.config.items() if isinstance(value, float)}
    return [(name, value) for name, value in config.items() if not name.startswith("_")]


COMPONENTS = tiny_pipeline().components
REGISTERED = [("autoencoder", name, value) for name, value in numbers_of_the_config(COMPONENTS["autoencoder"])]


def test_the_constants_that_were_chosen_are_registered():
    names = {(folder, name) for folder, name, _ in REGISTERED}
    assert {
        ("autoencoder", "kept_lp_cm"),
        ("autoencoder", "trusted_from_lp_cm"),
        ("autoencoder", "trusted_to_lp_cm"),
        ("autoencoder", "max_lp_cm"),
        ("autoencoder", "power_floor"),
    } <= names


def test_the_same_checkpoint_gives_the_same_uids_on_a_second_run(checkpoint):
    assert uids(checkpoint) == uids(checkpoint)


@pytest.mark.parametrize(("folder", "name", "value"), REGISTERED)
def test_two_checkpoints_that_differ_in_one_registered_constant_give_different_uids(
    checkpoint, tmp_path, folder, name, value
):
    shutil.copytree(checkpoint, tmp_path / "other")
    path = tmp_path / "other" / folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value * 1.01}))
    before, after = uids(checkpoint), uids(tmp_path / "other")
    assert before[0] != after[0] and before[1] != after[1]


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (image_processor, "HU_CENTRE"),
        (image_processor, "HU_SCALE"),
        (image_processor, "LOWEST_SEEN_HU"),
        (image_processor, "UNMEASURED_HU"),
        (hounsfield, "OUTSIDE_FIELD_OF_VIEW_HU"),
        (channels, "AIR_LIMIT"),
        (channels, "SPACING_UNIT"),
        (coherence, "CHANGE_UNIT"),
        (coherence, "LOG_POWER_UNIT"),
        (local_spectrum, "WINDOW"),
        (local_spectrum, "EULER_GAMMA"),
        (channels, "IN_PATIENT"),
        (kernel_estimate, "SMOOTHED_FROM"),
        (padding, "SCALES"),
        (power_shift, "SCAN_TOKENS"),
        (power_shift, "LIKE_POWER"),
        (power_shift, "LEVEL_LP_CM"),
        (power_shift, "SHAPE_ERROR"),
        (step, "STANDARD_SPACING_MM"),
        (step, "LARGEST_LEVEL_DEVIATION"),
        (synthesis, "TAIL"),
        (synthesis, "LARGEST_SHARE"),
        (noise, "PROFILE_WIDTH"),
        (noise, "PLANE_DISTANCE"),
        (noise, "PROFILE_REACH"),
        (noise, "UNKNOWN_THICKNESS_MM"),
    ],
)
def test_a_constant_of_the_code_changes_the_model_id(monkeypatch, module, name):
    before = model_id(COMPONENTS)
    value = getattr(module, name)
    monkeypatch.setattr(module, name, tuple(2 * item for item in value) if isinstance(value, tuple) else 2 * value)
    assert model_id(COMPONENTS) != before


def test_constants_are_found_without_a_list():
    assert {"HU_SCALE", "WINDOW", "PROFILE_WIDTH", "OUTSIDE_FIELD_OF_VIEW_HU"} <= set(pixel_constants())


def test_where_a_constant_stands_does_not_count_and_each_of_one_name_does():
    here, there = SimpleNamespace(REACH=3, BAND=(1.0, 2.0), word="a"), SimpleNamespace(REACH=5)
    assert constants_of([here, there]) == constants_of([there, here]) == {"BAND": [[1.0, 2.0]], "REACH": [3, 5]}
    assert constants_of([here]) != constants_of([here, there])


def test_a_constant_of_the_noise_changes_the_uids(checkpoint, monkeypatch):
    before = uids(checkpoint)
    monkeypatch.setattr(noise, "PROFILE_WIDTH", 1.2)
    assert all(one != other for one, other in zip(before, uids(checkpoint), strict=True))


def test_the_version_a_weight_the_scheduler_and_a_missing_part_change_the_model_id(monkeypatch):
    components = tiny_pipeline().components
    seen = [model_id(components), model_id(components | {"denoiser": None})]
    scheduler = type(components["scheduler"]).from_config(components["scheduler"].config, beta_schedule="linear")
    seen.append(model_id(components | {"scheduler": scheduler}))
    with torch.no_grad():
        next(components["denoiser"].parameters()).flatten()[0] += 1
    seen.append(model_id(components))
    monkeypatch.setattr(provenance, "__version__", diffusionct_pipeline.__version__ + ".post1")
    seen.append(model_id(components))
    assert len(set(seen)) == len(seen)


def test_saving_and_loading_keeps_the_model_id(checkpoint):
    assert model_id(DiffusionCTPipeline.from_pretrained(checkpoint).components) == model_id(tiny_pipeline().components)
