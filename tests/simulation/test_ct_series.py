import json
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pydicom
import pytest

from diffusionct_pipeline.dicom import read_slice, scan_folder
from diffusionct_pipeline.simulation import KERNELS, simulate_pair, write_series


@pytest.fixture(scope="module")
def pairs(phantom, scanner, options):
    z = phantom.tumours[0].centre_mm[2]
    options = replace(options, centre_mm=phantom.tumours[0].centre_mm[:2])
    return [simulate_pair(phantom, z + i, options, seed=i, scanner=scanner) for i in range(3)]


@pytest.fixture(scope="module")
def folder(pairs, tmp_path_factory):
    return write_series(tmp_path_factory.mktemp("series") / "phantom", iter(pairs), about={"phantom_seed": 1})


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_hu_and_geometry_come_back(folder, pairs):
    for name in ("Br40", "Bl64"):
        for i, pair in enumerate(pairs):
            ct = read_slice(folder / name / f"{i + 1:04d}.dcm")
            np.testing.assert_array_equal(ct.hu, pair.hu[name])
            assert ct.spacing_mm == pair.spacing_mm
            assert ct.position_mm == pytest.approx(pair.z_mm, abs=1e-3)
            assert ct.dataset.ConvolutionKernel == name
            # x and y of the first pixel: `centre_mm` is the centre of pixel (48, 48)
            assert float(ct.dataset.ImagePositionPatient[0]) == pytest.approx(pair.centre_mm[0] - 48 * 0.8, abs=1e-3)


def test_series_of_a_study_share_the_frame_of_reference_and_differ_in_the_kernel_only(folder):
    scan = scan_folder(folder)
    assert len(scan.series) == 2
    first, second = (pydicom.dcmread(series.paths[0]) for series in scan.series)
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "ImagePositionPatient", "PixelSpacing", "PatientID"):
        assert first[keyword].value == second[keyword].value
    for keyword in ("SeriesInstanceUID", "SOPInstanceUID", "ConvolutionKernel"):
        assert first[keyword].value != second[keyword].value


def test_the_header_says_that_it_is_simulated(folder):
    dataset = pydicom.dcmread(folder / "Br40" / "0001.dcm")
    assert "imulat" in dataset.ProtocolName and "Simulated" in dataset.ImageComments
    assert "SIMULATED" in dataset.SeriesDescription and str(dataset.PatientName).startswith("Simulated")


def test_masks_and_sidecar_lie_beside(folder, pairs):
    mask = np.load(folder / "tumours.npz")["mask"]
    assert mask.shape == (3, 96, 96) and mask.dtype == np.uint8
    np.testing.assert_array_equal(mask[1], pairs[1].mask)
    sidecar = json.loads((folder / "simulation.json").read_text())
    assert sidecar["simulated"] and sidecar["phantom_seed"] == 1 and sidecar["mas"] == 100.0
    assert [s["seed"] for s in sidecar["slices"]] == [0, 1, 2]
    assert sidecar["options"]["kernels"]["Bl64"]["mtf50"] == KERNELS["Bl64"].mtf50
    assert sidecar["mask_voxels"]["1"] == int((mask == 1).sum())


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is not installed")
def test_dciodvfy_finds_no_error(folder):
    for path in folder.rglob("*.dcm"):
        report = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True)
        assert "Error" not in report.stdout + report.stderr


def test_the_same_call_writes_the_same_bytes(folder, pairs, tmp_path):
    again = write_series(tmp_path / "again", pairs, about={"phantom_seed": 1})
    assert contents(folder) == contents(again)
    other = write_series(tmp_path / "other", pairs, about={"phantom_seed": 2})
    uid = "SeriesInstanceUID"
    assert pydicom.dcmread(folder / "Br40/0001.dcm")[uid].value != pydicom.dcmread(other / "Br40/0001.dcm")[uid].value


def test_an_existing_folder_is_left_alone(folder, pairs):
    before = contents(folder)
    with pytest.raises(FileExistsError, match="exists already"):
        write_series(folder, pairs)
    assert contents(folder) == before


def test_nothing_is_left_of_a_failed_series(pairs, tmp_path):
    def breaks():
        yield pairs[0]
        raise RuntimeError("scanner on fire")

    with pytest.raises(RuntimeError, match="on fire"):
        write_series(tmp_path / "broken", breaks())
    assert list(tmp_path.iterdir()) == []


def test_series_that_are_none_are_refused(pairs, tmp_path):
    with pytest.raises(ValueError, match="at least one"):
        write_series(tmp_path / "a", [])
    with pytest.raises(ValueError, match="ascending"):
        write_series(tmp_path / "a", [pairs[1], pairs[0]])
    with pytest.raises(ValueError, match="evenly spaced"):
        write_series(tmp_path / "a", [pairs[0], pairs[1], replace(pairs[2], z_mm=pairs[2].z_mm + 1)])
    with pytest.raises(ValueError, match="share one set of options"):
        write_series(tmp_path / "a", [pairs[0], replace(pairs[1], options=replace(pairs[1].options, mas=7.0))])
    assert list(tmp_path.iterdir()) == []
