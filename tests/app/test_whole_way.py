"""From scans to results, features and files: as a person does it in a browser, and as requests."""

import io
import json
import time
import zipfile

import numpy as np
import pydicom
import pytest

pytest.importorskip("starlette", reason="the extra app is not installed")
pytest.importorskip("uvicorn", reason="the extra app is not installed")
pytest.importorskip("matplotlib", reason="the extra plots is not installed")

from helpers.app import running_app  # noqa: E402
from helpers.browser import chromium, has_overflow, new_page, until  # noqa: E402
from helpers.dicom import ramp  # noqa: E402
from helpers.runs import tree, write_scans  # noqa: E402

from diffusionct_pipeline.radiomics import extract, feature_names  # noqa: E402
from diffusionct_pipeline.standardize.folder import standardize_folder  # noqa: E402

HU = ramp(48, 64)
NAME = "Roe^Richard"


@pytest.fixture
def scans(tmp_path):
    """A folder with a series of three slices."""
    return write_scans(tmp_path / "scans", [(1, 1), (1, 2), (1, 3)], PatientName=NAME, SeriesDescription="Roe")


@pytest.fixture
def app(tmp_path, model):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with running_app("--model", model, temporary=temporary) as app:
        yield app


def send_all(app, place, folder):
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            assert app.send(place, str(path.relative_to(folder)), path.read_bytes())[0] == 200


def wait(app):
    """State of the app when its work is done."""
    while (state := app.state())["task"]:
        time.sleep(0.05)
    return state


def results(data):
    """Name -> bytes of what a zip holds."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return {name: file.read(name) for name in file.namelist()}


class TestByRequests:
    def test_results_are_the_bytes_of_the_command_line(self, app, scans, tmp_path, model):
        app.enter()
        send_all(app, "scans", scans)
        assert app.ask("/api/standardize", {"way": "kernel", "target": "Br40", "noise": 30})[0] == 200
        state = wait(app)
        assert state["error"] == "" and (state["result"]["written"], state["result"]["slices"]) == (3, 3)
        found = results(app.ask("/api/results.zip")[1])
        standardize_folder(scans, tmp_path / "out", model=model, target="Br40", noise=30.0, page=True)
        assert set(found) == set(tree(tmp_path / "out", report=True))
        for name in ("1/1.dcm", "1/2.dcm", "1/3.dcm", "page_01.html"):
            assert found[name] == (tmp_path / "out" / name).read_bytes()

    def test_a_volume_by_a_reference_with_a_mask(self, app, scans, tmp_path):
        nibabel = pytest.importorskip("nibabel")
        affine = np.diag([-0.7, -0.7, 2.0, 1])  # x to the left, y to the back, as in DICOM
        voxels = np.stack([HU.T + 10 * k for k in range(3)], -1).astype(np.int16)
        mask = np.zeros(voxels.shape, np.uint8)
        mask[20:30, 8:16, 1:] = 5
        for name, array in (("scan.nii.gz", voxels), ("mask.nii.gz", mask)):
            nibabel.Nifti1Image(array, affine).to_filename(tmp_path / name)
        app.enter()
        assert app.send("scans", "scan.nii.gz", (tmp_path / "scan.nii.gz").read_bytes())[0] == 200
        send_all(app, "reference", scans)
        app.ask("/api/characterise", {})
        assert wait(app)["known"]["series"][0]["slices"] == 3
        app.ask("/api/standardize", {"way": "reference"})
        state = wait(app)
        assert state["error"] == "" and state["result"]["written"] == 3
        # The pixels that the viewer gets are those of source and result.
        before, after = np.frombuffer(app.ask("/api/slice/0/1")[1], "<i2").reshape(2, 48, 64)
        np.testing.assert_array_equal(before, voxels[:, :, 1].T)
        found = results(app.ask("/api/results.zip")[1])
        (tmp_path / "result.nii.gz").write_bytes(found["scan.nii.gz"])
        result = np.asarray(nibabel.load(tmp_path / "result.nii.gz").dataobj)
        np.testing.assert_array_equal(after, result[:, :, 1].T)
        # The mask lies on the voxels that it marks.
        assert app.send("mask", "mask.nii.gz", (tmp_path / "mask.nii.gz").read_bytes())[0] == 200
        region = json.loads(app.ask("/api/region", {"series": 0})[1])
        assert (region["name"], region["slices"], region["pixels"]) == ("5", [2, 3], 160)
        rows = {row[0]: row[1:] for row in region["rows"]}
        for column, image in enumerate((voxels, result)):
            expected = extract(image.transpose(2, 1, 0)[1:], mask.transpose(2, 1, 0)[1:] > 0)
            assert rows["mean, CT number"][column] == pytest.approx(expected["ID/GlobalMean"])
        lines = app.ask("/api/features.csv")[1].decode().splitlines()
        assert lines[0] == "feature,before,after" and [line.split(",")[0] for line in lines[1:]] == list(
            feature_names()
        )

    def test_intervals_over_samples_and_a_mask_of_another_scan(self, app, scans, tmp_path):
        app.enter()
        assert app.send("scans", "one.dcm", (scans / "1/1.dcm").read_bytes())[0] == 200
        app.ask("/api/standardize", {"way": "standard", "noise": "target", "intervals": True})
        state = wait(app)
        assert state["error"] == "" and state["samples"] == 20
        square = [[10, 10], [30, 10], [30, 30], [10, 30]]
        region = json.loads(app.ask("/api/region", {"series": 0, "slice": 0, "points": square})[1])
        assert region["pixels"] == 400 and region["outlines"]["0"]
        ends = {row[0]: row[3] for row in region["rows"]}
        low, high = ends["local standard deviation, HU"]
        assert low < high
        assert app.ask("/api/features.csv")[1].startswith(b"feature,before,after,low,high\n")
        for points in ([[0, 0], [1, 1]], [[0, 0], [2, 0], [2, 2]], "x", [[None, 1]] * 3, [[1e999, 1]] * 3):
            assert app.ask("/api/region", {"series": 0, "slice": 0, "points": points})[0] == 400
        assert app.ask("/api/region", {"series": 0, "slice": 7, "points": square})[0] == 400
        assert app.ask("/api/region", {"series": 3, "slice": 0, "points": square})[0] == 404
        assert app.ask("/api/slice/0/1")[0] == 404
        np.savez(tmp_path / "mask.npz", mask=np.ones((9, 48, 64), np.uint8))
        app.send("mask", "mask.npz", (tmp_path / "mask.npz").read_bytes())
        status, body, _ = app.ask("/api/region", {"series": 0})
        assert status == 400 and b"(9, 48, 64)" in body and str(tmp_path).encode() not in body

    def test_work_can_be_stopped_and_begun_again(self, app, scans, tmp_path):
        app.enter()
        send_all(app, "scans", scans)
        app.ask("/api/standardize", {"way": "standard", "intervals": True})
        assert app.ask("/api/standardize", {"way": "standard"})[0] == 409 and app.ask("/api/clear/scans", {})[0] == 409
        app.ask("/api/stop", {})
        state = wait(app)
        assert state["error"] == "stopped" and state["result"] is None
        assert list((tmp_path / "temporary").rglob("results_*")) == []
        app.ask("/api/standardize", {"way": "standard"})
        assert wait(app)["result"]["written"] == 3
        app.ask("/api/clear/scans", {})
        assert app.state()["result"] is None
        assert [path for path in (tmp_path / "temporary").rglob("*") if path.suffix in (".dcm", ".html")] == []

    def test_a_folder_of_the_command_line_is_read_in_place(self, scans, tmp_path, model):
        before = tree(scans)
        with running_app(scans, "--model", model, temporary=tmp_path / "scans/..") as app:
            app.enter()
            assert app.state()["offered"]
            app.ask("/api/standardize", {"way": "standard"})
            assert wait(app)["result"]["written"] == 3
        assert tree(scans) == before


class TestInABrowser:
    def test_a_persons_whole_way(self, app, scans, tmp_path):
        file = tmp_path / "scans.zip"
        with zipfile.ZipFile(file, "w") as archive:
            for path in scans.rglob("*.dcm"):
                archive.write(path, path.relative_to(scans))
        with chromium() as browser:
            page = new_page(browser, color_scheme="dark")
            # 1. A wrong code, then the right one.
            page.goto(app.address)
            page.fill("#code", "0000 0000" if app.code != "00000000" else "1")
            page.keyboard.press("Enter")
            until(page, "document.getElementById('door-error').textContent")
            assert page.locator("#desk").is_hidden()
            page.errors.clear()  # the browser names the answer 403
            page.fill("#code", app.code)
            page.keyboard.press("Enter")
            page.wait_for_selector("#desk:not([hidden])")
            # 2. Scans, and what they are.
            page.set_input_files("#files", file)
            page.wait_for_selector("#known:not([hidden])")
            assert "B70f" in page.locator("#known").inner_text() and "3 files" in page.locator("#count").inner_text()
            # 3. A target, and a run.
            page.get_by_label("a kernel").check()
            page.select_option("#target", "Br40")
            page.get_by_label("that of the target").check()
            page.click("#run")
            until(page, "viewer && viewer.loaded")
            assert "B70f to" in page.locator("#outcome").inner_text()
            assert "noise of the target" in page.locator("#outcome").inner_text()
            # 4. A look.
            page.locator("figure.after canvas").hover()
            page.mouse.wheel(0, 100)
            until(page, "document.querySelector('.slice').value === '3 of 3'")
            assert " HU (" in page.locator(".reading").inner_text()
            # 5. A region, drawn with the mouse; then a circle by numbers.
            page.click("#draw")
            box = page.locator("figure.before canvas").bounding_box()
            places = [(0.3, 0.3), (0.6, 0.3), (0.6, 0.7), (0.3, 0.7)]
            page.mouse.move(*[box[k] + share * box[s] for k, s, share in zip("xy", ("width", "height"), places[0])])
            page.mouse.down()
            for x, y in places[1:]:
                page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=5)
            page.mouse.up()
            page.wait_for_selector("#features table")
            said = page.locator("#features").inner_text()
            assert "on slice 3" in said and "GLCM entropy" in said and "GLRLM" in said
            assert page.evaluate("region.pixels") == pytest.approx(0.3 * 64 * 0.4 * 48, rel=0.15)
            page.fill("#diameter", "14")
            page.click("#circle")
            until(page, "region.pixels !== null && region.outlines[2] && region.pixels < 340")
            assert page.evaluate("region.pixels") == pytest.approx(np.pi * (7 / 0.7) ** 2, rel=0.05)
            # 6. The files.
            with page.expect_download() as download:
                page.click("#download")
            derived = results(download.value.path().read_bytes())
            assert {f"scans/1/{k}.dcm" for k in (1, 2, 3)} | {"run_report.json", "page_01.html"} <= set(derived)
            assert pydicom.dcmread(io.BytesIO(derived["scans/1/1.dcm"])).PatientName == NAME
            # 7. On a narrow screen, and after the page was loaded again.
            page.set_viewport_size({"width": 420, "height": 800})
            assert not has_overflow(page)
            page.reload()
            until(page, "viewer && viewer.loaded")
            # 8. Nobody else was asked, and no address tells a secret or a name.
            assert {url.split("/")[2] for url in page.asked} == {f"127.0.0.1:{app.port}"}
            key = page.context.cookies()[0]["value"]
            assert [url for url in page.asked if key in url or app.code in url or "?" in url or "Roe" in url] == []
            assert page.errors == [] and NAME not in page.content()
