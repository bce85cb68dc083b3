"""What makes each trained rival itself, and what all of them do, at sizes of milliseconds."""

import itertools
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from helpers.tiny_systems import TINY, noise_hu, tiny_system
from safetensors.torch import save_file

from diffusionct_pipeline.comparison.systems import TRAINABLE, EncoderDecoder, System, load_system
from diffusionct_pipeline.comparison.systems import ddpm as ddpm_module
from diffusionct_pipeline.comparison.systems import ganai as ganai_module
from diffusionct_pipeline.comparison.systems.networks import (
    ImagePool,
    PatchDiscriminator,
    ResNetGenerator,
    VGG19Features,
)
from diffusionct_pipeline.comparison.systems.radiomicgan import WINDOWS
from diffusionct_pipeline.comparison.systems.stitching import stitched
from diffusionct_pipeline.comparison.systems.uda_ct import Reversal
from diffusionct_pipeline.comparison.training import SystemOptions, SystemPhase, system_phase, train_system
from diffusionct_pipeline.models import AutoencoderResNet18
from diffusionct_pipeline.train import loop, train

SPACING, CROP = 0.7, 64


def training(name):
    return tiny_system(name).make_training(CROP)


def batch(count=3, seed=0):
    images = torch.randn(2, count, 1, CROP, CROP, generator=torch.Generator().manual_seed(seed)) * 100
    return images[0], images[1]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def options(name, folder, **more):
    network = [f"{key}={json.dumps(value)}" for key, value in TINY[name].items()]
    settings = {
        "batch_size": 2, "crop": CROP, "phantom_slices": 0, "max_steps": 2, "validation_steps": 0,
        "checkpoint_steps": 0, "cpu": True, "ema_decay": 0.5, "warmup_steps": 1,
    }  # fmt: skip
    return SystemOptions(system=name, network=network, output=str(folder), **settings | more)


def run(*args, **more):
    AcceleratorState._reset_state(reset_partial_state=True)  # one process trains once; tests train several times
    return train(options(*args, **more), SystemPhase)


def test_every_trained_system_is_tested():
    assert TINY.keys() == TRAINABLE.keys()


@pytest.mark.parametrize("name", TRAINABLE)
class TestEverySystem:
    def test_any_size_in_the_same_size_out(self, name):
        system = tiny_system(name)
        assert isinstance(system, System) and system.target_kernel == "Bl64" and system.fit([]) is system
        for shape in ((50, 97), (32, 32)):
            hu = noise_hu(1, shape)
            before = hu.copy()
            output = system.standardize(hu, SPACING)
            assert output.shape == shape and output.dtype == np.float32 and np.isfinite(output).all()
            np.testing.assert_array_equal(hu, before)

    def test_trains_saves_and_loads(self, name, tmp_path):
        summary = run(name, tmp_path)
        assert math.isfinite(summary["loss"]) and summary["steps"] == 2
        first, again = load_system(name, tmp_path), load_system(name, tmp_path)
        assert all(p.isfinite().all() for p in first.parameters())
        np.testing.assert_array_equal(*(system.standardize(noise_hu(1), SPACING) for system in (first, again)))
        first.save_pretrained(tmp_path / "copy")
        copy = load_system(name, tmp_path / "copy")
        np.testing.assert_array_equal(*(system.standardize(noise_hu(1), SPACING) for system in (first, copy)))

    def test_every_turn_trains_what_is_its_own(self, name):
        objective = training(name)
        optimizers = objective.optimizers(1e-3)
        owners = [{id(p) for group in each.param_groups for p in group["params"]} for each in optimizers.values()]
        assert len(set.union(*owners)) == sum(map(len, owners))
        saved = {id(p) for p in objective.system.parameters() if p.requires_grad}
        assert saved <= set.union(*owners)
        for turn, optimizer in optimizers.items():
            objective.turns(0.5)
            losses = objective(*batch(), generator(), turn)
            losses["loss"].backward()
            assert all(value.isfinite() for value in losses.values())
            assert any(p.grad is not None and p.grad.any() for group in optimizer.param_groups for p in group["params"])


def test_resumed_gan_equals_an_uninterrupted_one(tmp_path, monkeypatch):
    run("CycleGAN", tmp_path / "once", max_steps=4)
    monkeypatch.setattr(loop, "_time_left", lambda _, __, clock: clock.step < 2)
    run("CycleGAN", tmp_path / "twice", max_steps=4)
    monkeypatch.undo()
    run("CycleGAN", tmp_path / "twice", max_steps=4, resume="latest")
    once, twice = (load_system("CycleGAN", tmp_path / name).state_dict() for name in ("once", "twice"))
    assert all(torch.equal(once[name], twice[name]) for name in once)


class TestValidation:
    @pytest.fixture
    def scored(self, monkeypatch):
        """Validation gives these scores, one after the other."""

        def script(*scores):
            left = list(scores)

            class Scripted:
                def __init__(self, count):
                    assert count > 0

                def score(self, standardize):
                    assert standardize(noise_hu(0, (64, 64)), SPACING, None).shape == (64, 64)
                    return {"rmse_hu": 1.0, "within_15_percent": left.pop(0)}

            monkeypatch.setattr(system_phase, "ValidationSet", Scripted)

        return script

    @pytest.mark.parametrize(("scores", "best"), [((0.2, 0.9, 0.1, 0.3), 2), ((0.2, 0.1, 0.1, 0.3), 4)])
    def test_the_best_is_saved(self, scored, tmp_path, monkeypatch, scores, best):
        scored(*scores)
        seen = []
        validate = SystemPhase.validate

        def watched(phase, objective):
            seen.append({name: value.clone() for name, value in objective.system.state_dict().items()})
            return validate(phase, objective)

        monkeypatch.setattr(SystemPhase, "validate", watched)
        run("pix2pix", tmp_path, max_steps=3, validation_steps=1)
        saved = load_system("pix2pix", tmp_path).state_dict()
        assert all(torch.equal(saved[name], seen[best - 1][name]) for name in saved)
        summary = json.loads((tmp_path / "metrics.json").read_text())["system"]
        assert summary["validation"]["within_15_percent"] == max(scores)
        assert summary["parameters"] == sum(value.numel() for value in tiny_system("pix2pix").parameters())


def test_a_system_without_training_is_fitted_by_the_same_script(tmp_path, monkeypatch):
    pair = SimpleNamespace(hu={"Br40": noise_hu(0), "Bl64": 2 * noise_hu(0)}, spacing_mm=SPACING)
    monkeypatch.setattr(system_phase, "fitting_pairs", lambda: [pair])
    train_system(SystemOptions(system="band energies", output=str(tmp_path)))
    output = load_system("band energies", tmp_path).standardize(noise_hu(0), SPACING)
    assert output.std() == pytest.approx(pair.hu["Bl64"].std(), rel=0.01)
    assert json.loads((tmp_path / "metrics.json").read_text())["system"]["steps"] == 0


def test_the_best_of_another_run_is_forgotten(tmp_path):
    (tmp_path / "best").mkdir()
    SystemPhase(options("pix2pix", tmp_path, resume="latest"), torch.device("cpu"))
    assert (tmp_path / "best").is_dir()
    SystemPhase(options("pix2pix", tmp_path), torch.device("cpu"))
    assert not (tmp_path / "best").exists()


class TestGANai:
    def test_alternates_and_is_never_stuck(self, monkeypatch):
        monkeypatch.setattr(ganai_module, "LONGEST_PHASE", 3)
        objective, turns = training("GANai"), []
        for _ in range(12):
            turns += objective.turns(0.0)
        assert turns == (["discriminator"] * 3 + ["generator"] * 3) * 2

    def test_no_phase_takes_more_than_its_share_of_a_short_budget(self):
        objective, turns = training("GANai"), []
        for step in range(40):
            turns += objective.turns(step / 40)
        assert max(len(list(phase)) for _, phase in itertools.groupby(turns)) == 3

    def test_a_phase_that_is_won_ends(self):
        objective = training("GANai")
        assert objective.turns(0.0) == ("discriminator",)
        objective.won.fill_(True)
        assert objective.turns(0.0) == ("generator",) and not objective.won
        assert objective.turns(0.0) == ("generator",)

    @pytest.mark.parametrize(("share_of_old", "won"), [(0.0, True), (1.0, False)])
    def test_discriminators_have_won_when_they_tell_both(self, monkeypatch, share_of_old, won):
        monkeypatch.setattr(ganai_module, "PREVIOUS_GENERATOR_SHARE", share_of_old)
        objective = training("GANai")
        x, y = (torch.zeros(1, 1, CROP, CROP), torch.ones(1, 1, CROP, CROP))
        certain = torch.full((1, 1, 2, 2), 9.0)
        of_real = [True, False]
        monkeypatch.setattr(objective, "scores", lambda *_: (certain,) * 2 if of_real.pop(0) else (-certain,) * 2)
        objective.discriminators(x, y, generator())
        assert objective.won == won  # never by an old generator's fakes

    def test_the_generator_must_fool_the_previous_discriminators_too(self, monkeypatch):
        objective = training("GANai")
        x = torch.zeros(1, 1, CROP, CROP)
        monkeypatch.setattr(objective, "scores", lambda *_: (torch.full((1, 1, 2, 2), 9.0, requires_grad=True),) * 2)
        objective.generators(x, x)
        assert not objective.won  # the previous ones give one half
        for number in (1, 2):
            torch.nn.init.constant_(objective.previous[number].score.bias, 9.0)
        objective.generators(x, x)
        assert objective.won

    def test_hard_pairs_go_to_the_discriminators(self, monkeypatch):
        objective, seen = training("GANai"), {}
        x, y = batch(3)
        y[0], y[1] = x[0], x[1] + 20  # easy, average
        y[2] = torch.randn(y[2].shape, generator=generator(5)) * 800 + 900
        for name in ("discriminators", "generators"):
            monkeypatch.setattr(objective, name, lambda a, b, *_, name=name: seen.setdefault(name, b))
        for turn in ("discriminator", "generator"):
            objective(x, y, generator(), turn)
        scaled = ganai_module.CT_RANGE.scaled(y)
        torch.testing.assert_close(seen["discriminators"], scaled[2:])
        torch.testing.assert_close(seen["generators"], scaled[:1])


class TestSTANCT:
    def test_latent_loss_of_the_target_itself_is_0(self):
        objective = training("STAN-CT")
        x, y = batch()
        assert objective.latent_loss(y, y) == 0 and objective.latent_loss(x, y) > 0

    def test_the_discriminator_makes_the_feature_loss_large_and_the_generator_small(self):
        objective = training("STAN-CT")
        x, y = (ganai_module.CT_RANGE.scaled(image) for image in batch())
        of_d, of_g = objective.discriminators(x, y, generator()), objective.generators(x, y)
        gradients = [
            torch.autograd.grad(loss, objective.conditional.blocks[1][0].weight, retain_graph=True)[0]
            for loss in (of_d["loss"], of_d["loss"] + of_d["feature"], of_d["feature"])
        ]
        torch.testing.assert_close(gradients[0], gradients[1] - gradients[2])
        assert of_g["feature"] > 0 and of_g["loss"] > of_g["feature"]

    @pytest.mark.parametrize("shape", [(50, 97), (128, 128), (200, 131)])
    def test_stitching_what_is_not_changed_changes_nothing(self, shape):
        image = torch.from_numpy(noise_hu(0, shape))[None, None]
        torch.testing.assert_close(stitched(lambda patch: patch, image, 64, 32), image, rtol=1e-5, atol=1e-3)


class TestRadiomicGAN:
    def test_four_windows_on_the_same_weights(self):
        objective = training("RadiomicGAN")
        weights, windows = [id(p) for p in objective.parameters()], []
        for done in (0.0, 0.24, 0.25, 0.5, 0.75, 1.0):
            objective.turns(done)
            windows.append((objective.window.low, objective.window.high))
        assert windows == [(-1024, -769), (-1024, -769), (-1024, -513), (-1024, -1), (-1024, 476), (-1024, 476)]
        assert [id(p) for p in objective.parameters()] == weights

    def test_what_the_window_clips_is_given_back(self):
        system = tiny_system("RadiomicGAN")
        hu = torch.zeros(1, 1, CROP, CROP)
        hu[..., 0, 0], hu[..., 0, 1] = 2000.0, -2000.0
        clipped = hu.clamp(WINDOWS[-1].low, WINDOWS[-1].high)
        torch.testing.assert_close(system.translate(hu), system.translate(clipped) + hu - clipped)

    def test_pretrained_weights_are_taken_and_said(self, tmp_path):
        file = tmp_path / "vgg.safetensors"
        weights = dict(VGG19Features(4).named_parameters())
        save_file({name: torch.full_like(value, 0.01) for name, value in weights.items()}, file)
        phase = SystemPhase(options("RadiomicGAN", tmp_path, vgg=str(file)), torch.device("cpu"))
        system = phase.objective.system
        assert (system.encoder.features[0].weight == 0.01).all() and system.remark == ""
        assert not any(p.requires_grad for p in system.encoder.parameters())
        assert tiny_system("RadiomicGAN").remark == tiny_system("CVH-CT").remark == "random VGG-19"

    def test_pretrained_weights_of_a_system_without_vgg_are_refused(self, tmp_path):
        with pytest.raises(ValueError, match="no VGG-19"):
            SystemPhase(options("pix2pix", tmp_path, vgg="file"), torch.device("cpu"))


class TestCVHCT:
    def test_attention_starts_as_the_identity(self):
        attention = tiny_system("CVH-CT").generator.attention
        hidden = torch.randn(1, 32, 8, 8, generator=generator())
        assert attention.gamma == 0 and torch.equal(attention(hidden), hidden)
        torch.nn.init.constant_(attention.gamma, 1.0)
        assert not torch.equal(attention(hidden), hidden)
        assert not isinstance(ResNetGenerator(4, 1).attention, type(attention))

    def test_domain_loss_compares_with_the_mean_of_the_domain(self):
        objective = training("CVH-CT")
        mean = objective.domains["target"]
        grams = [torch.rand(2, width, width, generator=generator()) for width in objective.vgg.widths]
        mean.see([each.mean(0, keepdim=True) for each in grams])
        assert mean.distance([each.mean(0, keepdim=True) for each in grams]) == pytest.approx(0, abs=1e-5)
        assert mean.distance([2 * each.mean(0, keepdim=True) for each in grams]) == pytest.approx(1, abs=1e-4)


class TestUDACT:
    def test_the_gradient_is_reversed(self):
        values = torch.randn(3, requires_grad=True)
        (Reversal.apply(values, 0.25) * 2).sum().backward()
        assert torch.equal(values.grad, torch.full((3,), -0.5))

    def test_lambda_goes_from_0_to_1(self):
        objective, strengths = training("UDA-CT"), []
        for done in (0.0, 0.5, 1.0):
            objective.turns(done)
            strengths.append(objective.reversal)
        assert strengths[0] == 0 and strengths == sorted(strengths) and strengths[-1] == pytest.approx(1, abs=1e-3)

    def test_half_of_a_batch_are_pairs(self, tmp_path):
        phase = SystemPhase(options("UDA-CT", tmp_path, batch_size=4), torch.device("cpu"))
        assert correlations(*phase.batch(generator())[:2]) == [True, True, False, False]

    def test_a_batch_of_one_has_no_half(self, tmp_path):
        with pytest.raises(ValueError, match="half of a batch"):
            options("UDA-CT", tmp_path, batch_size=1)


def correlations(source, target):
    """Whether the images of each pair show the same anatomy."""
    return [torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].item() > 0.6 for a, b in zip(source, target)]


class TestPairs:
    def test_cyclegan_never_sees_pairs(self, tmp_path):
        phase = SystemPhase(options("CycleGAN", tmp_path, batch_size=4), torch.device("cpu"))
        assert correlations(*phase.batch(generator())[:2]) == [False] * 4

    def test_others_do(self, tmp_path):
        phase = SystemPhase(options("pix2pix", tmp_path, batch_size=4), torch.device("cpu"))
        assert correlations(*phase.batch(generator())[:2]) == [True] * 4

    def test_ganai_draws_three_to_choose_from(self, tmp_path):
        phase = SystemPhase(options("GANai", tmp_path, batch_size=2), torch.device("cpu"))
        assert len(phase.batch(generator())[0]) == 6


class TestDDPM:
    def test_failed_slices_are_counted(self, monkeypatch):
        system, hu = tiny_system("DDPM"), noise_hu(0)
        system.standardize(hu, SPACING)
        system.failed = 0
        assert system.slices == 1 and system.remark == ""
        monkeypatch.setattr(ddpm_module, "has_failed", lambda *_: True)
        system.standardize(hu, SPACING)
        assert (system.failed, system.slices) == (1, 2) and system.remark == "1 of 2 slices failed"

    def test_a_slice_fails_by_its_slow_content(self):
        hu = torch.from_numpy(noise_hu(0))
        assert not ddpm_module.has_failed(hu + torch.from_numpy(noise_hu(1)), hu)  # noise is texture
        assert ddpm_module.has_failed(hu + 60, hu) and ddpm_module.has_failed(hu * math.nan, hu)

    def test_the_seed_decides(self):
        system, hu = tiny_system("DDPM"), noise_hu(0)
        first = system.standardize(hu, SPACING)
        np.testing.assert_array_equal(system.standardize(hu, SPACING), first)
        system.seed = 1
        assert not np.array_equal(system.standardize(hu, SPACING), first)


class TestEncoderDecoder:
    def test_any_size_saved_and_loaded(self, tmp_path):
        torch.manual_seed(0)
        system = EncoderDecoder(AutoencoderResNet18(8, (8, 8, 8, 8, 16), decoder_channels=(8,) * 5))
        output = system.fit([]).standardize(noise_hu(0), SPACING)
        assert isinstance(system, System) and output.shape == (50, 97) and output.dtype == np.float32
        system.save_pretrained(tmp_path)
        np.testing.assert_array_equal(
            load_system("encoder-decoder", tmp_path).standardize(noise_hu(0), SPACING), output
        )


class TestSharedParts:
    def test_pool_gives_old_fakes_and_keeps_new_ones(self):
        pool, draw = ImagePool(3, 8), generator()
        first = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 1, 8, 8)
        assert torch.equal(pool(first, draw), first)  # it fills
        later = [pool(torch.full((1, 1, 8, 8), 10.0 + i), draw)[0, 0, 0, 0].item() for i in range(20)]
        assert any(value < 10 for value in later) and any(value == 10 + i for i, value in enumerate(later))

    def test_a_score_sees_70_pixels(self):
        critic = PatchDiscriminator(1, 4).eval()
        for block in critic.blocks:
            block[1] = torch.nn.Identity()  # statistics see everything
        image = torch.zeros(1, 1, 256, 256, requires_grad=True)
        scores = critic(image)
        scores[0, 0, scores.shape[2] // 2, scores.shape[3] // 2].backward()
        rows = image.grad[0, 0].any(1).nonzero()
        assert rows.max() - rows.min() + 1 == 70

    def test_foreign_folders_are_refused_by_name(self, tmp_path):
        tiny_system("pix2pix").save_pretrained(tmp_path)
        with pytest.raises(ValueError, match="Pix2Pix.*not a GANai"):
            load_system("GANai", tmp_path)
        with pytest.raises(ValueError, match="must be one of 'input'"):
            load_system("GAN", tmp_path)
        with pytest.raises(ValueError, match="`model` is missing; GANai needs the folder that training/train_system"):
            load_system("GANai")
        with pytest.raises(
            ValueError, match="histogram matching needs a folder that `save_pretrained` wrote after `fit`"
        ):
            load_system("histogram matching")
        with pytest.raises(ValueError, match="`model` must be the folder"):  # and nothing is looked for on the Hub
            load_system("GANai", "user/repo")
