"""Folders as they come from archives and colleagues: nothing in them is left out, changed or doubled in silence."""

import json
import os
import shutil

import numpy as np
import pydicom
import pytest
from helpers.dicom import derive, make_slice, ramp, save
from helpers.runs import tree
from helpers.volumes import affine_ras, nifti, phantom, volume_of
from pydicom.uid import EnhancedMRImageStorage, RLELossless, RTDoseStorage, SegmentationStorage

from diffusionct_pipeline.commands import _main as cli
from diffusionct_pipeline.dicom import DicomError, read_slice, scan_folder, write_slice
from diffusionct_pipeline.standardize.folder import standardize_folder

HU = ramp(96, 96)  # 67 mm
CORONAL = {"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}


def fill(folder, numbers=(1, 2, 3), hu=HU, **header):
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        save(make_slice(hu + number, number=number, **header), folder / f"{number:03d}.dcm")
    return folder


def written(out):
    return sorted(name for name in tree(out) if name.endswith(".dcm"))


def uids(out):
    return [str(pydicom.dcmread(out / name).SOPInstanceUID) for name in written(out)]


def skipped(report):
    return {item["path"]: item["kind"] for item in report["skipped"]}


class TestOneUidOfSeveralImages:
    def test_each_is_standardized_under_a_uid_of_its_own(self, tmp_path, model):
        scans = fill(tmp_path / "in", SOPInstanceUID="1.2.3")
        report = standardize_folder(scans, tmp_path / "out", model=model)
        assert (report["written"], report["failures"]) == (3, 0)
        assert len(set(uids(tmp_path / "out"))) == 3
        assert any("share their SOPInstanceUID" in remark for remark in report["series"][0]["remarks"])

    def test_a_denoised_copy_under_the_header_of_its_source(self, tmp_path, model):
        scans = fill(tmp_path / "in")
        save(make_slice(np.round(HU / 50) * 50, number=1), scans / "denoised.dcm")
        report = standardize_folder(scans, tmp_path / "out", model=model)
        assert (report["written"], len(set(uids(tmp_path / "out")))) == (4, 4)

    def test_a_true_copy_is_left_out_and_named_however_it_is_stored(self, tmp_path, model):
        scans = fill(tmp_path / "in")
        copy = pydicom.dcmread(scans / "001.dcm")
        copy.compress(RLELossless, generate_instance_uid=False)
        save(copy, scans / "zz.dcm")
        report = standardize_folder(scans, tmp_path / "out", model=model)
        assert (report["written"], skipped(report)) == (3, {"zz.dcm": "second copy"})

    def test_a_damaged_copy_is_a_failure_of_its_own(self, tmp_path, model):
        scans = fill(tmp_path / "in")
        (scans / "zz.dcm").write_bytes((scans / "001.dcm").read_bytes()[:-900])
        report = standardize_folder(scans, tmp_path / "out", model=model)
        assert (report["written"], report["failures"]) == (3, 1)

    def test_the_uid_of_a_result_comes_from_what_its_source_shows(self):
        results = [derive(read_slice(make_slice(HU + n))) for n in (0, 0, 1)]
        first, same, other = (str(result.SOPInstanceUID) for result in results)
        assert first == same != other
        assert len({str(result.SeriesInstanceUID) for result in results}) == 1


class TestLinkedFolders:
    def test_are_followed_once(self, tmp_path, model):
        scans = fill(tmp_path / "in/p1")
        (tmp_path / "in/p2").symlink_to(fill(tmp_path / "store/p2", series=2))
        (tmp_path / "in/p3").symlink_to(tmp_path / "store/p2")
        (scans / "loop").symlink_to(tmp_path / "in")
        report = standardize_folder(tmp_path / "in", tmp_path / "out", model=model)
        assert report["written"] == 6
        assert written(tmp_path / "out") == [
            f"p{patient}/{number:03d}.dcm" for patient in (1, 2) for number in (1, 2, 3)
        ]
        assert skipped(report) == {os.path.join("p1", "loop"): "second copy", "p3": "second copy"}

    def test_a_folder_goes_by_its_own_name_before_that_of_a_link(self, tmp_path):
        fill(tmp_path / "b")
        (tmp_path / "a").symlink_to(tmp_path / "b")
        (series,) = scan_folder(tmp_path).series
        assert {path.parent.name for path in series.paths} == {"b"}


class TestOwnResults:
    @pytest.fixture
    def mixed(self, tmp_path, model):
        scans = fill(tmp_path / "in")
        standardize_folder(scans, tmp_path / "std", model=model)
        shutil.copytree(tmp_path / "std", scans / "std")
        return scans

    def test_are_left_alone_and_named(self, mixed, tmp_path, model):
        report = standardize_folder(mixed, tmp_path / "out", model=model)
        assert report["written"] == 3 and len(written(tmp_path / "out")) == 3
        assert list(skipped(report).values()).count("standardized already") == 3

    def test_again_standardizes_them_once_more(self, mixed, tmp_path, model):
        report = standardize_folder(mixed, tmp_path / "out", model=model, again=True)
        assert report["written"] == 6 and report["options"]["again"] is True

    def test_alone_are_an_error_that_says_how(self, mixed, tmp_path, model, capsys):
        for source in (mixed / "std", mixed / "std/001.dcm"):
            assert cli.main(["standardize", str(source), str(tmp_path / "out"), "--model", model]) == 1
            assert "--again" in capsys.readouterr().err

    def test_of_volumes_too(self, tmp_path, model):
        (tmp_path / "in").mkdir()
        (tmp_path / "in/scan.nii").write_bytes(nifti(volume_of(phantom()), affine_ras()))
        standardize_folder(tmp_path / "in", tmp_path / "std", model=model)
        shutil.copy(tmp_path / "std/scan.nii", tmp_path / "in/std.nii")
        report = standardize_folder(tmp_path / "in", tmp_path / "out", model=model)
        assert skipped(report) == {"std.nii": "standardized already"}
        with pytest.raises(ValueError, match="--again"):
            standardize_folder(tmp_path / "std/scan.nii", tmp_path / "out", model=model)

    def test_an_output_that_holds_the_input_is_refused(self, tmp_path, model):
        fill(tmp_path / "scans/p1")
        with pytest.raises(ValueError, match="contains the input"):
            standardize_folder(tmp_path / "scans/p1", tmp_path / "scans", model=model)


class TestNoTransverseSlice:
    PLANES = {
        "coronal": CORONAL,
        "sagittal": {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]},
        "mip": {"ImageType": ["DERIVED", "SECONDARY", "AXIAL", "CT_SOM5 MIP"]},
        "min ip": {"ImageType": ["DERIVED", "SECONDARY", "REFORMATTED", "MIN IP"]},
        "scout": {"SeriesDescription": "Scout"},
        "topogram": {"ImageType": ["ORIGINAL", "PRIMARY"], "SeriesDescription": "Chest Topogram 0.6"},
        "rendering": {"ImageType": ["DERIVED", "SECONDARY", "VRT"]},
        "screen save": {"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"], "ImagePositionPatient": None},
        "capture": {"ImageType": ["DERIVED", "SECONDARY", "OTHER"], "ImagePositionPatient": "",
                    "ImageOrientationPatient": ""},
        "burned": {"BurnedInAnnotation": "YES", "ImagePositionPatient": None, "ImageOrientationPatient": None},
        "eight bits": {"bits": 8, "signed": False, "hu": np.zeros((96, 96)), "intercept": 0},
    }  # fmt: skip

    @pytest.mark.parametrize("plane", PLANES)
    def test_is_skipped_by_name_and_costs_nothing_but_itself(self, plane, tmp_path):
        fill(tmp_path)
        save(make_slice(**{"hu": HU, "number": 9, **self.PLANES[plane]}), tmp_path / "odd.dcm")
        scan = scan_folder(tmp_path)
        assert [len(series.paths) for series in scan.series] == [3]
        (item,) = scan.skipped
        assert "odd.dcm" in item.reason and item.kind.value in ("not a transverse slice", "picture", "localizer")

    def test_a_series_of_them_is_refused(self, tmp_path, model):
        fill(tmp_path / "in", **CORONAL)
        with pytest.raises(DicomError, match="not a transverse slice"):
            standardize_folder(tmp_path / "in", tmp_path / "out", model=model)
        with pytest.raises(DicomError, match="not a transverse slice"):
            read_slice(tmp_path / "in/001.dcm")

    @pytest.mark.parametrize(
        "header",
        [
            {"ImageOrientationPatient": [1, 0, 0, 0, 0.8660254, -0.5]},  # a gantry tilted by 30 degrees
            {"ImageOrientationPatient": [-1, 0, 0, 0, -1, 0]},  # prone
            {"ImageOrientationPatient": None, "ImagePositionPatient": None},
            {"ImageType": ["DERIVED", "SECONDARY", "AXIAL", "CT_SOM5 MPR"]},
            {"ImageType": ["DERIVED", "PRIMARY", "REFORMATTED", "AVERAGE"]},
            {"ImageType": None},
            {"SeriesDescription": "thorax, no scout"},
        ],
    )
    def test_a_slice_remains_one(self, header, tmp_path):
        fill(tmp_path, **header)
        assert len(scan_folder(tmp_path).series[0].paths) == 3


class TestDoubtfulValues:
    def test_stored_values_whose_intercept_was_lost_are_refused(self, tmp_path):
        path = save(make_slice(HU + 1024, signed=False, bits=12, intercept=0), tmp_path / "a.dcm")
        with pytest.raises(DicomError, match="rescale intercept"):
            read_slice(path)

    @pytest.mark.parametrize("hu", [ramp(96, 96, 0, 255), ramp(96, 96, 24, 3000), np.zeros((96, 96))])
    def test_a_series_of_them_is_a_failure_with_a_reason(self, tmp_path, model, hu):
        fill(tmp_path / "in", hu=hu, intercept=0)
        report = standardize_folder(tmp_path / "in", tmp_path / "out", model=model)
        assert (report["written"], report["failures"], written(tmp_path / "out")) == (0, 3, [])
        assert "holds values from" in report["series"][0]["failures"][0]["reason"]

    def test_a_chest_without_air_and_a_narrow_view_are_remarked_upon(self, tmp_path, model, capsys):
        fill(tmp_path / "in", hu=ramp(64, 64, -200, 900), PixelSpacing=[0.5, 0.5])
        assert cli.main(["standardize", str(tmp_path / "in"), str(tmp_path / "out"), "--model", model]) == 0
        said = capsys.readouterr().err
        assert "below -300 HU" in said and "field of view of 32 mm" in said

    @pytest.mark.parametrize(
        "header",
        [
            {"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "CT_SOM5 SPI", "VNC"]},
            {"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL", "GSI MONO"]},
            {"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "SPECIAL"]},
            {"SeriesDescription": "Chest MonoE 70keV"},
        ],
    )
    def test_spectral_images_are_remarked_upon_and_stay_known_as_such(self, header, tmp_path, model):
        fill(tmp_path / "in", **header)
        report = standardize_folder(tmp_path / "in", tmp_path / "out", model=model)
        assert sum("spectral image" in remark for remark in report["series"][0]["remarks"]) == 1
        result = pydicom.dcmread(tmp_path / "out/001.dcm")
        assert list(result.ImageType)[3:] == list(header.get("ImageType", [])[3:])

    def test_a_plain_series_is_not(self, tmp_path, model):
        report = standardize_folder(fill(tmp_path / "in"), tmp_path / "out", model=model)
        of_the_result = ("too little bare skin is in view", "its kernel could not be estimated well enough")
        remarks = report["series"][0]["remarks"]
        assert [remark for remark in remarks if not remark.startswith(of_the_result)] == report["remarks"] == []


class TestGoodData:
    @pytest.mark.parametrize(
        ("sop_class", "modality"),
        [(SegmentationStorage, "SEG"), (RTDoseStorage, "RTDOSE"), (EnhancedMRImageStorage, "MR"), ("1.2.3.4", "CT")],
    )
    def test_other_objects_beside_ct_are_no_failures(self, sop_class, modality, tmp_path, model):
        scans = fill(tmp_path / "in")
        header = {"SOPClassUID": sop_class, "Modality": modality, "NumberOfFrames": 3, "RescaleSlope": None}
        save(make_slice(HU, number=9, **header), scans / "other.dcm")
        report = standardize_folder(scans, tmp_path / "out", model=model)
        assert (report["failures"], skipped(report)) == (0, {"other.dcm": "not a CT image"})

    @pytest.mark.parametrize("excess", [bytes(2), bytes(128), bytes(4096), b"\xff" * 50])
    def test_bytes_after_the_pixels_are_ignored(self, excess, tmp_path):
        dataset = make_slice(HU)
        expected = read_slice(dataset).hu
        dataset.PixelData += excess
        assert np.array_equal(read_slice(save(dataset, tmp_path / "a.dcm")).hu, expected)

    @pytest.mark.parametrize(
        ("kept", "text"),
        [
            ("a.mha", "MetaImage"), ("b.nhdr", "another file"), ("c.hdr", "pair"), ("c.img", "pair"), ("d.zip", "Unpack"),
            ("e.jpg", "no Hounsfield"), ("f.mhd", "MetaImage"),
        ],
    )  # fmt: skip
    def test_other_formats_are_named_with_what_to_do(self, kept, text, tmp_path, model):
        scans = fill(tmp_path / "in")
        (scans / kept).write_bytes(b"something else that is no DICOM")
        report = standardize_folder(scans, tmp_path / "out", model=model)
        (item,) = report["skipped"]
        assert item["path"] == kept and text in item["reason"]
        with pytest.raises(DicomError, match=text):
            standardize_folder(scans / kept, tmp_path / "out2", model=model)

    def test_a_series_uid_a_slice_is_remarked_upon(self, tmp_path, model, capsys):
        for number in (1, 2, 3):
            fill(tmp_path / "in", (number,), SeriesInstanceUID=f"1.2.3.{number}")
        assert cli.main(["standardize", str(tmp_path / "in"), str(tmp_path / "out"), "--model", model]) == 0
        assert "3 series of one slice each" in capsys.readouterr().err
        assert len(json.loads((tmp_path / "out/run_report.json").read_text())["remarks"]) == 1


class TestBitsThatAreNotStored:
    """A name burned into an overlay plane above BitsStored must not survive in pixels that hold no measurement."""

    def burned(self, padding=None):
        hu = HU.copy()
        hu[:, :40] = -2048 if padding is None else HU[:, :40]
        dataset = make_slice(hu.clip(-1024 if padding else -3000), signed=padding is None, bits=12, intercept=-1024)
        cells = np.frombuffer(dataset.PixelData, "<u2").reshape(96, 96).copy()
        if padding is not None:
            cells[:, :40] = padding & 0x0FFF
            dataset.add_new("PixelPaddingValue", "US", padding)
        cells[10:20, 5:35] ^= 0xF000  # the name
        dataset.PixelData = cells.tobytes()
        return dataset

    @pytest.mark.parametrize("padding", [None, 3])
    def test_are_gone_in_the_result(self, padding, tmp_path):
        source = read_slice(self.burned(padding))
        result = pydicom.dcmread(write_slice(derive(source), tmp_path / "a.dcm"))
        cells = np.frombuffer(result.PixelData, "<u2").reshape(96, 96)
        for column in range(40):
            assert len(set(cells[9:21, column].tolist())) == 1, "the name can still be read"
