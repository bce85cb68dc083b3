"""All four phases end to end on the CPU at toy size."""

import json

import pytest
import torch
from accelerate.state import AcceleratorState
from helpers.scans import simulate_coarsely
from safetensors.torch import load_file

from diffusionct_pipeline import (
    AutoencoderResNet18,
    ConditionalUNet1DModel,
    DiffusionCTPipeline,
    ReferenceUNet1DModel,
    TextureAutoencoder,
)
from diffusionct_pipeline.train import (
    AutoencoderOptions,
    AutoencoderPhase,
    LatentOptions,
    LatentPhase,
    LiteralAutoencoderOptions,
    LiteralAutoencoderPhase,
    LiteralLatentOptions,
    LiteralLatentPhase,
    loop,
    train,
)

TINY = {
    "batch_size": 4, "validation_steps": 0, "checkpoint_steps": 0, "cpu": True, "ema_decay": 0.5, "warmup_steps": 1,
}  # fmt: skip
TINY_LATENT = TINY | {"block_out_channels": [32, 32], "default_steps": 2, "standard_tokens": 8}
TINY_IMAGES = TINY | {"batch_size": 2, "crop": 64, "phantom_slices": 1}
TINY_RESNET = TINY_IMAGES | {
    "latent_channels": 8, "block_out_channels": [8, 8, 8, 8, 16], "decoder_channels": [8] * 5,
}  # fmt: skip


def run(options, phase):
    AcceleratorState._reset_state(reset_partial_state=True)  # one process trains once; tests train with other settings
    return train(options, phase)


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scans")
    with pytest.MonkeyPatch.context() as patch:
        simulate_coarsely(patch, folder, groups=2)
    return folder


@pytest.fixture
def autoencoder(scans):
    def train_one(folder, **options):
        options = TINY | {"scans": str(scans), "rings": 6} | options
        return run(AutoencoderOptions(output=str(folder), **options), AutoencoderPhase)

    return train_one


@pytest.fixture
def latent(scans, trained):
    def train_one(folder, **options):
        given = {"scans": str(scans), "autoencoder": str(trained / "autoencoder")}
        if not options.get("init"):
            given |= TINY_LATENT
        return run(LatentOptions(output=str(folder), **TINY | {"default_steps": 2} | given | options), LatentPhase)

    return train_one


def literal_autoencoder(folder, **options):
    return run(LiteralAutoencoderOptions(output=str(folder), **TINY_RESNET | options), LiteralAutoencoderPhase)


def literal_latent(folder, autoencoder_folder, **options):
    options = TINY_IMAGES | {"block_out_channels": [32, 32], "default_steps": 2} | options
    options["autoencoder"] = str(autoencoder_folder / "autoencoder")
    return run(LiteralLatentOptions(output=str(folder), **options), LiteralLatentPhase)


def weights(folder):
    return load_file(folder / "diffusion_pytorch_model.safetensors")


def lines_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, scans):
    folder = tmp_path_factory.mktemp("autoencoder")
    options = TINY | {"scans": str(scans), "rings": 6, "max_steps": 6}
    run(AutoencoderOptions(output=str(folder), **options), AutoencoderPhase)
    return folder


@pytest.fixture(scope="module")
def trained_literal(tmp_path_factory):
    folder = tmp_path_factory.mktemp("literal")
    literal_autoencoder(folder, max_steps=60, learning_rate=3e-3)
    return folder


def resumed(monkeypatch, train_one, folder, steps):
    """Stopped halfway and resumed."""
    stop_after = {"step": steps // 2}
    monkeypatch.setattr(loop, "_time_left", lambda _, __, clock: clock.step < stop_after["step"])
    train_one(folder, max_steps=steps)
    stop_after["step"] = steps
    train_one(folder, max_steps=steps, resume="latest")


class TestAutoencoder:
    def test_saves_a_model_that_loads_with_the_statistics_of_its_latent(self, trained):
        model = TextureAutoencoder.from_pretrained(trained / "autoencoder")
        assert model.config.rings == 6
        power = model.channels.power
        assert (model.latent_std > 0).all() and (model.latent_mean[power] != 0).all()
        assert torch.equal(model.latent_mean[:2], torch.zeros(2)) and torch.equal(model.latent_std[:2], torch.ones(2))

    def test_one_line_of_metrics_a_step(self, trained):
        lines = lines_of(trained)
        assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
        assert all(line["loss"] == line["incoherence"] for line in lines)

    def test_resumed_run_equals_an_uninterrupted_one(self, trained, autoencoder, tmp_path, monkeypatch):
        resumed(monkeypatch, autoencoder, tmp_path, 6)
        once, twice = weights(trained / "autoencoder"), weights(tmp_path / "autoencoder")
        assert once.keys() == twice.keys()
        for name in once:
            assert torch.equal(once[name], twice[name]), name

    def test_goes_on_from_another_with_its_number_of_tokens(self, latent, tmp_path):
        latent(tmp_path / "one", max_steps=1)
        latent(tmp_path / "two", max_steps=1, init=str(tmp_path / "one/denoiser"))
        one, two = (ReferenceUNet1DModel.from_pretrained(tmp_path / name / "denoiser") for name in ("one", "two"))
        assert len(two.standard) == 8 and tuple(two.config.block_out_channels) == (32, 32)  # the defaults are others
        assert torch.equal(one.standard, two.standard) and torch.equal(one.deviation, two.deviation)

    def test_the_standard_is_positions_of_slices_at_one_dose_and_residuals_have_a_measured_deviation(
        self, latent, tmp_path
    ):
        latent(tmp_path, max_steps=1)
        denoiser = ReferenceUNet1DModel.from_pretrained(tmp_path / "denoiser")
        power = denoiser.channels.power
        assert denoiser.standard.isfinite().all() and denoiser.standard.std(0)[power].min() > 0
        assert (denoiser.deviation[power] > 0).all() and not torch.equal(denoiser.deviation[power], torch.ones(6))
        assert torch.equal(denoiser.deviation[: power.start], torch.ones(power.start))

    def test_a_regression_is_one_option_away(self, latent, tmp_path):
        assert latent(tmp_path, max_steps=1, last_step_share=1.0, default_steps=1)["loss"] > 0

    def test_learns(self, latent, tmp_path):
        latent(tmp_path, max_steps=60, learning_rate=3e-3, batch_size=8, last_step_share=1.0)
        losses = [line["loss"] for line in lines_of(tmp_path)]
        assert sum(losses[-15:]) < 0.9 * sum(losses[:15])


class TestLiteral:
    def test_learns(self, trained_literal):
        errors = [line["l2"] for line in lines_of(trained_literal)]
        assert sum(errors[-15:]) < 0.8 * sum(errors[:15])
        assert all(line["loss"] == line["l2"] for line in lines_of(trained_literal))

    def test_saves_the_papers_own_networks(self, trained_literal, tmp_path):
        literal_latent(tmp_path, trained_literal, max_steps=1)
        pipeline = DiffusionCTPipeline.from_pretrained(tmp_path)
        assert type(pipeline.autoencoder) is AutoencoderResNet18 and type(pipeline.denoiser) is ConditionalUNet1DModel
        scheduler = pipeline.scheduler.config
        assert scheduler.prediction_type == "epsilon" and scheduler.beta_schedule == "linear"
        assert not scheduler.clip_sample and not pipeline.sees_reference
        pipeline.set_progress_bar_config(disable=True)
        hu = 40 + 15 * torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
        assert pipeline(hu, 0.7).images[0].isfinite().all()

    def test_skips_can_be_left_out(self, tmp_path):
        literal_autoencoder(tmp_path, max_steps=1, skip_mode="none")
        model = AutoencoderResNet18.from_pretrained(tmp_path / "autoencoder")
        assert model.config.skip_mode == "none" and model.config.latent_channels == 8
        assert (model.latent_std > 0).all() and not torch.equal(model.latent_std, torch.ones(8))

    def test_resumed_run_equals_an_uninterrupted_one(self, trained_literal, tmp_path, monkeypatch):
        def train_one(folder, **options):
            return literal_latent(folder, trained_literal, **options)

        train_one(tmp_path / "once", max_steps=4)
        resumed(monkeypatch, train_one, tmp_path / "twice", 4)
        once, twice = (weights(tmp_path / name / "denoiser") for name in ("once", "twice"))
        assert all(torch.equal(once[name], twice[name]) for name in once)


@pytest.mark.slow
def test_validation_scores_both_phases(autoencoder, latent, tmp_path):
    for name, train_one in (("autoencoder", autoencoder), ("latent", latent)):
        summary = train_one(tmp_path / name, max_steps=1, validation_steps=1, validation_pairs=2)
        assert summary["validation"]["rmse_hu"] > 0 and 0 <= summary["validation"]["within_15_percent"] <= 1
