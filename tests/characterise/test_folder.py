"""`diffusionct characterise` over a folder: what it finds, writes and refuses."""

import csv
import json
import re
import shutil

import numpy as np
import pydicom
import pytest
from helpers.bodies import body_slice
from helpers.dicom import make_slice, save

from diffusionct_pipeline.characterise import folder as characterise_module
from diffusionct_pipeline.characterise.folder import characterise_folder
from diffusionct_pipeline.characterise.same_scan import SAME_NOISE, noise_correlation
from diffusionct_pipeline.commands._main import main
from diffusionct_pipeline.method import reached
from diffusionct_pipeline.method.reached import UNCERTAIN
from diffusionct_pipeline.simulation import KERNELS
from diffusionct_pipeline.standardize.folder import standardize_folder


def write_series(folder, series, kernel, seeds, **header):
    """Slices of a body, whose neighbours are alike."""
    for number, seed in enumerate(seeds, 1):
        hu, _ = body_slice(kernel, 12.0 if kernel == "Br36" else 60.0, seed)
        dataset = make_slice(hu, number=number, series=series, ConvolutionKernel=kernel, **header)
        folder.mkdir(parents=True, exist_ok=True)
        save(dataset, folder / f"{number}.dcm")


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """One scan under two kernels, in folders named after a patient."""
    folder = tmp_path_factory.mktemp("in") / "Doe_Jane"
    for series, kernel in ((1, "Br36"), (2, "Bl64")):
        write_series(
            folder / str(series),
            series,
            kernel,
            range(3),
            PatientName="Doe^Jane",
            PatientID="4711",
            StudyDate="19991231",
            SeriesDescription="Doe thorax",
            AcquisitionTime="112233",
        )
    return folder


@pytest.fixture(scope="module")
def found(scans, model, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "report"
    return characterise_folder(scans, out, model=model), out


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


class TestReport:
    def test_places_both_kernels(self, found):
        soft, sharp = rows(found[1] / "series.csv")
        assert (soft["kernel"], sharp["kernel"]) == ("Br36", "Bl64")
        assert (soft["family"], sharp["family"]) == ("soft", "sharp")
        for row in (soft, sharp):
            true = KERNELS[row["kernel"]].mtf50
            assert float(row["mtf50_lp_cm"]) == pytest.approx(true, rel=0.05)
            assert float(row["mtf50_low_lp_cm"]) < true < float(row["mtf50_high_lp_cm"])
            assert row["told_by"] == "skin and noise of 3 slices" and float(row["whitening_cm2"]) > 0
            assert 0 <= float(row["smoothed"]) <= 1
        assert float(sharp["noise_soft_tissue_hu"]) == pytest.approx(60, rel=0.06)
        assert soft["group"] != sharp["group"]

    def test_finds_the_pair_of_kernels(self, found):
        (pair,) = rows(found[1] / "pairs.csv")
        assert (pair["first"], pair["second"], pair["slices"]) == ("1", "2", "3")
        assert pair["use"] == "pair of kernels"

    def test_what_was_standardized_is_no_pair(self, scans, model, tmp_path):
        for path in (scans / "2").iterdir():
            dataset = pydicom.dcmread(path)
            dataset.ConvolutionKernel = "Bl64 synthetic"
            (tmp_path / "in" / "2").mkdir(parents=True, exist_ok=True)
            save(dataset, tmp_path / "in" / "2" / path.name)
        shutil.copytree(scans / "1", tmp_path / "in" / "1")
        characterise_folder(tmp_path / "in", tmp_path / "out", model=model)
        (pair,) = rows(tmp_path / "out/pairs.csv")
        assert pair["use"] == "one is standardized: not suitable for training or testing"

    def test_without_pairs_their_columns_are_there(self, scans, model, tmp_path):
        characterise_folder(scans / "1", tmp_path / "out", model=model)
        assert (tmp_path / "out/pairs.csv").read_text().startswith("first,second,kernel_first")

    def test_noise_power_is_that_of_its_level(self, found):
        power = [row for row in rows(found[1] / "noise_power.csv") if row["series"] == "1" and row["tissue"] == "fat"]
        f, p = (np.array([float(row[key]) for row in power]) for key in ("frequency_lp_cm", "power_hu2_mm2"))
        level = np.sqrt((2 * np.pi * f * p).sum() * (f[1] - f[0]) / 100)
        assert level == pytest.approx(float(rows(found[1] / "series.csv")[0]["noise_fat_hu"]), rel=0.1)

    def test_names_no_patient_no_path_and_no_date(self, found):
        for name in ("report.md", "series.csv", "pairs.csv", "noise_power.csv"):
            text = (found[1] / name).read_text()
            assert text and not any(word in text for word in ("Doe", "4711", "1999", "112233", "thorax", "in0")), name

    def test_figures_are_there(self, found):
        for name in ("overview", "resolution", "noise_power"):
            assert (found[1] / f"{name}.png").stat().st_size > 1000
            assert f"({name}.png)" in (found[1] / "report.md").read_text()


class TestTrial:
    def test_standardize_then_reaches_what_was_expected(self, found, scans, model, tmp_path):
        report = standardize_folder(scans, tmp_path / "out", model=model)
        for item, row, entry in zip(found[0].measured, rows(found[1] / "series.csv"), report["series"], strict=True):
            assert item.series.uid == entry["uid"]
            assert item.trial.source.to_json() == entry["source"]
            assert item.trial.reached.to_json() == entry["reached"]
            assert item.trial.remarks == entry["remarks"] and row["told_by"] == entry["told_by"]
            assert entry["kernel_out"].startswith(row["expected_kernel"])
            assert row["expected_remarks"] == "; ".join(entry["remarks"])

    def test_report_and_screen_name_targets(self, scans, model, tmp_path, capsys):
        assert main(["characterise", str(scans), "--out", str(tmp_path / "out"), "--model", model]) == 0
        said, report = capsys.readouterr().out, (tmp_path / "out/report.md").read_text()
        named = re.search(r"softest target that loses nothing: (diffusionct standardize IN OUT --target (\w+))", said)
        assert named and named[1] in report and KERNELS[named[2]].mtf50 <= 1.05 * KERNELS["Br36"].mtf50
        assert "most common kernel: diffusionct standardize IN OUT --target Br36" in said
        assert "to Bl64: " in said and "of 2 series would miss the checkpoint's own standard, Bl64" in report

    def test_without_a_texture_latent_none_is_made(self, scans, model, tmp_path, monkeypatch):
        monkeypatch.setattr(characterise_module, "has_texture_latent", lambda pipe: False)
        found = characterise_folder(scans / "1", tmp_path / "out", model=model)
        (row,) = rows(tmp_path / "out/series.csv")
        assert row["expected_kernel"] == row["prior_deviations"] == "" and float(row["mtf50_lp_cm"]) > 0
        assert found.advice is None and "Suggested targets" not in (tmp_path / "out/report.md").read_text()

    def test_what_shows_no_kernel_is_uncertain_and_left_out(self, model, tmp_path):
        """Neither skin nor noise, and a name that the table does not know."""
        (tmp_path / "in").mkdir()
        save(make_slice(np.full((96, 96), -1000.0), ConvolutionKernel="unheard-of"), tmp_path / "in/1.dcm")
        found = characterise_folder(tmp_path / "in", tmp_path / "out", model=model)
        (row,) = rows(tmp_path / "out/series.csv")
        assert (row["told_by"], row["mtf50_lp_cm"], row["family"]) == ("nothing", "", "")
        assert row["expected_kernel"] == UNCERTAIN and "bare skin" in row["expected_remarks"]
        assert found.advice.softest is found.advice.commonest is None and found.advice.unsure == [0]
        assert "No series has a kernel that is certain enough" in (tmp_path / "out/report.md").read_text()


def test_another_scan_of_the_same_body_shares_no_noise():
    soft, sharp, other = (body_slice(k, 20.0, seed)[0] for k, seed in (("Br36", 0), ("Bl64", 0), ("Br36", 1)))
    assert noise_correlation(soft, sharp, 0.7) > SAME_NOISE > noise_correlation(soft, other, 0.7)


class TestWrongInput:
    def test_one_bad_series_does_not_stop_the_rest(self, scans, model, tmp_path, capsys):
        folder = tmp_path / "in"
        write_series(folder / "1", 1, "Br36", [0])
        broken = make_slice(body_slice()[0], series=9)
        broken.PixelData = b"\0\0"
        save(broken, folder / "9.dcm")
        assert main(["characterise", str(folder), "--out", str(tmp_path / "out"), "--model", model]) == 1
        said = capsys.readouterr()
        assert "1 series measured" in said.out and "failed" in said.err and "9.dcm" in said.err
        assert len(rows(tmp_path / "out/series.csv")) == 1

    def test_nothing_is_left_of_what_cannot_begin(self, model, tmp_path, capsys):
        (tmp_path / "in").mkdir()
        assert main(["characterise", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--model", model]) == 1
        assert "holds no files" in capsys.readouterr().err
        save(make_slice(Modality="MR"), tmp_path / "in/mr.dcm")
        assert main(["characterise", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--model", model]) == 1
        assert "not a CT image" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()

    def test_a_folder_with_something_in_it_is_not_touched(self, scans, model, tmp_path, capsys):
        (tmp_path / "kept").write_text("kept")
        assert main(["characterise", str(scans), "--out", str(tmp_path), "--model", model]) == 2
        assert "exists already" in capsys.readouterr().err
        assert [path.name for path in tmp_path.iterdir()] == ["kept"]

    def test_out_inside_in_is_refused(self, scans, model):
        with pytest.raises(ValueError, match="lies inside the input"):
            characterise_folder(scans, scans / "out", model=model)

    def test_slices_below_one_are_refused(self, scans, model, tmp_path):
        with pytest.raises(ValueError, match="`slices` must be at least 1, got 0"):
            characterise_folder(scans, tmp_path / "out", model=model, slices=0)


def test_standardize_warns_of_what_training_did_not_have(model, tmp_path, capsys):
    write_series(tmp_path / "in", 1, "Br36", [0], LossyImageCompression="01")
    main(["standardize", str(tmp_path / "in"), str(tmp_path / "out"), "--model", model, "--steps", "1"])
    assert "warning: series 1 of 1 (Br36) is unlike all training: compressed with loss" in capsys.readouterr().err
    assert "compressed with loss" in (tmp_path / "out/run_report.json").read_text()


def test_standardize_warns_of_results_that_miss_their_target(model, tmp_path, capsys):
    """An untrained checkpoint does not reach the kernels that it is asked for: files are not named after them."""
    write_series(tmp_path / "in", 1, "Br36", range(3))
    chosen = ["--model", model, "--steps", "1", "--target", "Br80"]
    assert main(["standardize", str(tmp_path / "in"), str(tmp_path / "out"), *chosen]) == 3
    printed = capsys.readouterr().err
    assert "warning: series 1 of 1 (Br36) " in printed and "Br80 has 7.1" in printed  # no more than the pixels show
    report = json.loads((tmp_path / "out/run_report.json").read_text())
    assert report["missed"] == 1 and report["failures"] == 0
    (entry,) = report["series"]
    assert entry["missed"] and entry["remarks"][0].startswith(("stayed ", "became softer"))
    assert "skin" in entry["told_by"] and entry["reached"]["mtf50"][0] == pytest.approx(KERNELS["Br36"].mtf50, rel=0.1)
    derived = pydicom.dcmread(tmp_path / "out/1.dcm")
    assert derived.ConvolutionKernel == "uncertain synth" and "texture of Br80" in derived.DerivationDescription


def test_results_that_have_the_kernel_are_named_after_it(model, tmp_path, monkeypatch):
    write_series(tmp_path / "in", 1, "Br36", range(3))
    monkeypatch.setattr(reached, "TOLERANCE", 10.0)
    chosen = ["--model", model, "--steps", "1", "--target", "Br40"]
    assert main(["standardize", str(tmp_path / "in"), str(tmp_path / "out"), *chosen]) == 0
    assert pydicom.dcmread(tmp_path / "out/1.dcm").ConvolutionKernel == "Br40 synthetic"
