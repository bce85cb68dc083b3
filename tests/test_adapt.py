"""A checkpoint adapted to a site: what pairs tell it, what is refused, what is written."""

import json
import shutil

import numpy as np
import pytest
import torch
from helpers.dicom import make_slice, save
from helpers.tiny import tiny_pipeline

from diffusionct_pipeline import DiffusionCTPipeline
from diffusionct_pipeline.adapt import pairs as adapt
from diffusionct_pipeline.adapt.folders import adapt_folders
from diffusionct_pipeline.adapt.pairs import Adaptation, SlicePair, _calibrated, _folds, _with_standard
from diffusionct_pipeline.commands._main import main
from diffusionct_pipeline.image_processor import CTImageProcessor
from diffusionct_pipeline.metrics.texture import TextureAgreement

SIZE = 96


def tissue(seed, deviation):
    return np.random.default_rng(seed).normal(40, deviation, (SIZE, SIZE)).round()


def slices(*hu):
    return CTImageProcessor().load(np.stack(hu), 0.7)


@pytest.fixture
def pipe():
    torch.manual_seed(0)
    return tiny_pipeline()


@pytest.fixture
def pairs():
    return [SlicePair(*slices(tissue(i, 20), tissue(i, 60))) for i in range(3)]


@pytest.fixture
def folders(tmp_path):
    """Two series of one scan."""
    for series, (name, deviation) in enumerate((("soft", 20), ("sharp", 60)), start=1):
        (tmp_path / name).mkdir()
        for i in range(3):
            one = make_slice(tissue(i, deviation), number=i + 1, series=series, ConvolutionKernel=f"K{series}")
            save(one, tmp_path / name / f"{i}.dcm")
    return tmp_path / "soft", tmp_path / "sharp"


@pytest.fixture
def checkpoint(tmp_path, pipe):
    pipe.save_pretrained(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


class TestWhatPairsTell:
    def test_the_true_change_and_how_far_the_sampled_one_is_to_be_believed(self, pipe, pairs, monkeypatch):
        """What is sampled has three times the scatter of the truth, and too much of it."""
        site = _with_standard(pipe, [pair.target for pair in pairs], "K2")

        def sampled(of, item):
            (pair,) = (pair for pair in pairs if pair.source is item)
            before, after = (site.encode_batch([one]).latent_a[0] for one in (item, pair.target))
            return 3 * (after - before) + 6

        monkeypatch.setattr(adapt, "_sampled_residual", sampled)
        monkeypatch.setattr(adapt, "DOUBT", 1e-3)
        shift, residual, weight = _calibrated(site, pairs).denoiser.calibration[..., 0]
        torch.testing.assert_close(weight, torch.full_like(weight, 1 / 3), atol=0.02, rtol=0)
        torch.testing.assert_close(residual, 3 * shift + 6, atol=1e-3, rtol=0)
        power = site.denoiser.channels.power
        changes = [
            site.encode_batch([pair.target]).latent_a - site.encode_batch([pair.source]).latent_a for pair in pairs
        ]
        torch.testing.assert_close(shift, torch.cat(changes)[:, power].mean((0, 2)), atol=0.02, rtol=0)

    def test_without_evidence_the_scatter_of_the_network_is_believed(self, pipe, pairs, monkeypatch):
        monkeypatch.setattr(adapt, "DOUBT", 1e9)
        weight = _calibrated(_with_standard(pipe, [pairs[0].target], "K2"), pairs[:1]).denoiser.calibration[2]
        torch.testing.assert_close(weight, torch.ones_like(weight), atol=1e-3, rtol=0)

    def test_the_step_to_the_standard_is_that_of_the_pairs_and_to_others_the_rule_s(self, pipe, pairs):
        adapted = adapt.adapted_pipeline(pipe, pairs, standard_name="K2")
        source = adapted.estimate([pairs[0].source])
        step = adapted.step(source, adapted.resolve_target())
        torch.testing.assert_close(step.shift, adapted.denoiser.calibration[0].T)
        assert step.noise == "keep"
        reference = adapted.resolve_target(references=[pairs[0].target])
        assert not torch.equal(adapted.step(source, reference).shift, step.shift)


class TestFolds:
    @pytest.mark.parametrize("count", [2, 3, 4, 9])
    def test_every_pair_is_judged_once_by_a_trial_of_others(self, pairs, count):
        many = [SlicePair(pair.source, pair.target) for pair in (pairs * 3)[:count]]
        folds = _folds(many)
        assert sorted(map(id, sum((judged for _, judged in folds), []))) == sorted(map(id, many))
        assert all(len(kept) + len(judged) == count and not set(kept) & set(judged) for kept, judged in folds)

    def test_one_is_cut_in_two(self, pairs):
        half = SIZE // 2
        rows = [(kept.rows, judged.rows) for (kept,), (judged,) in _folds(pairs[:1])]
        assert rows == [((0, half), (half, None)), ((half, None), (0, half))]

    def test_slices_that_do_not_lie_on_each_other_are_refused(self):
        with pytest.raises(ValueError, match=r"\(96, 96\) pixels of 0.7 mm and \(64, 96\)"):
            SlicePair(*slices(tissue(0, 20)), *CTImageProcessor().load(tissue(0, 20)[:64], 0.7))


class TestJudgement:
    @staticmethod
    def of(adapted, before, squares, given=0.0):
        """Ten figures of each square, so many of them right."""
        target = np.ones((len(adapted), 10))

        def agreement(shares):
            wrong = np.arange(10)[None] >= 10 * np.array(shares)[:, None]
            return TextureAgreement(target + wrong, target)

        scores = {
            "adapted": agreement(adapted),
            "before": agreement(before),
            "input": agreement([given] * len(adapted)),
        }
        return Adaptation(None, scores, squares)

    def test_worse_on_every_slice_is_worse(self):
        assert self.of([0.5] * 6, [0.8] * 6, [2, 2, 2]).worse_than() == "before"

    def test_worse_on_one_of_several_slices_is_chance(self):
        assert self.of([0.2] * 8 + [0.9] * 3, [0.8] * 11, [8, 1, 1, 1]).worse_than() == ""

    def test_worse_than_nothing_done(self):
        assert self.of([0.5] * 6, [0.4] * 6, [3, 3], given=0.9).worse_than() == "input"

    def test_as_good_is_not_worse(self):
        assert self.of([0.8] * 6, [0.8] * 6, [3, 3]).worse_than() == ""


class TestAdapt:
    def test_the_site_s_target_is_the_standard_and_the_checkpoint_is_left_alone(self, pipe, pairs):
        before = {name: weight.clone() for name, weight in pipe.denoiser.state_dict().items()}
        adapted = adapt.adapt(pipe, pairs, standard_name="Mine")
        assert adapted.pipe.config.standard_name == "Mine" and adapted.pipe.denoiser.is_calibrated
        assert set(adapted.scores) == {"input", "before", "adapted"} and len(adapted.squares) == len(pairs)
        assert all(torch.equal(weight, before[name]) for name, weight in pipe.denoiser.state_dict().items())
        assert not pipe.denoiser.is_calibrated

    def test_unpaired_it_follows_the_texture_alone(self, pipe, pairs):
        adapted = adapt.adapt(pipe, [], [pair.target for pair in pairs])
        assert not adapted.scores and adapted.worse_than() == ""
        assert not adapted.pipe.denoiser.is_calibrated
        tokens = pipe.estimate([pair.target for pair in pairs]).tokens.float()
        torch.testing.assert_close(adapted.pipe.denoiser.standard, pipe.autoencoder.normalize(tokens.T[None])[0].T)

    def test_a_reference_still_rules(self, pipe, pairs):
        adapted = adapt.adapt(pipe, [], [pair.target for pair in pairs]).pipe
        hu, reference = tissue(5, 20), tissue(6, 90)
        given = {"reference": reference, "reference_pixel_spacing": 0.7}
        np.testing.assert_array_equal(adapted(hu, 0.7, **given).images[0], pipe(hu, 0.7, **given).images[0])

    def test_needs_a_target(self, pipe):
        with pytest.raises(ValueError, match="`pairs` and `targets` must hold at least one"):
            adapt.adapt(pipe, [])


class TestFolders:
    def test_writes_a_checkpoint_that_loads(self, folders, checkpoint, tmp_path, capsys):
        soft, sharp = map(str, folders)
        chosen = ["--source", soft, "--target", sharp, "--model", str(checkpoint)]
        assert main(["adapt", *chosen, "--out", str(tmp_path / "out")]) == 0
        printed = capsys.readouterr().out
        assert "3 of 3 pairs of slices were used" in printed and "standard is K2" in printed
        loaded = DiffusionCTPipeline.from_pretrained(tmp_path / "out")
        loaded.set_progress_bar_config(disable=True)
        assert loaded.config.standard_name == "K2" and loaded.denoiser.is_calibrated
        assert not np.array_equal(loaded(tissue(5, 20), 0.7).images[0], tiny_pipeline()(tissue(5, 20), 0.7).images[0])
        written = "".join(path.read_text() for path in (tmp_path / "out").rglob("*") if path.suffix in (".json", ".md"))
        assert str(tmp_path) not in written
        assert json.loads((tmp_path / "out/metrics.json").read_text())["adapted"] == {"standard": "K2", "pairs": 3}

    def test_what_got_worse_is_not_written(self, folders, checkpoint, tmp_path, monkeypatch):
        monkeypatch.setattr(adapt.Adaptation, "worse_than", lambda self: "before")
        with pytest.raises(ValueError, match="worse than the original"):
            adapt_folders([folders[0]], [folders[1]], tmp_path / "out", model=checkpoint)
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        ("sources", "targets", "options", "message"),
        [
            (["soft"], [], {}, "1 sources and 0 targets"),
            ([], ["sharp"], {}, "0 sources and 1 targets"),
            (["soft"], ["sharp"], {"unpaired": True}, "targets and no sources"),
            (["soft"], ["elsewhere"], {}, "share no slice position"),
            (
                ["soft"],
                ["soft"],
                {},
                r'"\S+/soft" and "\S+/soft" must be two series of one scan, but both hold series \S+',
            ),
            (
                ["soft"],
                ["copy"],
                {},
                r'"\S+/soft" and "\S+/copy" must be two series of one scan, but both hold series \S+',
            ),
        ],
    )
    def test_what_cannot_be_a_pair_is_refused(self, folders, checkpoint, tmp_path, sources, targets, options, message):
        (tmp_path / "elsewhere").mkdir()
        save(make_slice(tissue(0, 20), ImagePositionPatient=[-10, -10, 900.0]), tmp_path / "elsewhere/1.dcm")
        shutil.copytree(folders[0], tmp_path / "copy")
        named = lambda names: [tmp_path / name for name in names]  # noqa: E731
        with pytest.raises(ValueError, match=message):
            adapt_folders(named(sources), named(targets), tmp_path / "out", model=checkpoint, **options)
        assert not (tmp_path / "out").exists()

    def test_an_output_that_is_there_is_left_alone(self, folders, checkpoint):
        with pytest.raises(FileExistsError, match="exists already"):
            adapt_folders([folders[0]], [folders[1]], folders[0], model=checkpoint)

    def test_a_place_that_cannot_be_written_to_is_refused_before_the_work(self, folders, tmp_path, monkeypatch):
        monkeypatch.setattr("diffusionct_pipeline.adapt.folders.load_pipeline", lambda model: pytest.fail("it worked"))
        (tmp_path / "file").write_text("")
        with pytest.raises(OSError, match='file" is a file; the output must be a folder'):
            adapt_folders([folders[0]], [folders[1]], tmp_path / "file/out")
