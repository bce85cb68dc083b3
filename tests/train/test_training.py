"""Both phases end to end on the CPU at toy size."""

import json

import pytest
import torch
from accelerate.state import AcceleratorState
from diffusionct_pipeline import AutoencoderResNet18, DiffusionCTPipeline, StyleAutoencoder
from diffusionct_pipeline.pipeline import PRETRAINED
from diffusionct_pipeline.train import AutoencoderOptions, LatentOptions, train_autoencoder, train_latent
from diffusionct_pipeline.train.latent_phase import LatentPhase, load_model
from safetensors.torch import load_file

TINY = {
    "batch_size": 2, "crop": 64, "phantom_slices": 1, "validation_steps": 0, "checkpoint_steps": 0, "cpu": True,
    "ema_decay": 0.5, "warmup_steps": 1,
}  # fmt: skip
TINY_AUTOENCODER = TINY | {
    "latent_channels": 8, "rings": 4, "block_out_channels": [8, 8, 8, 8, 16], "decoder_channels": [8] * 5,
}  # fmt: skip


def autoencoder(folder, **options):
    AcceleratorState._reset_state(reset_partial_state=True)  # one process trains once; tests train with other settings
    return train_autoencoder(AutoencoderOptions(output=str(folder), **TINY_AUTOENCODER | options))


def paper_autoencoder(folder, **options):
    AcceleratorState._reset_state(reset_partial_state=True)
    sizes = {name: value for name, value in TINY_AUTOENCODER.items() if name != "rings"}
    return train_autoencoder(AutoencoderOptions(output=str(folder), paper_literal=True, **sizes | options))


def latent(folder, autoencoder_folder, **options):
    options = {"block_out_channels": [32, 32], "default_steps": 2} | TINY | options
    return train_latent(LatentOptions(output=str(folder), autoencoder=str(autoencoder_folder), **options))


def weights(folder):
    return load_file(folder / "diffusion_pytorch_model.safetensors")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("autoencoder")
    autoencoder(folder, max_steps=6)
    return folder


class TestAutoencoder:
    def test_saves_a_model_that_loads(self, trained):
        model = StyleAutoencoder.from_pretrained(trained / "autoencoder")
        assert model.config.latent_channels == 8 and model.config.rings == 4
        assert (model.latent_std > 0).all() and not torch.equal(model.latent_std, torch.ones(8))

    def test_one_line_of_metrics_a_step(self, trained):
        lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
        assert all(line["loss"] > 0 for line in lines)

    def test_resumed_run_equals_an_uninterrupted_one(self, trained, tmp_path, monkeypatch):
        from diffusionct_pipeline.train import loop

        stop_after = {"step": 3}
        monkeypatch.setattr(loop, "_time_left", lambda _, __, clock: clock.step < stop_after["step"])
        autoencoder(tmp_path, max_steps=6)
        stop_after["step"] = 6
        autoencoder(tmp_path, max_steps=6, resume="latest")
        once, twice = weights(trained / "autoencoder"), weights(tmp_path / "autoencoder")
        assert once.keys() == twice.keys()
        for name in once:
            assert torch.equal(once[name], twice[name]), name

    def test_resume_without_checkpoint_says_so(self, tmp_path):
        with pytest.raises(ValueError, match="no checkpoint"):
            autoencoder(tmp_path, max_steps=1, resume="latest")

    def test_wall_clock_limit_stops_and_saves(self, tmp_path):
        summary = autoencoder(tmp_path, max_steps=10**6, max_seconds=0.5)
        assert 0 < summary["steps"] < 1000
        assert (tmp_path / "autoencoder" / "config.json").is_file()

    def test_learns(self, tmp_path):
        """The paper's own network: the filter of the other one knows the answer before any training."""
        paper_autoencoder(tmp_path, max_steps=60, learning_rate=3e-3)
        lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
        errors = [line["l2"] for line in lines]
        assert sum(errors[-15:]) < 0.8 * sum(errors[:15])

    def test_accumulation_and_mixed_precision(self, tmp_path):
        summary = autoencoder(tmp_path, max_steps=2, gradient_accumulation=2, mixed_precision="bf16")
        assert summary["steps"] == 2 and summary["loss"] > 0

    def test_frozen_encoder_leaves_the_latent_as_it_was(self, trained, tmp_path):
        AcceleratorState._reset_state(reset_partial_state=True)
        options = {"init": str(trained / "autoencoder"), "freeze_encoder": True, "learning_rate": 1e-2, "max_steps": 2}
        train_autoencoder(AutoencoderOptions(output=str(tmp_path), **TINY | options))
        before, after = weights(trained / "autoencoder"), weights(tmp_path / "autoencoder")
        latent_parts = ("encoder.", "to_latent.", "spectrum_to_latent.", "latent_")
        for name in before:
            if name.startswith(latent_parts):
                assert torch.equal(before[name], after[name]), name
        assert not torch.equal(before["tail.2.weight"], after["tail.2.weight"])

    def test_paper_literal(self, tmp_path):
        paper_autoencoder(tmp_path, max_steps=1, skip_mode="none")
        model = AutoencoderResNet18.from_pretrained(tmp_path / "autoencoder")
        assert model.config.skip_mode == "none"
        (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
        assert json.loads(line)["loss"] == json.loads(line)["l2"]


class TestLatent:
    def test_saves_a_pipeline_that_runs(self, trained, tmp_path):
        before = weights(trained / "autoencoder")
        summary = latent(tmp_path, trained / "autoencoder", max_steps=2)
        assert summary["steps"] == 2
        pipeline = DiffusionCTPipeline.from_pretrained(tmp_path)
        pipeline.set_progress_bar_config(disable=True)
        hu = torch.full((64, 64), 40.0) + 20 * torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
        assert pipeline(hu, 0.7).images[0].isfinite().all()
        assert pipeline.style_predictor.change[-1].weight.abs().sum() > 0  # zero at first
        after = weights(tmp_path / "autoencoder")
        assert all(torch.equal(before[name], after[name]) for name in before)  # frozen

    def test_another_denoiser_is_named_and_an_unknown_one_refused(self, trained, tmp_path):
        with pytest.raises(ValueError, match="legal are .*ConditionalUNet1DModel"):
            latent(tmp_path, trained / "autoencoder", denoiser="NoSuchModel")
        with pytest.raises(ValueError, match="has no `encode`"):
            load_model(PRETRAINED / "denoiser", "encode")

    def test_style_only_leaves_the_denoiser_as_it_was(self, trained, tmp_path):
        latent(tmp_path / "first", trained / "autoencoder", max_steps=1)
        options = TINY | {"init": str(tmp_path / "first"), "style_only": True, "learning_rate": 1e-2, "max_steps": 2}
        AcceleratorState._reset_state(reset_partial_state=True)
        train_latent(LatentOptions(output=str(tmp_path / "second"), autoencoder=str(trained / "autoencoder"), **options))
        for part, changes in (("denoiser", False), ("style_predictor", True)):
            before, after = (weights(tmp_path / run / part) for run in ("first", "second"))
            assert any(not torch.equal(before[name], after[name]) for name in before) == changes

    def test_draws_from_stored_pairs(self, trained, tmp_path):
        latent(tmp_path / "first", trained / "autoencoder", max_steps=3, stored_pairs=4)
        latent(tmp_path / "second", trained / "autoencoder", max_steps=3, stored_pairs=4)
        first, second = weights(tmp_path / "first" / "denoiser"), weights(tmp_path / "second" / "denoiser")
        assert all(torch.equal(first[name], second[name]) for name in first)
        options = LatentOptions(autoencoder=str(trained / "autoencoder"), stored_pairs=4, **TINY)
        phase = LatentPhase(options, torch.device("cpu"))
        drawn = phase.batch(torch.Generator().manual_seed(0))[0]  # [4,C,L]
        stored = phase.autoencoder.normalize(phase.stored.latents)
        assert all(any(torch.equal(one, each) for each in stored) for one in drawn)

    def test_learns_from_stored_scans(self, trained, tmp_path):
        options = {name: value for name, value in TINY.items() if name not in ("crop", "phantom_slices")}
        scans = {"stored_scans": 1, "scan_size": 64, "style_only": True, "block_out_channels": [32, 32]}
        AcceleratorState._reset_state(reset_partial_state=True)
        summary = train_latent(
            LatentOptions(output=str(tmp_path), autoencoder=str(trained / "autoencoder"), max_steps=2, **options | scans)
        )
        assert summary["loss"] > 0

    def test_paper_literal(self, tmp_path):
        paper_autoencoder(tmp_path / "autoencoder", max_steps=1)
        latent(tmp_path / "latent", tmp_path / "autoencoder" / "autoencoder", max_steps=1, paper_literal=True)
        pipeline = DiffusionCTPipeline.from_pretrained(tmp_path / "latent")
        assert type(pipeline.autoencoder) is AutoencoderResNet18 and pipeline.style_predictor is None
        assert pipeline.denoiser.config.condition_channels == 0
        assert pipeline.scheduler.config.prediction_type == "epsilon" and not pipeline.scheduler.config.clip_sample
        pipeline.set_progress_bar_config(disable=True)
        assert pipeline(torch.full((64, 64), 40.0), 0.7).images[0].isfinite().all()

    def test_a_fixed_target_on_a_style_autoencoder(self, trained, tmp_path):
        latent(tmp_path, trained / "autoencoder", max_steps=1, fixed_target=True)
        pipeline = DiffusionCTPipeline.from_pretrained(tmp_path)
        assert pipeline.style_predictor is None and type(pipeline.autoencoder) is StyleAutoencoder


@pytest.mark.slow
def test_validation_scores_the_whole_pipeline(trained, tmp_path):
    summary = latent(tmp_path, trained / "autoencoder", max_steps=1, validation_steps=1, validation_pairs=2)
    assert summary["validation"]["rmse_hu"] > 0 and 0 <= summary["validation"]["within_15_percent"] <= 1
