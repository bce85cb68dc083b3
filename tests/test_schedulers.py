"""Any scheduler of diffusers gives plausible HU or an error that names it; nothing absurd becomes an image."""

import logging
import warnings

import diffusers
import numpy as np
import pytest
import torch
from diffusers.schedulers import SchedulerMixin
from helpers.dicom import make_slice, save
from helpers.tiny import tiny_pipeline

from diffusionct_pipeline import DiffusionCTPipeline
from diffusionct_pipeline.commands._main import main

# As the model card lists them.
FIT = (
    "DDPMScheduler", "DDIMScheduler", "DEISMultistepScheduler", "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler",
    "EulerDiscreteScheduler", "LCMScheduler", "LMSDiscreteScheduler", "TCDScheduler", "UniPCMultistepScheduler",
)  # fmt: skip
OTHERS = sorted(
    name
    for name, value in ((name, getattr(diffusers, name, None)) for name in dir(diffusers) if name.endswith("Scheduler"))
    if name not in FIT and isinstance(value, type) and issubclass(value, SchedulerMixin)
)
HU = np.random.default_rng(0).normal(40, 100, (64, 64)).astype(np.float32)


@pytest.fixture(autouse=True)
def in_silence():
    """Without the list of settings that another scheduler does not know."""
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    yield
    logging.getLogger("diffusers").setLevel(logging.WARNING)


def standardized(name, steps, **settings):
    pipe = tiny_pipeline()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # settings of another scheduler are ignored, NaN is cast
        pipe.scheduler = getattr(diffusers, name).from_config(pipe.scheduler.config, **settings)
        return pipe(HU, pixel_spacing=0.7, num_inference_steps=steps).images[0]


@pytest.mark.parametrize("steps", [1, 3, 8])
@pytest.mark.parametrize("name", FIT)
def test_those_of_the_card_give_plausible_images(name, steps):
    if (name, steps) == ("LMSDiscreteScheduler", 1):
        steps = 2  # it integrates between steps
    assert np.abs(standardized(name, steps) - HU).max() < 2000


@pytest.mark.parametrize("settings", [{}, {"use_karras_sigmas": True}], ids=["plain", "karras"])
@pytest.mark.parametrize("steps", [3, 5])
@pytest.mark.parametrize("name", OTHERS)
def test_any_other_gives_them_or_is_named(name, steps, settings):
    try:
        made = standardized(name, steps, **settings)
    except ValueError as error:
        assert f"{name} with {steps} steps" in str(error)
    except (TypeError, KeyError):  # of `from_config` itself: it has no settings of this kind
        with pytest.raises((TypeError, KeyError)):
            getattr(diffusers, name).from_config(tiny_pipeline().scheduler.config)
    else:
        assert np.abs(made - HU).max() < 5000


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("HeunDiscreteScheduler", "diverged"),
        ("EulerAncestralDiscreteScheduler", "diverged: it sampled values that are not finite"),
        ("DDIMInverseScheduler", "it adds noise"),
        ("FlowMatchEulerDiscreteScheduler", "cannot be used"),
    ],
)
def test_what_is_wrong_is_said(name, words):
    with pytest.raises(ValueError, match=f"{name} with 3 steps.*{words}"):
        standardized(name, 3)


@pytest.mark.parametrize(("value", "pixels"), [(float("nan"), 1), (float("inf"), 1), (30.0, 8)])
def test_values_that_no_scan_has_never_become_a_file(tmp_path, monkeypatch, capsys, value, pixels):
    """Whatever made them: here the decoder."""
    tiny_pipeline().save_pretrained(tmp_path / "model")
    (tmp_path / "in").mkdir()
    save(make_slice(HU.round(), number=1), tmp_path / "in/1.dcm")
    original = DiffusionCTPipeline.decode

    def decode(self, *arguments, **options):
        sample = original(self, *arguments, **options)
        sample[..., 20, 20 : 20 + pixels] = value
        return sample

    monkeypatch.setattr(DiffusionCTPipeline, "decode", decode)
    assert (
        main(
            [
                "standardize",
                str(tmp_path / "in"),
                str(tmp_path / "out"),
                "--model",
                str(tmp_path / "model"),
                "--steps",
                "3",
            ]
        )
        == 1
    )
    assert "DDPMScheduler with 3 steps" in capsys.readouterr().err
    assert not list((tmp_path / "out").rglob("*.dcm"))


def test_a_latent_that_is_not_finite_is_refused_in_python():
    pipe = tiny_pipeline()

    def spoil(pipe, step, timestep, tensors):
        return {"latents": torch.full_like(tensors["latents"], float("nan"))}

    with pytest.raises(ValueError, match="DDPMScheduler with 3 steps diverged"):
        pipe(HU, pixel_spacing=0.7, output_type="latent", num_inference_steps=3, callback_on_step_end=spoil)
