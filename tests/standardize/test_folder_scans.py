"""Each scan of a run over a folder is estimated once: later runs make of it, and of its parts, what the first one made."""

import json
import shutil

import numpy as np
import pytest
from helpers.dicom import make_slice, save
from helpers.runs import tree, write_scans
from helpers.tiny import tiny_pipeline

from diffusionct_pipeline import __version__
from diffusionct_pipeline.comparison.systems import load_as_pipeline
from diffusionct_pipeline.estimation.scan_estimate import ScanEstimate
from diffusionct_pipeline.standardize import scans as folder_scans
from diffusionct_pipeline.standardize.earlier_run import given_scans, known_scans
from diffusionct_pipeline.standardize.folder import standardize_folder

REPORT = "run_report.json"


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Series 1 of five slices of different noise, and series 2 of one."""
    folder = tmp_path_factory.mktemp("scans")
    draw = np.random.default_rng(0)
    for number in range(1, 6):
        (folder / "1").mkdir(exist_ok=True)
        hu = draw.normal(40, 30 * number, (64, 64)).round()
        save(make_slice(hu, series=1, number=number), folder / f"1/{number}.dcm")
    return write_scans(folder, ((2, 1),))


@pytest.fixture(scope="module")
def first(scans, tmp_path_factory, model):
    out = tmp_path_factory.mktemp("first")
    standardize_folder(scans, out, model=model)
    return out


@pytest.fixture
def estimated(monkeypatch):
    """The scans that are estimated from now on."""
    seen, original = [], folder_scans.estimate_scan
    monkeypatch.setattr(folder_scans, "estimate_scan", lambda *given: seen.append(given) or original(*given))
    return seen


def report(out):
    return json.loads((out / REPORT).read_text())


class TestLaterRuns:
    def test_take_the_estimate_from_the_report_and_write_the_same_bytes(self, scans, first, tmp_path, model, estimated):
        shutil.copytree(first, tmp_path / "out")
        (tmp_path / "out/1/3.dcm").unlink()
        found = standardize_folder(scans, tmp_path / "out", model=model)
        assert estimated == [] and (found["written"], found["finished_before"]) == (1, 5)
        assert tree(tmp_path / "out") == tree(first)
        assert [entry["source"] for entry in found["series"]] == [entry["source"] for entry in report(first)["series"]]
        assert [entry["reached"] for entry in found["series"]] == [
            entry["reached"] for entry in report(first)["series"]
        ]

    def test_overwrite_estimates_again(self, scans, first, tmp_path, model, estimated):
        shutil.copytree(first, tmp_path / "out")
        assert standardize_folder(scans, tmp_path / "out", model=model, overwrite=True)["written"] == 6
        assert len(estimated) == 2 and tree(tmp_path / "out") == tree(first)

    def test_to_another_target_take_it_and_check_anew(self, scans, first, tmp_path, model, estimated):
        shutil.copytree(first, tmp_path / "out")
        found = standardize_folder(scans, tmp_path / "out", model=model, target="Br40")
        assert estimated == [] and found["written"] == 6
        before, after = report(first)["series"][0], found["series"][0]
        assert after["source"] == before["source"] and after["derivation"] != before["derivation"]
        assert (before["reached"]["target"], after["reached"]["target"]) == ("Bl64", "Br40")

    @pytest.mark.parametrize("damage", ["not JSON", "version", "source", "missing"])
    def test_estimate_again_where_the_report_does_not_help(self, scans, first, tmp_path, model, estimated, damage):
        shutil.copytree(first, tmp_path / "out")
        path, values = tmp_path / "out" / REPORT, report(first)
        if damage == "version":
            values["diffusionct_version"] = "0.0"
        elif damage == "source":
            values["series"][0]["source"] = {"kernel": None}
        path.write_text("{" if damage == "not JSON" else json.dumps(values))
        if damage == "missing":
            path.unlink()
        assert standardize_folder(scans, tmp_path / "out", model=model)["finished_before"] == 6
        assert len(estimated) == 2 and tree(tmp_path / "out") == tree(first)

    def test_of_another_model_estimate_again(self, scans, first, tmp_path, estimated):
        """Its latents may be others."""
        shutil.copytree(first, tmp_path / "out")
        other = tiny_pipeline()
        other.autoencoder.latent_std.mul_(1.01)
        other.save_pretrained(tmp_path / "other")
        assert standardize_folder(scans, tmp_path / "out", model=tmp_path / "other")["written"] == 6
        assert len(estimated) == 2


class TestSource:
    def test_a_part_of_the_slices_becomes_what_it_became(self, scans, first, tmp_path, model, estimated):
        (tmp_path / "late").mkdir()
        for number in (2, 5):
            shutil.copy(scans / f"1/{number}.dcm", tmp_path / "late")
        alone = standardize_folder(tmp_path / "late", tmp_path / "alone", model=model)
        assert len(estimated) == 1
        found = standardize_folder(tmp_path / "late", tmp_path / "out", model=model, known_source=first / REPORT)
        assert len(estimated) == 1 and found["options"]["known_source"] == "given"
        for number in (2, 5):
            assert (tmp_path / f"out/{number}.dcm").read_bytes() == (first / f"1/{number}.dcm").read_bytes()
            assert (tmp_path / f"alone/{number}.dcm").read_bytes() != (first / f"1/{number}.dcm").read_bytes()
        assert alone["series"][0]["source"] != found["series"][0]["source"] == report(first)["series"][0]["source"]

    def test_it_counts_before_the_report_of_the_output(self, scans, first, tmp_path, model):
        (tmp_path / "late").mkdir()
        shutil.copy(scans / "1/2.dcm", tmp_path / "late")
        standardize_folder(tmp_path / "late", tmp_path / "out", model=model)
        found = standardize_folder(tmp_path / "late", tmp_path / "out", model=model, known_source=first / REPORT)
        assert found["written"] == 1
        assert (tmp_path / "out/2.dcm").read_bytes() == (first / "1/2.dcm").read_bytes()

    def test_a_report_without_scans_is_refused(self, first, tmp_path):
        model_id = report(first)["model_id"]
        assert len(known_scans(first / REPORT, model_id)) == len(given_scans(first / REPORT, model_id)) == 2
        assert given_scans(None, model_id) == {} == known_scans(tmp_path / REPORT, model_id)
        (tmp_path / REPORT).write_text(
            json.dumps({"diffusionct_version": __version__, "model_id": model_id, "series": []})
        )
        for given, of_model in ((tmp_path / REPORT, model_id), (first / REPORT, "another")):
            with pytest.raises(ValueError, match="`source` must be a run_report.json of this version and model .* got"):
                given_scans(given, of_model)


class TestReport:
    def test_says_what_was_known_and_done(self, first):
        for entry in report(first)["series"]:
            assert entry["told_by"] and entry["noise"] in ("keep", "target") and entry["remarks"]
            assert ScanEstimate.from_json(entry["source"]).tokens.shape[1] == 8

    def test_a_system_of_the_comparison_needs_no_estimate(self, scans, tmp_path, estimated):
        found = standardize_folder(scans, tmp_path / "out", pipe=load_as_pipeline("input"))
        assert estimated == [] and found["written"] == 6
        assert all(entry["source"] is None and not entry["missed"] for entry in found["series"])

    @pytest.mark.parametrize("option", [{"target": "Br40"}, {"noise": "target"}, {"noise": 30.0}], ids=str)
    def test_it_takes_none_of_their_options(self, scans, tmp_path, option):
        with pytest.raises(ValueError, match="no effect with `system`"):
            standardize_folder(scans, tmp_path / "out", pipe=load_as_pipeline("input"), **option)
        assert not (tmp_path / "out").exists()


def test_a_scan_of_which_nothing_can_be_read_says_why(scans, tmp_path, model):
    shutil.copytree(scans / "1", tmp_path / "in")
    for path in (tmp_path / "in").iterdir():
        path.write_bytes(path.read_bytes()[:-1000])
    found = standardize_folder(tmp_path / "in", tmp_path / "out", model=model)
    failures = found["series"][0]["failures"]
    assert found["written"] == 0 and [item["path"] for item in failures] == [f"{i}.dcm" for i in range(1, 6)]
    assert all(item["path"] in item["reason"] for item in failures)
