"""The learnt eye's training: its losses, its calibration, and three steps of it."""

import json

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from helpers.bodies import body_slice
from helpers.dicom import make_slice, save
from safetensors.torch import load_file

from diffusionct_pipeline.models.kernel_eye import KernelEye
from diffusionct_pipeline.train import EyeOptions, EyePhase, eye_phase, train
from diffusionct_pipeline.train.eye_phase import EyeErrors, EyeObjective
from diffusionct_pipeline.training_data import eye_patches


class Fixed(torch.nn.Module):
    """Says what it was given, with unit variance."""

    def __init__(self, mean):
        super().__init__()
        self.mean = mean

    def forward(self, sample, nyquist):
        return self.mean, torch.zeros_like(self.mean)


def losses(said, true, told=None, trusted=None):
    """Losses of two pairs at three frequencies."""
    told = torch.ones(4, 3, dtype=torch.bool) if told is None else told
    trusted = torch.ones(4, dtype=torch.bool) if trusted is None else trusted
    return EyeObjective(Fixed(said))(torch.zeros(4, 1, 8, 8), torch.zeros(4), true, told, trusted)


class TestObjective:
    true = torch.linspace(0, -2, 12).reshape(4, 3)

    def test_is_0_for_the_truth(self):
        found = losses(self.true, self.true)
        assert all(value == 0 for value in found.values())

    def test_a_wrong_base_is_no_wrong_difference(self):
        found = losses(self.true + torch.tensor([0.3, 0.3, -0.5, -0.5])[:, None], self.true)
        assert found["difference"] < 1e-12 and found["square"] > 0.1

    def test_a_series_without_a_trusted_base_teaches_differences_only(self):
        off = self.true + torch.tensor([0.3, 0.3, 0.0, 0.4])[:, None]
        found = losses(off, self.true, trusted=torch.zeros(4, dtype=torch.bool))
        assert found["square"] == found["likelihood"] == 0
        assert found["difference"] == pytest.approx(0.16 / 2)

    def test_beyond_the_pixels_nothing_counts(self):
        told = torch.ones(4, 3, dtype=torch.bool)
        told[:, 2] = False
        said = self.true.clone()
        said[:, 2] += 5
        assert losses(said, self.true, told)["loss"] == 0


class TestErrors:
    def test_moments_are_those_of_errors_in_deviations(self):
        rng = np.random.default_rng(0)
        shared = rng.standard_normal((2000, 1))
        error = 0.3 * (0.8 * shared + 0.6 * rng.standard_normal((2000, 3)))
        error[::2, 2] = np.nan  # pixels that end early
        found = EyeErrors(error, np.full((2000, 3), 0.1), np.zeros(2000)).moments()
        np.testing.assert_allclose(found, 9 * (0.64 + 0.36 * np.eye(3)), rtol=0.1)

    def test_levels_in_deviations_are_of_unit_size_when_these_are_honest(self):
        rng, eye = np.random.default_rng(0), KernelEye(frequencies=5, width=8)
        error = 0.2 * rng.standard_normal((2000, 5))
        scores = EyeErrors(error, np.full((2000, 5), 0.2), np.zeros(2000)).scores(eye)
        assert scores["rms_level_z"] == pytest.approx(1, abs=0.05)


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """A body of 15 cm in two series of two slices; patches of 22 mm fit in."""
    folders = []
    for number, kernel in enumerate(("Br40", "B70f"), start=1):
        folder = tmp_path_factory.mktemp(kernel)
        for index in range(2):
            hu = body_slice(kernel, seed=index, size=256)[0]
            position = [-89.6, -89.6, 2.5 * index]
            item = make_slice(hu, number=index, series=number, ImagePositionPatient=position, ConvolutionKernel=kernel)
            save(item, folder / f"{index}.dcm")
        folders.append(str(folder))
    return folders


@pytest.fixture
def small(monkeypatch):
    """An eye of a hundredth of the work."""
    monkeypatch.setattr(
        eye_phase, "KernelEye", lambda width: KernelEye(width=width, layers_per_stage=1, patch_pixels=32)
    )
    monkeypatch.setattr(eye_patches, "PATCHES_OF_SERIES", 6)


def run(folder, **options):
    AcceleratorState._reset_state(reset_partial_state=True)
    tiny = {"width": 8, "batch_size": 2, "cpu": True, "checkpoint_steps": 0, "validation_steps": 0, "warmup_steps": 1}
    return train(EyeOptions(output=str(folder), **tiny | {"validation_pairs": 2} | options), EyePhase)


def test_three_steps_make_an_eye_that_knows_its_errors(small, series, tmp_path):
    summary = run(tmp_path, series=series[:1], held_out=series[1:], max_steps=3, validation_steps=3)
    assert summary["steps"] == 3 and summary["validation"]["rms_log_mtf"] > 0
    eye = KernelEye.from_pretrained(tmp_path / "eye")
    assert not torch.equal(eye.error_moments, torch.eye(7))
    assert torch.linalg.eigvalsh(eye.error_moments).min() > 0
    written = json.loads((tmp_path / "metrics.json").read_text())["eye"]
    assert written["parameters"] == sum(p.numel() for p in eye.parameters())
    assert not {"series", "held_out"} & written["options"].keys(), "folders of one machine"


def test_goes_on_as_if_it_had_not_stopped(small, series, tmp_path, monkeypatch):
    run(tmp_path / "once", series=series, max_steps=4)
    monkeypatch.setattr("diffusionct_pipeline.train.loop._time_left", lambda _, __, clock: clock.step < 2)
    run(tmp_path / "twice", series=series, max_steps=4)
    monkeypatch.setattr("diffusionct_pipeline.train.loop._time_left", lambda *_: True)
    run(tmp_path / "twice", series=series, max_steps=4, resume="latest")
    weights = "eye/diffusion_pytorch_model.safetensors"
    once, twice = (load_file(tmp_path / name / weights) for name in ("once", "twice"))
    assert all(torch.equal(once[name], twice[name]) for name in once)


def test_needs_something_to_learn_from():
    with pytest.raises(ValueError, match="`series` and `scans`"):
        EyeOptions()
