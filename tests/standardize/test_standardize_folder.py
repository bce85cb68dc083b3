"""`standardize IN OUT`: every slice of every series, nothing else, and never a source or a half-written file."""

import argparse
import dataclasses
import errno
import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from helpers.dicom import dciodvfy_errors, jpeg2000_with, make_slice, ramp, save
from PIL import Image
from pydicom.uid import EnhancedCTImageStorage, SecondaryCaptureImageStorage

from diffusionct_pipeline import DiffusionCTPipeline
from diffusionct_pipeline.dicom import Skipped, SkippedKind, read_slice
from diffusionct_pipeline.method.provenance import pixels_id
from diffusionct_pipeline.standardize import series_run as module
from diffusionct_pipeline.standardize.folder import standardize_folder
from diffusionct_pipeline.standardize.options import FolderOptions, add_options, options_of
from diffusionct_pipeline.standardize.previews import preview_indices
from diffusionct_pipeline.standardize.report import is_junk

HU = ramp(48, 64)


@pytest.fixture
def scans(tmp_path):
    """Two series in three folders, three slices in all."""
    for folder, series, number in (("a", 1, 1), ("a", 1, 2), ("b/deep", 2, 1)):
        parent = tmp_path / "in" / folder
        parent.mkdir(parents=True, exist_ok=True)
        hu = HU + 10 * number
        save(make_slice(hu, series=series, number=number), parent / f"{number}.dcm")
    return tmp_path / "in"


def tree(folder):
    """Relative path -> hash of every file."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def dicom_tree(folder):
    return {name: digest for name, digest in tree(folder).items() if name.endswith(".dcm")}


class TestAFolder:
    def test_every_slice_is_written_at_its_own_path(self, scans, tmp_path, model):
        before = tree(scans)
        report = standardize_folder(scans, tmp_path / "out", model=model)
        assert set(tree(tmp_path / "out")) == {*before, "run_report.json"}
        assert tree(scans) == before, "sources are only read"
        assert (report["written"], report["slices"], report["failures"], report["stopped"]) == (3, 3, 0, "")
        assert json.loads((tmp_path / "out/run_report.json").read_text()) == report

    def test_series_are_reported_one_by_one(self, scans, tmp_path, model):
        first, second = standardize_folder(scans, tmp_path / "out", model=model)["series"]
        assert (first["slices"], second["slices"]) == (2, 1)
        assert (first["kernel_in"], first["kernel_out"], first["spacing_mm"]) == ("B70f", "uncertain synth", 0.7)
        assert first["seconds_per_slice"] > 0
        assert (first["told_by"], first["noise"], first["missed"]) == ("the header", "keep", False)
        unseen = "too little bare skin is in view to see whether the results have the kernel Bl64"
        assert first["remarks"][0] == unseen and "field of view of 34 mm" in first["remarks"][1]
        assert len(first["remarks"]) == 2

    def test_the_slices_are_those_of_the_pipeline(self, scans, tmp_path, model):
        standardize_folder(scans, tmp_path / "out", model=model, seed=5, num_inference_steps=2)
        pipe = DiffusionCTPipeline.from_pretrained(model)
        expected = pipe(
            str(scans / "a"), generator=torch.Generator().manual_seed(5), num_inference_steps=2, output_type="dicom"
        ).images
        for name, dataset in zip(("1.dcm", "2.dcm"), expected):
            written = pydicom.dcmread(tmp_path / "out/a" / name)
            assert written.SOPInstanceUID == dataset.SOPInstanceUID
            assert written.PixelData == dataset.PixelData

    def test_a_second_run_writes_the_same_bytes(self, scans, tmp_path, model):
        standardize_folder(scans, tmp_path / "out", model=model)
        first = dicom_tree(tmp_path / "out")
        report = standardize_folder(scans, tmp_path / "out", model=model, batch_size=1, overwrite=True)
        assert (report["written"], report["finished_before"]) == (3, 0)
        assert dicom_tree(tmp_path / "out") == first

    def test_seed_steps_and_reference_each_change_the_result(self, scans, tmp_path, model):
        standardize_folder(scans / "a", tmp_path / "0", model=model)
        standardize_folder(scans / "a", tmp_path / "1", model=model, seed=1)
        standardize_folder(scans / "a", tmp_path / "2", model=model, num_inference_steps=2)
        report = standardize_folder(scans / "a", tmp_path / "3", model=model, reference=str(scans / "b"))
        results = [tuple(dicom_tree(tmp_path / str(i)).values()) for i in range(4)]
        assert len(set(results)) == 4
        assert report["target"] == "B70f", "the kernel of the reference"

    def test_the_results_are_valid_dicom(self, scans, tmp_path, model):
        standardize_folder(scans, tmp_path / "out", model=model)
        for path in sorted((tmp_path / "out").rglob("*.dcm")):
            assert dciodvfy_errors(path) == []

    def test_progress_counts_failures_too(self, scans, tmp_path, model):
        cut_pixels(scans / "a/1.dcm")
        calls = []
        standardize_folder(scans, tmp_path / "out", model=model, progress=lambda *call: calls.append(call))
        assert calls == [(0, 3), (1, 3), (2, 3), (3, 3)]


class TestAFile:
    def test_goes_into_the_folder_under_its_own_name(self, scans, tmp_path, model):
        standardize_folder(scans / "a/1.dcm", tmp_path / "out", model=model)
        assert set(tree(tmp_path / "out")) == {"1.dcm", "run_report.json"}

    def test_becomes_what_it_becomes_in_its_folder_if_the_scan_is_known(self, scans, tmp_path, model):
        standardize_folder(scans / "a", tmp_path / "all", model=model)
        known = tmp_path / "all/run_report.json"
        standardize_folder(scans / "a/1.dcm", tmp_path / "one", model=model, known_source=known)
        assert (tmp_path / "one/1.dcm").read_bytes() == (tmp_path / "all/1.dcm").read_bytes()

    def test_that_is_no_slice_is_an_error(self, tmp_path, model):
        (tmp_path / "notes.txt").write_text("hello")
        with pytest.raises(ValueError, match="notes.txt.*not a DICOM file"):
            standardize_folder(tmp_path / "notes.txt", tmp_path / "out", model=model)
        assert not (tmp_path / "out").exists()


def cut_pixels(path):
    path.write_bytes(path.read_bytes()[:-1000])


class TestBadFiles:
    def test_one_does_not_stop_the_rest(self, scans, tmp_path, model):
        cut_pixels(scans / "a/1.dcm")
        report = standardize_folder(scans, tmp_path / "out", model=model)
        assert set(tree(tmp_path / "out")) == {"a/2.dcm", "b/deep/1.dcm", "run_report.json"}
        assert report["failures"] == 1
        (failure,) = report["series"][0]["failures"]
        assert failure["path"] == os.path.join("a", "1.dcm") and "1.dcm" in failure["reason"]

    @pytest.mark.parametrize(
        "header",
        [
            {"RescaleSlope": None},
            {"PixelSpacing": None},
            {"PixelSpacing": [0.7, 0.8]},
            {"NumberOfFrames": 2},
            {"PhotometricInterpretation": "RGB"},
            {"SOPClassUID": EnhancedCTImageStorage},
        ],
    )
    def test_a_ct_image_that_cannot_be_used_is_a_failure(self, scans, tmp_path, model, header):
        save(make_slice(HU, number=9, **header), scans / "a/9.dcm")
        report = standardize_folder(scans, tmp_path / "out", model=model)
        assert [item["path"] for item in report["unusable"]] == [os.path.join("a", "9.dcm")]
        assert (report["written"], report["failures"]) == (3, 1)

    def test_one_that_makes_its_decoder_abort_does_not_stop_the_rest(self, scans, tmp_path, model):
        save(jpeg2000_with(HU, "bits", 44, number=9), scans / "a/9.dcm")
        report = standardize_folder(scans, tmp_path / "out", model=model)
        (failure,) = report["series"][0]["failures"]
        assert (report["written"], report["failures"], report["stopped"]) == (3, 1, "")
        assert failure["path"] == os.path.join("a", "9.dcm") and "9.dcm" in failure["reason"]

    def test_junk_is_skipped_with_its_reason_and_is_no_failure(self, scans, tmp_path, model):
        (scans / "notes.txt").write_text("hello")
        (scans / ".hidden").write_text("hello")
        (scans / "empty").write_text("")
        shutil.copy(scans / "a/1.dcm", scans / "copy.dcm")
        save(make_slice(HU, number=7, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), scans / "scout.dcm")
        save(make_slice(HU, number=8, SOPClassUID=SecondaryCaptureImageStorage), scans / "capture.dcm")
        report = standardize_folder(scans, tmp_path / "out", model=model)
        assert report["failures"] == 0 and report["written"] == 3
        skipped = {item["path"]: item["reason"] for item in report["skipped"]}
        # The folder is read in a fixed order, so the copy in a/ is read first and the one at the top is the second.
        assert len(skipped) == 6 and all(skipped.values())

    def test_a_broken_file_that_is_named_dicom_is_a_failure(self, scans, tmp_path, model):
        (scans / "broken.dcm").write_bytes(b"not at all")
        assert standardize_folder(scans, tmp_path / "out", model=model)["failures"] == 1

    def test_whatever_a_slice_raises_is_listed(self, scans, tmp_path, model, monkeypatch):
        def fail(*_):
            raise ZeroDivisionError("odd slice")

        monkeypatch.setattr(module.SeriesRun, "samples", fail)
        report = standardize_folder(scans, tmp_path / "out", model=model)
        assert report["failures"] == 3
        assert report["series"][0]["failures"][0]["reason"] == "ZeroDivisionError: odd slice"


class TestJunk:
    """By the kind of a file, whatever its message says."""

    WANTED = (SkippedKind.UNUSABLE, SkippedKind.UNREADABLE, SkippedKind.MIXED_GEOMETRY)
    NAMED = (SkippedKind.EMPTY, SkippedKind.NOT_DICOM)

    @pytest.mark.parametrize("kind", SkippedKind)
    def test_is_what_nobody_wanted_standardized(self, kind):
        assert is_junk(Skipped(Path("notes"), "any words", kind)) == (kind not in self.WANTED)

    @pytest.mark.parametrize("kind", SkippedKind)
    @pytest.mark.parametrize("name", ["slice.dcm", "SLICE.IMA"])
    def test_the_name_decides_about_what_is_no_dicom(self, name, kind):
        assert is_junk(Skipped(Path(name), "any words", kind)) == (kind not in (*self.WANTED, *self.NAMED))


class TestOptions:
    def test_the_report_says_what_was_used(self, scans, tmp_path, model):
        report = standardize_folder(scans, tmp_path / "out", model=model, reference=scans / "b", device="cpu")
        reference = read_slice(scans / "b/deep/1.dcm")
        assert report["options"] == {
            "model": model,
            "target": None,
            "noise": "keep",
            "reference": pixels_id([reference.hu], [reference.spacing_mm]),
            "num_inference_steps": DiffusionCTPipeline.from_pretrained(model).config.default_num_inference_steps,
            "seed": 0,
            "device": "cpu",
            "batch_size": None,
            "num_samples": 1,
            "preview": False,
            "overwrite": False,
            "fast": False,
        }

    def test_each_is_on_the_command_line_with_its_default(self):
        parser = argparse.ArgumentParser()
        add_options(parser)
        assert FolderOptions(**options_of(parser.parse_args([]))) == FolderOptions()
        given = options_of(parser.parse_args(["--steps", "3", "--source", "report.json", "--page", "--noise", "20"]))
        assert FolderOptions(**given) == FolderOptions(
            num_inference_steps=3, known_source="report.json", page=True, noise=20.0
        )

    def test_each_is_explained(self):
        lacking = [
            item.name for item in dataclasses.fields(FolderOptions) if f"    {item.name}: " not in FolderOptions.__doc__
        ]
        assert lacking == []

    def test_an_unknown_one_is_refused(self, scans, tmp_path):
        with pytest.raises(TypeError, match="kernel"):
            standardize_folder(scans, tmp_path / "out", kernel="Br40")

    def test_the_embedded_checkpoint_has_a_name(self):
        assert FolderOptions().as_json()["model"] == "embedded"


class TestRefusals:
    """A run that cannot start says why and writes nothing."""

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"num_inference_steps": -1}, "-1"),
            ({"num_inference_steps": 5000}, "5000"),
            ({"batch_size": 0}, "batch_size"),
            ({"seed": -1}, "seed"),
            ({"device": "abacus"}, "abacus"),
            ({"model": "no/such/model"}, "no/such/model"),
            ({"reference": "nowhere.dcm"}, "nowhere.dcm"),
            ({"target": "Zz99"}, "`target` must be one of .*Br40.*, got 'Zz99'"),
            ({"noise": "loud"}, "`noise` must be .*, got 'loud'"),
            ({"noise": 0.0}, "`noise` must be .*, got 0.0"),
            ({"noise": -20.0}, "`noise` must be .*, got -20.0"),
            ({"known_source": "nowhere.json"}, '`source` must be a run_report.json .* got "nowhere.json"'),
        ],
    )
    def test_of_options(self, scans, tmp_path, model, options, message):
        with pytest.raises((ValueError, OSError), match=message):
            standardize_folder(scans, tmp_path / "out", **{"model": model, **options})
        assert not (tmp_path / "out").exists()

    def test_of_a_damaged_checkpoint(self, scans, tmp_path, model):
        damaged = tmp_path / "damaged"
        shutil.copytree(model, damaged)
        next(damaged.glob("autoencoder/*.safetensors")).write_bytes(b"nonsense")
        with pytest.raises(ValueError, match="damaged.*cannot be loaded"):
            standardize_folder(scans, tmp_path / "out", model=str(damaged))

    def test_of_a_missing_or_empty_input(self, tmp_path, model):
        with pytest.raises(FileNotFoundError, match="nowhere"):
            standardize_folder(tmp_path / "nowhere", tmp_path / "out", model=model)
        (tmp_path / "empty").mkdir()
        with pytest.raises(ValueError, match="holds no files"):
            standardize_folder(tmp_path / "empty", tmp_path / "out", model=model)

    @pytest.mark.parametrize("output", ["", "out", "a/../out"])
    def test_of_an_output_inside_the_input(self, scans, model, output):
        before = tree(scans)
        with pytest.raises(ValueError, match="inside"):
            standardize_folder(scans, scans / output, model=model)
        assert tree(scans) == before and not (scans / "out").exists()

    def test_of_an_output_inside_the_input_through_a_link(self, scans, tmp_path, model):
        (tmp_path / "link").symlink_to(scans)
        with pytest.raises(ValueError, match="inside"):
            standardize_folder(scans, tmp_path / "link/out", model=model)

    def test_of_an_output_over_the_input_file(self, scans, model):
        before = tree(scans)
        with pytest.raises(ValueError, match="be written to the input"):
            standardize_folder(scans / "a/1.dcm", scans / "a", model=model)
        assert tree(scans) == before

    def test_of_an_output_that_is_a_file(self, scans, tmp_path, model):
        (tmp_path / "out").write_text("mine")
        with pytest.raises(OSError, match="is a file"):
            standardize_folder(scans, tmp_path / "out", model=model)
        assert (tmp_path / "out").read_text() == "mine"

    def test_of_an_output_that_cannot_be_written_to(self, scans, tmp_path, model):
        (tmp_path / "file").write_text("")
        with pytest.raises(OSError, match="cannot be written to"):
            standardize_folder(scans, tmp_path / "file/out", model=model)

    def test_of_an_image_of_somebody_else_in_the_output(self, scans, tmp_path, model):
        (tmp_path / "out/a").mkdir(parents=True)
        other = save(make_slice(HU, series=7), tmp_path / "out/a/1.dcm").read_bytes()
        report = standardize_folder(scans, tmp_path / "out", model=model)
        assert report["failures"] == 1 and report["written"] == 2
        assert (tmp_path / "out/a/1.dcm").read_bytes() == other


class TestEndedEarly:
    def test_a_full_disk_stops_the_run_and_leaves_nothing_half_written(self, scans, tmp_path, model, monkeypatch):
        written = []

        def write(part, *_, **__):
            part.write_bytes(b"the first half")
            written.append(part)
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(pydicom, "dcmwrite", write)
        report = standardize_folder(scans, tmp_path / "out", model=model)
        assert "No space left" in report["stopped"] and report["written"] == 0
        assert written and set(tree(tmp_path / "out")) == {"run_report.json"}

    def test_an_interruption_keeps_what_is_whole_and_reports_it(self, scans, tmp_path, model):
        def interrupt(done, _):
            if done == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            standardize_folder(scans, tmp_path / "out", model=model, progress=interrupt)
        assert set(tree(tmp_path / "out")) == {"a/1.dcm", "a/2.dcm", "run_report.json"}
        report = json.loads((tmp_path / "out/run_report.json").read_text())
        assert (report["stopped"], report["written"]) == ("interrupted", 2)


class TestPreview:
    def test_pictures_are_written_and_are_the_same_each_time(self, scans, tmp_path, model):
        pytest.importorskip("matplotlib")
        for folder in ("0", "1"):
            standardize_folder(scans, tmp_path / folder, model=model, preview=True)
        first, second = tree(tmp_path / "0/preview"), tree(tmp_path / "1/preview")
        assert first == second and len(first) == 3
        with Image.open(tmp_path / "0/preview" / next(iter(first))) as picture:
            assert picture.width > picture.height > 200
            assert np.asarray(picture.convert("L")).std() > 10

    @pytest.mark.parametrize(("count", "expected"), [(1, [0]), (2, [0, 1]), (3, [0, 1, 2]), (98, [24, 49, 73])])
    def test_slices_are_evenly_spaced(self, count, expected):
        assert preview_indices(count) == expected
