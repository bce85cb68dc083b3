"""The study end to end at tiny sizes: what it writes, that it goes on, and that it says the same twice."""

import ast
import csv
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from helpers.dicom import make_slice, save
from helpers.scans import coarse_phantom, coarse_scanner
from helpers.tiny import tiny_pipeline

from diffusionct_pipeline import pipeline
from diffusionct_pipeline.commands._main import main
from diffusionct_pipeline.comparison.study import StudyOptions, code, measuring, run_study, test_sets
from diffusionct_pipeline.comparison.study.report import verdicts
from diffusionct_pipeline.comparison.study.rows import REPEAT_SCAN, ROWS, ScanRow, SystemRow, training_seconds
from diffusionct_pipeline.comparison.study.test_sets import PROTOCOLS, ScanStore, pair_sets, phantom_set
from diffusionct_pipeline.comparison.systems import ALL_SYSTEMS
from diffusionct_pipeline.metrics.agreement import agreement_by_class
from diffusionct_pipeline.radiomics import feature_names
from diffusionct_pipeline.simulation import tumour_pairs
from diffusionct_pipeline.simulation.splits import IMAGE_PAIRS, TEST

SYSTEMS = [
    "input", "linear filter, power", "pix2pix", "U-Net, L1, leaky split", "DiffusionCT", "DiffusionCT, pooled style", "repeat scan",
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def tiny_checkpoint(tmp_path_factory):
    """Takes the place of the embedded one."""
    folder = tmp_path_factory.mktemp("checkpoint")
    tiny_pipeline().save_pretrained(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "PRETRAINED", folder)
        patch.setattr(tumour_pairs, "ChestPhantom", coarse_phantom)
        patch.setattr(test_sets, "Scanner", coarse_scanner)
        yield


@pytest.fixture(scope="module")
def options():
    return replace(StudyOptions(systems=SYSTEMS).quick(), any_to_any=1)


@pytest.fixture(scope="module")
def study(options, tmp_path_factory):
    """Folder and result."""
    out = tmp_path_factory.mktemp("study")
    return out, run_study(out, options)


def tables(folder):
    return {path.name: path.read_text() for path in folder.glob("*.csv") if not path.name.startswith("images")}


class TestRunStudy:
    def test_every_row_on_every_set(self, study):
        out, result = study
        assert [test_set.name for test_set in result.test_sets] == [protocol.name for protocol in PROTOCOLS]
        for rows in result.rows.values():
            assert list(rows) == [name for name in ROWS if name in SYSTEMS]
        report = (out / "report.md").read_text()
        for name in re.findall(r"\]\((.*?)\)", report):
            assert (out / name).is_file()
        for test_set in result.test_sets:
            assert f"## {test_set.name}" in report
            assert (out / f"table1_{test_set.stem}.csv").is_file() and (
                out / f"table1_{test_set.stem}_pooled.tex"
            ).is_file()

    def test_says_the_same_twice_and_measures_nothing_again(self, study, options, monkeypatch):
        out, _ = study
        before = tables(out)
        monkeypatch.setattr(measuring, "_measure", lambda *_: pytest.fail("measured again"))
        monkeypatch.setattr(ScanStore, "_scan", lambda *_: pytest.fail("scanned again"))
        run_study(out, options)
        assert tables(out) == before and before

    def test_goes_on_after_a_kill(self, study, options, tmp_path, monkeypatch):
        out, _ = study
        options = replace(options, trained=out / "systems", budget_seconds=0)
        (tmp_path / "kept").mkdir()
        (tmp_path / "kept/scans").symlink_to(out / "kept/scans")
        whole, calls = measuring._measure, []

        def measure(row, case):
            if len(calls) == 7:
                raise KeyboardInterrupt
            calls.append(case.name)
            return whole(row, case)

        monkeypatch.setattr(measuring, "_measure", measure)
        with pytest.raises(KeyboardInterrupt):
            run_study(tmp_path, options)
        assert not (tmp_path / "report.md").exists()
        first, kept = len(calls), len(list((tmp_path / "kept/measured").iterdir()))
        monkeypatch.setattr(measuring, "_measure", lambda *of: calls.append("") or whole(*of))
        run_study(tmp_path, options)
        assert first == kept == 7 and len(calls) == len(list((tmp_path / "kept/measured").iterdir()))
        assert tables(tmp_path) == tables(out)

    def test_what_time_was_too_short_for_is_named_and_left_out(self, study, options, tmp_path):
        options = replace(options, trained=study[0] / "systems", budget_seconds=0, any_to_any=0, sets=["phantom 5 mm"])
        (tmp_path / "kept").mkdir()
        (tmp_path / "kept/scans").symlink_to(study[0] / "kept/scans")
        nothing = run_study(tmp_path, replace(options, max_seconds=0))
        assert nothing.rows == {"phantom 5 mm": {}}
        run_study(tmp_path, replace(options, systems=["input", "DiffusionCT"]))
        result = run_study(tmp_path, replace(options, max_seconds=0))
        missing = [name for name in ROWS if name in SYSTEMS and name not in ("input", "DiffusionCT")]
        assert list(result.rows["phantom 5 mm"]) == ["input", "DiffusionCT"]
        assert result.unfinished == {"phantom 5 mm": missing}
        assert f"Not finished: {'; '.join(missing)}." in (tmp_path / "report.md").read_text()

    def test_features_are_all_there(self, study):
        out, result = study
        stem = result.test_sets[0].stem
        with open(out / f"features_{stem}.csv", newline="") as file:
            head, *lines = csv.reader(file)
        assert head[2:] == list(feature_names())
        assert len(lines) == (len(SYSTEMS) + 1) * len(result.test_sets[0].cases)

    def test_the_target_agrees_with_itself(self, study):
        target = study[1].targets["phantom 5 mm"].features
        assert agreement_by_class(target, target, feature_names())["GLCM"].ccc_mean == pytest.approx(1)

    def test_another_weight_is_measured_anew(self, study, tmp_path):
        folder = study[0] / "systems/pix2pix"
        system = ALL_SYSTEMS["pix2pix"].from_pretrained(folder)
        before = SystemRow("pix2pix", system, folder).identity
        next(system.parameters()).data += 1e-3
        system.save_pretrained(tmp_path)
        assert SystemRow("pix2pix", system, tmp_path).identity != before
        ours = ALL_SYSTEMS["DiffusionCT"]()
        before = SystemRow("DiffusionCT", ours).identity
        next(ours.pipe.denoiser.parameters()).data += 1e-3
        assert SystemRow("DiffusionCT", ours).identity != before


class TestTrainingSeconds:
    def test_are_the_sum_of_the_stages_where_each_is_known(self, tmp_path):
        stages = [{"what": "scans", "seconds": 2}, {"what": "latent", "seconds": 3.5}]
        metrics = tmp_path / "metrics.json"
        assert training_seconds(metrics) == 0
        metrics.write_text(json.dumps({"training": {"stages": stages}}))
        assert training_seconds(metrics) == 5.5
        metrics.write_text(json.dumps({"training": {"stages": [*stages, {"seconds of a busy core": 9}]}}))
        assert training_seconds(metrics) == 0
        metrics.write_text(json.dumps({"training": {"stages": stages, "not in one go": "from an earlier one"}}))
        assert training_seconds(metrics) == 0

    def test_of_the_embedded_checkpoint_can_be_read(self):
        assert training_seconds(pipeline.PRETRAINED / "metrics.json") >= 0


class TestCommand:
    def test_unknown_rows_are_named(self, tmp_path, capsys):
        assert main(["study", "--out", str(tmp_path), "--systems", "input; pix3pix"]) == 2
        assert "pix3pix" in capsys.readouterr().err

    @pytest.mark.parametrize(("name", "value"), [("tumours", 2), ("size", 32), ("budget_seconds", -1)])
    def test_wrong_options_are_named(self, name, value):
        with pytest.raises(ValueError, match=f"`{name}` must be between .* got {value}"):
            StudyOptions(**{name: value})


class TestPhantomSet:
    def test_nothing_that_is_learnt_from_is_tested(self, options, study, monkeypatch):
        seeds = []
        scan = ScanStore.tumour
        monkeypatch.setattr(
            ScanStore, "tumour", lambda self, seed, *rest, **more: seeds.append(seed) or scan(self, seed, *rest, **more)
        )
        phantom_set(PROTOCOLS[0], options, ScanStore(study[0] / "kept/scans"), lambda *_: None)
        tested, learnt = {seed for seed in seeds if seed in TEST}, {seed for seed in seeds if seed in IMAGE_PAIRS}
        assert len(tested) == options.tumours and tested | learnt == set(seeds) and learnt

    def test_a_repeat_has_the_anatomy_and_other_noise(self, study):
        for case in study[1].test_sets[1].cases:
            difference = case.repeat - case.target
            assert difference.std() > 1 and abs(difference.mean()) < 5

    def test_smoothed_scans_are_the_plain_ones_smoothed(self, study):
        _, plain, smoothed = study[1].test_sets
        for before, after in zip(plain.cases, smoothed.cases):
            np.testing.assert_array_equal(before.target, after.target)
            rough = lambda hu: np.abs(np.diff(hu)).mean()  # noqa: E731
            assert rough(after.source) < rough(before.source)


class TestPairSets:
    @pytest.fixture
    def folders(self, tmp_path):
        for folder, scale in (("soft", 20.0), ("sharp", 60.0)):
            (tmp_path / folder).mkdir()
            for i in range(4):
                hu = np.random.default_rng(i).normal(40, scale, (96, 96)).round()
                save(make_slice(hu, number=i), tmp_path / folder / f"{i}.dcm")
        return tmp_path / "soft", tmp_path / "sharp"

    def test_both_ways_and_fitted_on_the_far_slice(self, folders):
        there, back = pair_sets(*folders)
        assert [case.fold for case in there.cases] == [0, 1, 2, 3] and there.target_kernel == ""
        for i, case in enumerate(there.cases):
            np.testing.assert_array_equal(case.target, back.cases[i].source)
            np.testing.assert_array_equal(there.fittings[i][0].source, there.cases[(i + 2) % 4].source[0])
        assert not any(name == REPEAT_SCAN and ScanRow(name).can(there) for name in ROWS)

    def test_needs_equal_names(self, folders, tmp_path):
        (tmp_path / "empty").mkdir()
        with pytest.raises(ValueError, match="files of equal name, got 0"):
            next(pair_sets(folders[0], tmp_path / "empty"))


def test_verdicts():
    generator = np.random.default_rng(0)
    target = generator.normal(size=(30, 1401)) + 5
    near, far = (target + generator.normal(size=target.shape) * scale for scale in (0.1, 2.0))
    rows = {
        "input": far,
        "DiffusionCT": near,
        "pix2pix": far,
        "repeat scan": target,
        "DiffusionCT, filter alone": target,
    }

    def judged(**others):
        agreements = {
            name: agreement_by_class(values, target, feature_names(), resamples=50)
            for name, values in (rows | others).items()
        }
        return {row[-1] for row in verdicts(agreements).rows}

    assert judged() == {"first"}
    assert judged(pix2pix=target) == {"behind", "tied"}  # small classes have wide intervals
    assert judged(pix2pix=near * (1 + 1e-6)) <= {"first", "tied"}


class TestCode:
    def test_what_is_said_of_code_does_not_count(self):
        dumped = lambda source: ast.dump(code.without_docstrings(ast.parse(source)))  # noqa: E731
        said = 'def f():\n    """Old."""\n    return 1\n'
        assert dumped(said) == dumped(said.replace("Old", "New") + "# more\n") != dumped(said.replace("1", "2"))

    def test_a_row_depends_on_what_its_module_imports_and_on_nothing_else(self, tmp_path, monkeypatch):
        files = {
            "a.py": "from .part import b\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .c import x\n",
            "part/__init__.py": "", "part/b.py": "from . import d\nfrom ..e import name\n", "part/d.py": "",
            "e.py": "name = 1\n", "c.py": "x = 1\n",
        }  # fmt: skip
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
        monkeypatch.setattr(code, "PACKAGE", tmp_path)
        hashed = code.code_hash.__wrapped__
        before = hashed("a")
        for name in files:
            (tmp_path / name).write_text(files[name] + "more = 1\n")
            assert (hashed("a") == before) == (name in ("c.py", "part/__init__.py")), name
            (tmp_path / name).write_text(files[name])
        assert hashed("a") == before != hashed("c")


def test_modules_have_no_tests_of_their_own():
    assert test_sets.TestSet.__test__ is False
