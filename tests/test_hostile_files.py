"""Pipes, links and devices are never opened, input that changes under a run is noticed, and no file takes all memory."""

import json
import math
import os
import shutil
import signal
import tracemalloc
import zlib

import numpy as np
import pydicom
import pytest
from helpers.dicom import make_slice, ramp, save
from helpers.runs import tree
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEGLSLossless, RLELossless

from diffusionct_pipeline import DiffusionCTPipeline
from diffusionct_pipeline.commands import _main as cli
from diffusionct_pipeline.dicom import DicomError, read_slice, scan_folder
from diffusionct_pipeline.dicom.sample_files import SliceSamples
from diffusionct_pipeline.method import checkpoint
from diffusionct_pipeline.standardize import folder as module
from diffusionct_pipeline.standardize.folder import standardize_folder
from diffusionct_pipeline.utils.files import LOCK_FILE

HU = ramp(96, 96)


@pytest.fixture
def scans(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for number in (1, 2, 3):
        save(make_slice(HU + number, number=number), folder / f"{number}.dcm")
    return folder


@pytest.fixture(autouse=True)
def no_waiting():
    """A pipe that is opened waits for ever; then the test fails."""
    signal.alarm(120)
    yield
    signal.alarm(0)


class TestPipesAndDevices:
    NAMES = ("scan.dcm", "scan.nii", "scan.nrrd", "scan.mha")

    @pytest.fixture(params=["pipe", "link to a pipe", "link to a device"])
    def make(self, request, tmp_path):
        def make(path):
            if request.param == "pipe":
                os.mkfifo(path)
            elif request.param == "link to a device":
                path.symlink_to("/dev/zero")
            else:
                os.mkfifo(tmp_path / f"pipe of {path.name}")
                path.symlink_to(tmp_path / f"pipe of {path.name}")

        return make

    def test_in_the_input_are_skipped(self, scans, tmp_path, model, make):
        for name in self.NAMES:
            make(scans / name)
        report = standardize_folder(scans, tmp_path / "out", model=model)
        assert (report["written"], report["failures"]) == (3, 0)
        assert {item["kind"] for item in report["skipped"]} == {"not a regular file"}

    @pytest.mark.parametrize("name", NAMES)
    def test_as_input_are_refused(self, tmp_path, model, make, name):
        make(tmp_path / name)
        with pytest.raises(ValueError, match=f"{name}.* is not a regular file"):
            standardize_folder(tmp_path / name, tmp_path / "out", model=model)

    def test_in_the_output_are_left_alone(self, scans, tmp_path, model, make):
        out = tmp_path / "out"
        out.mkdir()
        make(out / "2.dcm")
        report = standardize_folder(scans, out, model=model)
        assert (report["written"], report["failures"]) == (2, 1)
        assert "not a regular file" in report["series"][0]["failures"][0]["reason"]
        assert not (out / "2.dcm").is_file()

    def test_as_samples(self, scans, tmp_path, model, make):
        (tmp_path / "out/samples").mkdir(parents=True)
        make(tmp_path / "out/samples/2.dcm.npz")
        assert standardize_folder(scans, tmp_path / "out", model=model, num_samples=2)["written"] == 3
        make(tmp_path / "again.npz")
        with pytest.raises(ValueError, match="not a regular file"):
            SliceSamples.read(tmp_path / "again.npz")

    def test_as_lock(self, scans, tmp_path, model, make, capsys):
        (tmp_path / "out").mkdir()
        make(tmp_path / "out" / LOCK_FILE)
        assert cli.main(["standardize", str(scans), str(tmp_path / "out"), "--model", model]) == 1
        assert "not a regular file" in capsys.readouterr().err


class TestInputThatChanges:
    @pytest.fixture
    def change(self, monkeypatch):
        """Does something to the input once it was searched."""

        def change(act):
            search = module.scan_source

            def searched(*arguments):
                scan = search(*arguments)
                act()
                return scan

            monkeypatch.setattr(module, "scan_source", searched)

        return change

    def test_a_slice_that_is_replaced_by_another_is_a_failure(self, scans, tmp_path, model, change):
        change(lambda: shutil.copy(scans / "1.dcm", scans / "2.dcm"))
        report = standardize_folder(scans, tmp_path / "out", model=model)
        assert (report["written"], report["failures"]) == (2, 1)
        assert "replaced" in report["series"][0]["failures"][0]["reason"]

    def test_no_two_results_have_one_uid(self, tmp_path, model, change):
        scans = tmp_path / "in"
        scans.mkdir()
        for number in (1, 2):
            save(make_slice(HU + number, SOPInstanceUID="1.2.3"), scans / f"{number}.dcm")
        change(lambda: shutil.copy(scans / "1.dcm", scans / "2.dcm"))
        for _ in range(2):
            report = standardize_folder(scans, tmp_path / "out", model=model)
            assert (report["failures"], sorted(tree(tmp_path / "out"))) == (1, ["1.dcm"])
            assert "changed while the run went on" in report["series"][0]["failures"][0]["reason"]
            shutil.copy(scans / "1.dcm", scans / "2.dcm")
            save(make_slice(HU + 2, SOPInstanceUID="1.2.3"), scans / "2.dcm")

    def test_what_comes_meanwhile_is_said(self, scans, tmp_path, model, change, capsys):
        change(lambda: save(make_slice(HU, number=9), scans / "9.dcm"))
        assert cli.main(["standardize", str(scans), str(tmp_path / "out"), "--model", model]) == 0
        assert "1 file(s) were added to the input" in capsys.readouterr().err
        (remark,) = json.loads((tmp_path / "out/run_report.json").read_text())["remarks"]
        assert '"IN/9.dcm"' in remark


class TestDeflatedFiles:
    def deflated(self, path, more):
        """A bomb whose file meta information is longer than any should be."""
        dataset = make_slice(HU)
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        dataset.file_meta.add_new(0x00020100, "UI", "1.2.3")
        dataset.file_meta.add_new(0x00020102, "OB", bytes(100_000))
        save(dataset, path)
        whole = path.read_bytes()
        start = 144 + pydicom.dcmread(path).file_meta.FileMetaInformationGroupLength
        deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        inner = deflate.compress(zlib.decompressobj(-zlib.MAX_WBITS).decompress(whole[start:]))
        block = bytes(1 << 20)
        inner += b"".join(deflate.compress(block) for _ in range(more)) + deflate.flush()
        path.write_bytes(whole[:start] + inner)
        return path

    def test_with_a_long_meta_header_are_within_the_limit_too(self, tmp_path):
        path = self.deflated(tmp_path / "bomb.dcm", 1024)
        tracemalloc.start()
        try:
            with pytest.raises(DicomError, match="inflates to more than 256 MiB"):
                read_slice(path)
            assert tracemalloc.get_traced_memory()[1] < 32 << 20
        finally:
            tracemalloc.stop()
        assert len(scan_folder(tmp_path).skipped) == 1

    def test_of_a_usual_size_are_read(self, tmp_path):
        assert np.array_equal(read_slice(self.deflated(tmp_path / "a.dcm", 0)).hu, HU)


class TestDecodedValues:
    def test_that_do_not_fit_the_stored_bits_are_damage(self, tmp_path):
        dataset = make_slice(HU, signed=False, bits=16)
        dataset.compress(JPEGLSLossless)
        dataset.BitsStored, dataset.HighBit = 11, 10
        with pytest.raises(DicomError, match="beyond its 11 bits"):
            read_slice(save(dataset, tmp_path / "a.dcm"))

    def run_length_encoded(self, path, superfluous):
        """A slice whose segments decode to some more bytes than it has pixels (PS3.5 annex G)."""
        dataset = make_slice(HU)
        cells = np.frombuffer(dataset.PixelData, "<i2").view(np.uint8).reshape(-1, 2)
        segments = []
        for plane in (cells[:, 1].tobytes(), cells[:, 0].tobytes()):
            plane += bytes(superfluous)
            runs = [plane[at : at + 128] for at in range(0, len(plane), 128)]
            segment = b"".join(bytes([len(run) - 1]) + run for run in runs)
            segments.append(segment + bytes(len(segment) % 2))
        offsets = [2, 64, 64 + len(segments[0]), *[0] * 13]
        dataset.PixelData = encapsulate([np.array(offsets, "<u4").tobytes() + b"".join(segments)])
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = RLELossless
        return save(dataset, path)

    @pytest.mark.parametrize("superfluous", [0, 1])
    def test_a_superfluous_byte_in_rle_is_ignored(self, tmp_path, superfluous):
        assert np.array_equal(read_slice(self.run_length_encoded(tmp_path / "a.dcm", superfluous)).hu, HU)

    def test_a_row_too_many_in_rle_is_damage(self, tmp_path):
        with pytest.raises(DicomError, match="9216 bytes, got 9312"):
            read_slice(self.run_length_encoded(tmp_path / "a.dcm", 96))


ENDLESS = {
    "num_train_timesteps": 10**9,
    "trained_betas": [0.01] * 200_000,
    "solver_order": 10**9,
    "sigma_max": math.inf,
}


@pytest.mark.parametrize("key", ENDLESS)
@pytest.mark.parametrize("by_the_pipeline", [True, False])
def test_a_scheduler_of_endless_steps_is_refused_before_it_is_made(tmp_path, model, key, by_the_pipeline):
    """What is downloaded from the Hub comes to `load_config` too, before any component is made."""
    shutil.copytree(model, tmp_path / "hostile")
    path = tmp_path / "hostile/scheduler/scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: ENDLESS[key]}))
    load = DiffusionCTPipeline.from_pretrained if by_the_pipeline else DiffusionCTPipeline.load_config
    with pytest.raises(ValueError, match=f"{key}.* must be at most 100000"):
        load(tmp_path / "hostile")


def test_endless_settings_of_a_scheduler_are_not_read(tmp_path, model, monkeypatch):
    shutil.copytree(model, tmp_path / "hostile")
    monkeypatch.setattr(checkpoint, "MOST_BYTES", 100)
    with pytest.raises(ValueError, match="scheduler_config.json must have at most 100 bytes"):
        DiffusionCTPipeline.from_pretrained(tmp_path / "hostile")
