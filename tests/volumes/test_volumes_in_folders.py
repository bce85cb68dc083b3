"""`standardize IN OUT` with volumes in IN, beside DICOM and other files."""

import gzip
import json
import os
import sys

import numpy as np
import pydicom
import pytest
from helpers.dicom import ROOT, save
from helpers.runs import tree, write_scans
from helpers.tiny import tiny_pipeline
from helpers.volumes import COUNT, THICKNESS, affine_ras, nifti, nrrd, phantom, volume_of

from diffusionct_pipeline.commands._main import main
from diffusionct_pipeline.comparison.systems import load_as_pipeline
from diffusionct_pipeline.dicom import read_series
from diffusionct_pipeline.standardize import volume_run as module
from diffusionct_pipeline.standardize.folder import standardize_folder
from diffusionct_pipeline.volumes import read_volume, read_volume_header

VOXELS, AFFINE = volume_of(phantom()), affine_ras()


@pytest.fixture
def folder(tmp_path):
    """Two volumes, a mask of one and notes."""
    source = tmp_path / "in"
    for name in "ab":
        (source / name).mkdir(parents=True)
    (source / "a/ct.nii.gz").write_bytes(gzip.compress(nifti(VOXELS, AFFINE)))
    (source / "a/tumour.nii.gz").write_bytes(gzip.compress(nifti((VOXELS > 0).astype("<i2"), AFFINE)))
    (source / "b/ct.nrrd").write_bytes(nrrd(VOXELS + np.int16(1), AFFINE))
    (source / "notes.txt").write_text("hello")
    return source


def run(folder, output, model, **options):
    return standardize_folder(folder, output, model=model, **options)


class TestAFolder:
    def test_every_volume_is_written_at_its_own_path(self, folder, tmp_path, model):
        before = tree(folder)
        report = run(folder, tmp_path / "out", model)
        assert set(tree(tmp_path / "out")) == {"a/ct.nii.gz", "b/ct.nrrd"} and tree(folder) == before
        assert (report["slices"], report["written"], report["failures"]) == (6, 6, 0)
        assert [entry["path"] for entry in report["series"]] == ["a/ct.nii.gz", "b/ct.nrrd"]
        first = report["series"][0]
        assert (first["slices"], first["kernel_out"]) == (3, "uncertain synth") and first["seconds_per_slice"] > 0
        assert first["thickness_mm"] == pytest.approx(0.6) and len(first["uid"]) == 16
        assert [item["path"] for item in report["skipped"]] == ["notes.txt", "a/tumour.nii.gz"]
        assert json.loads((tmp_path / "out/run_report.json").read_text()) == report

    def test_volumes_lie_beside_dicom(self, folder, tmp_path, model):
        write_scans(folder / "dicom", [(1, 1), (1, 2)])
        calls = []
        report = run(folder, tmp_path / "out", model, progress=lambda *call: calls.append(call))
        assert report["written"] == 8 and report["series"][0]["path"] is None
        assert set(tree(tmp_path / "out")) == {"a/ct.nii.gz", "b/ct.nrrd", "dicom/1/1.dcm", "dicom/1/2.dcm"}
        assert calls[-1] == (8, 8) and calls == sorted(calls)

    def test_the_voxels_are_those_of_the_pipeline(self, folder, tmp_path, model):
        run(folder, tmp_path / "out", model)
        (expected,) = tiny_pipeline()(folder / "b/ct.nrrd").images
        written = read_volume(tmp_path / "out/b/ct.nrrd")
        np.testing.assert_array_equal(written.voxels, expected.voxels)
        assert written.header.fields.made_by == expected.description

    def test_a_bad_file_does_not_stop_the_rest(self, folder, tmp_path, model):
        data = gzip.compress(nifti(volume_of(phantom(30)), AFFINE), 0)
        (folder / "bad.nii.gz").write_bytes(data[:-100000] + bytes(50000) + data[-50000:])
        (folder / "cut.nii").write_bytes(nifti(VOXELS, AFFINE)[:-5])
        (folder / "empty.nii").write_bytes(b"")
        (folder / "mr.nii").write_bytes(nifti(VOXELS + np.int16(1200), AFFINE))
        (folder / "tilted.nrrd").write_bytes(nrrd(VOXELS, AFFINE, space=None))
        report = run(folder, tmp_path / "out", model)
        assert (report["written"], report["failures"]) == (6, 5)
        assert [item["path"] for item in report["unusable"]] == ["bad.nii.gz", "empty.nii", "tilted.nrrd"]
        failed = [failure for entry in report["series"] for failure in entry["failures"]]
        assert [item["path"] for item in failed] == ["cut.nii", "mr.nii"]
        assert all(f'"IN{os.sep}{item["path"]}"' in item["reason"] for item in failed + report["unusable"])

    def test_without_its_library_a_volume_costs_itself_only(self, folder, tmp_path, model, monkeypatch):
        write_scans(folder / "dicom", [(1, 1), (1, 2)])
        monkeypatch.setitem(sys.modules, "nibabel", None)
        report = run(folder, tmp_path / "out", model)
        assert (report["written"], report["failures"]) == (5, 2)
        assert [item["path"] for item in report["unusable"]] == ["a/ct.nii.gz", "a/tumour.nii.gz"]
        assert all(
            'pip install ".[volumes]" in the folder of the source' in item["reason"] for item in report["unusable"]
        )

    def test_by_a_system_of_the_comparison(self, folder, tmp_path):
        report = standardize_folder(folder, tmp_path / "out", pipe=load_as_pipeline("input"))
        assert (report["written"], report["failures"]) == (6, 0)
        result = read_volume(tmp_path / "out/a/ct.nii.gz")
        np.testing.assert_array_equal(result.voxels, VOXELS)
        said = read_volume_header(tmp_path / "out/a/ct.nii.gz").fields.made_by
        assert said.startswith("DiffusionCT's input; run ")

    def test_pictures(self, folder, tmp_path, model):
        pytest.importorskip("matplotlib")
        run(folder, tmp_path / "out", model, preview=True)
        pictures = [name for name in tree(tmp_path / "out") if name.endswith(".png")]
        assert pictures == [f"preview/{name}_{i}.png" for name in ("01_a_ct.nii.gz", "02_b_ct.nrrd") for i in (1, 2, 3)]
        first = tree(tmp_path / "out")
        run(folder, tmp_path / "out", model, preview=True)
        assert tree(tmp_path / "out") == first


class TestOneFile:
    def test_is_the_dicom_route_with_its_uid_and_thickness(self, series, scan, tmp_path, model):
        run(series, tmp_path / "dicom", model)
        report = run(scan, tmp_path / "out", model, series_uid=f"{ROOT}.1", slice_thickness=THICKNESS)
        assert report["series"][0]["uid"] == f"{ROOT}.1" and report["written"] == COUNT
        derived = np.stack([item.hu for item in read_series(tmp_path / "dicom")])
        np.testing.assert_array_equal(read_volume(tmp_path / "out/scan.nii").hu, derived)

    def test_takes_over_the_estimate_of_a_series_whose_header_knows_its_kernel(self, series, scan, tmp_path, model):
        (tmp_path / "in").mkdir()
        for path in series.iterdir():
            dataset = pydicom.dcmread(path)
            dataset.ConvolutionKernel = "B70f"
            save(dataset, tmp_path / "in" / path.name)
        run(tmp_path / "in", tmp_path / "dicom", model)
        known = {
            "series_uid": f"{ROOT}.1",
            "slice_thickness": THICKNESS,
            "known_source": tmp_path / "dicom/run_report.json",
        }
        report = run(scan, tmp_path / "out", model, **known)
        assert "the header" in report["series"][0]["told_by"]
        derived = np.stack([item.hu for item in read_series(tmp_path / "dicom")])
        np.testing.assert_array_equal(read_volume(tmp_path / "out/scan.nii").hu, derived)

    def test_that_is_a_mask_is_a_failure(self, folder, tmp_path, model, capsys):
        arguments = ["standardize", str(folder / "a/tumour.nii.gz"), str(tmp_path / "out"), "--model", model]
        assert main(arguments) == 1
        assert "it is a mask" in capsys.readouterr().err

    def test_that_is_no_axial_volume_cannot_start(self, tmp_path, model):
        (tmp_path / "scan.nii").write_bytes(nifti(VOXELS, AFFINE, at_252=("hh", 0, 0)))
        with pytest.raises(ValueError, match="sform_code"):
            run(tmp_path / "scan.nii", tmp_path / "out", model)
        assert not (tmp_path / "out").exists()

    def test_on_the_command_line(self, scan, tmp_path, model):
        arguments = ["standardize", str(scan), str(tmp_path / "out"), "--model", model]
        assert main([*arguments, "--slice-thickness", "2.5", "--series-uid", "1.2.3", "--seed", "4"]) == 0
        options = json.loads((tmp_path / "out/run_report.json").read_text())["options"]
        assert (options["slice_thickness"], options["series_uid"], options["seed"]) == (2.5, "1.2.3", 4)


class TestResume:
    def test_what_is_finished_stays(self, folder, tmp_path, model):
        run(folder, tmp_path / "out", model)
        before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.n*")}
        report = run(folder, tmp_path / "out", model)
        assert (report["written"], report["finished_before"]) == (0, 6)
        assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.n*")}

    @pytest.mark.parametrize(
        "options", [{"overwrite": True}, {"seed": 1}, {"num_inference_steps": 2}, {"slice_thickness": 3.0}]
    )
    def test_overwrite_and_other_options_make_all_anew(self, folder, tmp_path, model, options):
        run(folder, tmp_path / "out", model)
        assert run(folder, tmp_path / "out", model, **options)["written"] == 6
        run(folder, tmp_path / "fresh", model, **options)
        assert tree(tmp_path / "out") == tree(tmp_path / "fresh")

    def test_a_changed_result_or_source_is_made_anew(self, folder, tmp_path, model):
        run(folder, tmp_path / "out", model)
        first = tree(tmp_path / "out")
        data = bytearray((tmp_path / "out/b/ct.nrrd").read_bytes())
        data[-1] ^= 1
        (tmp_path / "out/b/ct.nrrd").write_bytes(data)
        assert run(folder, tmp_path / "out", model)["written"] == 3 and tree(tmp_path / "out") == first
        (folder / "b/ct.nrrd").write_bytes(nrrd(VOXELS, AFFINE))
        assert run(folder, tmp_path / "out", model)["written"] == 3 and tree(tmp_path / "out") != first

    def test_an_interrupted_volume_leaves_nothing(self, folder, tmp_path, model, monkeypatch):
        def interrupt(volume, path):
            if path.name == "ct.nrrd":
                raise KeyboardInterrupt
            return original(volume, path)

        original = module.write_volume
        with monkeypatch.context() as patch:
            patch.setattr(module, "write_volume", interrupt)
            with pytest.raises(KeyboardInterrupt):
                run(folder, tmp_path / "out", model)
        assert set(tree(tmp_path / "out")) == {"a/ct.nii.gz"}
        report = run(folder, tmp_path / "out", model)
        assert (report["written"], report["finished_before"]) == (3, 3)

    def test_a_foreign_file_is_not_replaced(self, folder, tmp_path, model):
        (tmp_path / "out/b").mkdir(parents=True)
        (tmp_path / "out/b/ct.nrrd").write_bytes(nrrd(VOXELS, AFFINE))
        report = run(folder, tmp_path / "out", model, overwrite=True)
        assert "not overwritten" in report["series"][1]["failures"][0]["reason"]
        assert (tmp_path / "out/b/ct.nrrd").read_bytes() == nrrd(VOXELS, AFFINE)


class TestRefusals:
    @pytest.mark.parametrize(
        "options, message",
        [
            ({"num_samples": 2}, "samples are written for DICOM only"),
            ({"series_uid": "1.2"}, "2 volumes and 0 DICOM series"),
            ({"slice_thickness": 0.0}, "`slice_thickness` must be above 0 mm, got 0.0"),
        ],
    )
    def test_options(self, folder, tmp_path, model, options, message):
        (folder / "a/tumour.nii.gz").unlink()
        with pytest.raises(ValueError, match=message):
            run(folder, tmp_path / "out", model, **options)
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("options", [{"series_uid": "1.2"}, {"slice_thickness": 2.0}])
    def test_options_of_volumes_for_dicom(self, series, tmp_path, model, options):
        with pytest.raises(ValueError, match="DICOM"):
            run(series, tmp_path / "out", model, **options)

    def test_a_result_beside_its_source(self, scan, model):
        with pytest.raises(ValueError, match="choose another output folder"):
            run(scan, scan.parent, model)


class TestDoubts:
    @pytest.mark.parametrize(("pixdim", "remarks"), [(0.7, 0), (1.0, 1), (0.702, 0)])
    def test_sform_and_pixdim_that_disagree_are_remarked_upon(self, tmp_path, model, pixdim, remarks):
        (tmp_path / "in").mkdir()
        voxels = volume_of(phantom(rows=96, columns=96))
        (tmp_path / "in/scan.nii").write_bytes(nifti(voxels, affine_ras(), at_80=("2f", pixdim, pixdim)))
        report = standardize_folder(tmp_path / "in", tmp_path / "out", model=model)
        found = [remark for remark in report["series"][0]["remarks"] if "pixdim" in remark]
        assert len(found) == remarks and all("by its pixdim" in remark for remark in found)
