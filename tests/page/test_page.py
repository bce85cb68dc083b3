"""The page of a series: what it holds, what it never holds, and when it is written."""

import base64
import gzip
import json
import re

import numpy as np
import pytest
from helpers.dicom import ramp
from helpers.runs import tree, write_scans

from diffusionct_pipeline.commands._main import main
from diffusionct_pipeline.dicom import read_slice
from diffusionct_pipeline.page.html import page_html
from diffusionct_pipeline.page.view import MOST_SLICES, View, shown_indices
from diffusionct_pipeline.standardize.folder import standardize_folder

NAMES = {
    "PatientName": "Roe^Richard",
    "PatientID": "4711-X",
    "InstitutionName": "Mercy",
    "SeriesDescription": "Roe thorax",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory, model):
    """IN, in a folder and with files named after a patient, OUT with pages, and the report."""
    home = tmp_path_factory.mktemp("home")
    scans = write_scans(home / "Doe_Jane", **NAMES)
    report = standardize_folder(scans, home / "out", model=model, page=True)
    return scans, home / "out", report


def held(text):
    """What a page tells its viewer."""
    return json.loads(re.search(r'<script type="application/json" id="series">(.*?)</script>', text, re.DOTALL)[1])


def unpacked(text, columns):
    """Base64 of gzip of differences along the rows -> HU (H, W), as the browser adds them up."""
    steps = np.frombuffer(gzip.decompress(base64.b64decode(text)), "<i2").reshape(-1, columns)
    return np.cumsum(steps, axis=1, dtype=np.int16)


def view_of(count=1, shape=(32, 40), kernels=("B70f", "Bl64 synthetic"), missed=False):
    return View(count, list(range(count)), shape, 0.7, kernels, [f"{kernels[0]} to {kernels[1]}"], missed)


class TestContent:
    def test_holds_the_hu_of_source_and_result(self, run):
        scans, out, _ = run
        series = held((out / "page_01.html").read_text())
        assert (series["count"], series["numbers"], series["columns"]) == (2, [1, 2], 64)
        for name, pair in zip(("1/1.dcm", "1/2.dcm"), series["packed"]):
            for folder, text in zip((scans, out), pair):
                np.testing.assert_array_equal(unpacked(text, 64), read_slice(folder / name).hu)

    def test_steps_beyond_16_bits_wrap_around_and_back(self):
        hu = np.tile(np.array([-32768, 32767, 0, 3.4], np.float32), (32, 10))
        (pair,) = held(page_html(view_of(), [(hu, hu)], 1, "tiny"))["packed"]
        np.testing.assert_array_equal(unpacked(pair[0], 40), np.rint(hu))

    def test_is_one_file_that_may_load_nothing(self, run):
        text = (run[1] / "page_01.html").read_text()
        assert re.findall(r"https?://|//[a-z]|url\(|@import|src=|href=|fetch\(|XMLHttpRequest|WebSocket", text) == []
        policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1]
        assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy

    def test_never_names_the_patient_or_a_path(self, run):
        for page in run[1].glob("*.html"):
            text = page.read_text()
            assert [
                word for word in ("Roe", "Richard", "4711", "Mercy", "thorax", "Doe", ".dcm", "2020") if word in text
            ] == []

    def test_says_what_it_shows(self, run):
        text = (run[1] / "page_02.html").read_text()
        assert "Series 2: B70f to uncertain synth" in text and "1 of 1 slices" in text and "Research use only" in text

    def test_a_missed_target_is_said(self):
        hu = ramp(32, 40)
        texts = [page_html(view_of(missed=missed), [(hu, hu)], 1, "tiny") for missed in (False, True)]
        assert ["missed its target" in text for text in texts] == [False, True]

    def test_no_header_ends_an_element(self, tmp_path, model):
        scans = write_scans(tmp_path / "in", [(1, 1)], ConvolutionKernel="</script><script>alert(1)")
        standardize_folder(scans, tmp_path / "out", model=model, page=True)
        text = (tmp_path / "out/page_01.html").read_text()
        assert "alert" not in text and "unknown kernel" in text
        hostile = view_of(kernels=("</script><b>", "</h1>"))
        text = page_html(hostile, [(ramp(32, 40), ramp(32, 40))], 1, "tiny")
        assert (
            text.count("</script>") == 2
            and held(text)["kernels"] == ["</script><b>", "</h1>"]
            and text.count("</h1>") == 1
        )


class TestSlices:
    @pytest.mark.parametrize("count", [1, 2, MOST_SLICES, 13, 400])
    def test_up_to_twelve_from_the_first_to_the_last(self, count):
        chosen = shown_indices(count, (512, 512))
        assert len(chosen) == min(count, MOST_SLICES) and chosen == sorted(set(chosen))
        assert (chosen[0], chosen[-1]) == (0, count - 1)

    def test_fewer_of_large_ones(self):
        assert len(shown_indices(400, (1024, 1024))) == 3 and len(shown_indices(400, (8192, 8192))) == 1


class TestWhenItIsWritten:
    def test_beside_the_report_and_with_the_option_only(self, run, tmp_path, model):
        scans, out, report = run
        assert sorted(path.name for path in out.glob("*.html")) == ["page_01.html", "page_02.html"]
        assert report["others"] == [] and report["failures"] == 0
        without = standardize_folder(scans, tmp_path / "plain", model=model)
        assert list((tmp_path / "plain").rglob("*.html")) == []
        assert without["options"] | {"page": True} == report["options"]

    def test_the_same_again_when_the_run_is_resumed(self, run, tmp_path, model):
        scans, out, _ = run
        standardize_folder(scans, tmp_path / "out", model=model)
        assert main(["standardize", str(scans), str(tmp_path / "out"), "--model", model, "--page"]) in (0, 3)
        assert tree(tmp_path / "out") == tree(out)

    def test_of_a_volume(self, tmp_path, model):
        nibabel = pytest.importorskip("nibabel")
        hu = np.stack([ramp(48, 64) + k for k in range(3)], -1).astype(np.int16)
        nibabel.Nifti1Image(hu.transpose(1, 0, 2), np.diag([0.7, 0.7, 2.0, 1])).to_filename(tmp_path / "Doe.nii.gz")
        report = standardize_folder(tmp_path / "Doe.nii.gz", tmp_path / "out", model=model, page=True)
        assert report["failures"] == 0
        text = (tmp_path / "out/page_01.html").read_text()
        series = held(text)
        assert series["count"] == 3 and "unknown kernel" in text and "Doe" not in text
        before = unpacked(series["packed"][0][0], 64)
        assert sorted(before.ravel().tolist()) == sorted(hu[:, :, 0].ravel().tolist())

    def test_one_that_cannot_be_written_is_a_failure_that_is_named(self, tmp_path, model):
        scans = write_scans(tmp_path / "in", [(1, 1)])
        (tmp_path / "out/page_01.html").mkdir(parents=True)
        report = standardize_folder(scans, tmp_path / "out", model=model, page=True)
        (failure,) = report["series"][0]["failures"]
        assert "page_01.html" in failure["reason"] and report["written"] == 1
