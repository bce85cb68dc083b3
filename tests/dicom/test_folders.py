import os
import pickle
import shutil

import numpy as np
import pydicom
import pytest
from helpers.dicom import derive, make_slice, save
from pydicom.data import get_testdata_file

from diffusionct_pipeline.dicom import DicomError, SkippedKind, read_series, read_slice, scan_folder, write_slice


def fill(folder, numbers=(1, 2, 3, 4, 5), **options):
    folder.mkdir(parents=True, exist_ok=True)
    series = options.get("series", 1)
    return [save(make_slice(number=n, **options), folder / f"{series}_{n}.dcm") for n in numbers]


def reasons(scan):
    return {skipped.path.name: skipped.reason for skipped in scan.skipped}


class TestSeries:
    def test_are_told_apart_and_found_in_subfolders(self, tmp_path):
        fill(tmp_path / "a")
        fill(tmp_path / "b" / "c", series=2, SeriesDescription="abdomen")
        fill(tmp_path / "b", numbers=(6,))
        scan = scan_folder(tmp_path)
        assert [(series.description, len(series.paths)) for series in scan.series] == [("thorax", 6), ("abdomen", 5)]
        assert scan.skipped == []

    def test_are_sorted_along_the_normal_not_by_number_or_name(self, tmp_path):
        for name, number, z in [("a", 3, 7.5), ("b", 1, -2.5), ("c", 2, 2.5)]:
            save(make_slice(number=number, ImagePositionPatient=[0, 0, z]), tmp_path / name)
        series = scan_folder(tmp_path).series[0]
        assert [path.name for path in series.paths] == ["b", "c", "a"]
        assert series.positions_mm == [-2.5, 2.5, 7.5]
        assert (series.step_mm, series.thickness_mm, series.spacing_mm, series.shape) == (5, 2.5, 0.7, (16, 16))

    def test_a_tilted_gantry_sorts_along_its_own_normal(self, tmp_path):
        tilt = np.deg2rad(20)
        normal = np.array([0, np.sin(tilt), np.cos(tilt)])
        cosines = [1, 0, 0, 0, round(np.cos(tilt), 6), round(-np.sin(tilt), 6)]
        for number in (3, 1, 2):
            position = [float(f"{x:.4f}") for x in 5 * number * normal]
            save(
                make_slice(number=number, ImageOrientationPatient=cosines, ImagePositionPatient=position),
                tmp_path / str(number),
            )
        series = scan_folder(tmp_path).series[0]
        assert [path.name for path in series.paths] == ["1", "2", "3"]
        assert series.step_mm == pytest.approx(5, abs=1e-3)

    def test_a_missing_slice_and_a_doubled_position_are_reported(self, tmp_path):
        paths = fill(tmp_path, numbers=(1, 2, 3, 5, 6))
        save(make_slice(number=7, ImagePositionPatient=[-10, -10, 5]), tmp_path / "again.dcm")
        series = scan_folder(tmp_path).series[0]
        assert len(series.gaps) == 1 and "5.00 mm between" in series.gaps[0] and str(paths[3]) in series.gaps[0]
        assert len(series.duplicates) == 1 and "again.dcm" in series.duplicates[0]

    def test_a_regular_series_has_neither(self, tmp_path):
        fill(tmp_path)
        series = scan_folder(tmp_path).series[0]
        assert series.gaps == series.duplicates == []

    def test_without_positions_the_slice_location_then_the_number_decides(self, tmp_path):
        for name, number, location in [("a", 2, 9.0), ("b", 3, 1.0), ("c", 1, 5.0)]:
            header = {"ImagePositionPatient": None, "number": number}
            for folder, more in [("located", {"SliceLocation": location}), ("lost", {})]:
                (tmp_path / folder).mkdir(exist_ok=True)
                save(make_slice(**header, **more), tmp_path / folder / name)
        located, lost = (scan_folder(tmp_path / folder).series[0] for folder in ("located", "lost"))
        assert [path.name for path in located.paths] == ["b", "c", "a"]
        assert [path.name for path in lost.paths] == ["c", "a", "b"]
        assert "InstanceNumber" in lost.gaps[0]

    def test_without_series_uid_a_folder_is_a_series(self, tmp_path):
        for folder, numbers in [("a", (1, 2)), ("b", (3,))]:
            fill(tmp_path / folder, numbers, SeriesInstanceUID=None)
        assert [len(series.paths) for series in scan_folder(tmp_path).series] == [2, 1]

    @pytest.mark.parametrize(
        "odd, reason",
        [
            ({"ImageOrientationPatient": [1, 0, 0, 0, 0.9848, -0.1736]}, "mixes orientations"),
            ({"ImageOrientationPatient": None}, "mixes orientations"),
            ({"PixelSpacing": [0.8, 0.8]}, "mixes pixel spacings, 0.7 and 0.8 mm"),
            ({"hu": np.zeros((8, 16))}, r"mixes matrix sizes, \(16, 16\) and \(8, 16\)"),
        ],
    )
    def test_keep_the_geometry_of_most_slices_and_leave_out_the_others(self, odd, reason, tmp_path):
        fill(tmp_path)
        fill(tmp_path, numbers=(6,), **odd)
        fill(tmp_path, series=2)
        scan = scan_folder(tmp_path)
        assert [len(series.paths) for series in scan.series] == [5, 5]
        assert len(scan.skipped) == 1
        with pytest.raises(DicomError, match=reason):
            raise DicomError(scan.skipped[0].reason)
        assert "1_6.dcm" in scan.skipped[0].reason


class TestJunk:
    def test_is_skipped_with_a_reason(self, tmp_path):
        fill(tmp_path)
        save(make_slice(number=50, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), tmp_path / "scout.dcm")
        save(make_slice(number=51, Modality="SR", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33"), tmp_path / "report")
        shutil.copy(tmp_path / "1_2.dcm", tmp_path / "copy.dcm")
        shutil.copy(get_testdata_file("DICOMDIR"), tmp_path / "DICOMDIR")
        (tmp_path / "notes.txt").write_text("hello")
        (tmp_path / "empty.dcm").touch()
        (tmp_path / "cut.dcm").write_bytes((tmp_path / "1_1.dcm").read_bytes()[:300])
        (tmp_path / ".DS_Store").write_bytes(b"\0" * 100)
        (tmp_path / "broken_link.dcm").symlink_to(tmp_path / "nowhere")
        fill(tmp_path / ".trash", series=3)
        fill(tmp_path / "__MACOSX", series=4)
        os.mkfifo(tmp_path / "pipe")
        scan = scan_folder(tmp_path)
        assert [len(series.paths) for series in scan.series] == [5]
        words = {
            "scout.dcm": "localizer", "report": "not a CT image", "copy.dcm": "second copy", "DICOMDIR": "DICOMDIR",
            "notes.txt": "not a DICOM", "empty.dcm": "empty", "cut.dcm": "truncated", ".DS_Store": "hidden",
            "broken_link.dcm": "not a regular", ".trash": "hidden", "__MACOSX": "hidden", "pipe": "not a regular",
        }  # fmt: skip
        if "copy.dcm" not in reasons(scan):  # whichever of the two comes first by name is kept
            words["1_2.dcm"] = words.pop("copy.dcm")
        assert reasons(scan).keys() == words.keys()
        for name, word in words.items():
            assert word in reasons(scan)[name] and name in reasons(scan)[name]

    def test_pixels_are_not_read(self, tmp_path):
        path = fill(tmp_path)[0]
        path.write_bytes(path.read_bytes()[:-100])
        assert len(scan_folder(tmp_path).series[0].paths) == 5

    @pytest.mark.skipif(os.name == "nt" or os.getuid() == 0, reason="the superuser may read everything")
    def test_an_unreadable_file_does_not_stop_the_rest(self, tmp_path):
        paths = fill(tmp_path)
        paths[0].chmod(0)
        scan = scan_folder(tmp_path)
        assert len(scan.series[0].paths) == 4 and "Permission" in scan.skipped[0].reason


def hide(folder):
    (folder / ".DS_Store").write_bytes(bytes(100))


def hide_a_folder(folder):
    fill(folder / "__MACOSX", series=4)


def make_a_pipe(folder):
    os.mkfifo(folder / "pipe")


def make_an_empty_file(folder):
    (folder / "empty.dcm").touch()


def make_a_note(folder):
    (folder / "notes.txt").write_text("hello")


def copy_a_dicomdir(folder):
    shutil.copy(get_testdata_file("DICOMDIR"), folder / "DICOMDIR")


def copy_a_slice(folder):
    shutil.copy(folder / "1_2.dcm", folder / "copy.dcm")


def cut_a_header(folder):
    (folder / "cut.dcm").write_bytes((folder / "1_1.dcm").read_bytes()[:300])


def damage_a_header(folder):
    data = save(make_slice(number=60), folder / "damaged.dcm").read_bytes()
    (folder / "damaged.dcm").write_bytes(data[:132] + b"\xff" * 40)


def derive_a_slice(folder):
    (folder / "derived").mkdir()
    write_slice(derive(read_slice(folder / "1_1.dcm")), folder / "derived/1.dcm")


def add_a_volume_of_another_format(folder):
    (folder / "mask.mha").write_bytes(b"ObjectType = Image")


def lock(folder):
    save(make_slice(number=61), folder / "locked.dcm")


def add(**header):
    """Put a file with an odd header beside the slices."""
    return lambda folder: save(make_slice(number=50, **header), folder / "odd.dcm")


SPOILS = [
    (hide, SkippedKind.HIDDEN),
    (hide_a_folder, SkippedKind.HIDDEN),
    (make_a_pipe, SkippedKind.NOT_REGULAR),
    (make_an_empty_file, SkippedKind.EMPTY),
    (make_a_note, SkippedKind.NOT_DICOM),
    (copy_a_dicomdir, SkippedKind.DICOMDIR),
    (add(SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33"), SkippedKind.NOT_CT),
    (add(Modality="PT"), SkippedKind.NOT_CT),
    (add(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), SkippedKind.LOCALIZER),
    (add_a_volume_of_another_format, SkippedKind.OTHER_FORMAT),
    (add(ImageOrientationPatient=[1, 0, 0, 0, 0, -1]), SkippedKind.NOT_TRANSVERSE),
    (add(ImageType=["DERIVED", "SECONDARY", "AXIAL", "CT_SOM5 MIP"]), SkippedKind.PICTURE),
    (derive_a_slice, SkippedKind.STANDARDIZED),
    (copy_a_slice, SkippedKind.SECOND_COPY),
    (lock, SkippedKind.UNREADABLE),
    (cut_a_header, SkippedKind.UNUSABLE),
    (damage_a_header, SkippedKind.UNUSABLE),
    (add(NumberOfFrames=2), SkippedKind.UNUSABLE),
    (add(PixelSpacing=None), SkippedKind.UNUSABLE),
    (add(RescaleSlope=None), SkippedKind.UNUSABLE),
    (add(PixelSpacing=[0.8, 0.8]), SkippedKind.MIXED_GEOMETRY),
]


class TestKind:
    """What control flow reads: the message may be reworded at any time."""

    @pytest.mark.parametrize(("spoil", "kind"), SPOILS, ids=[kind.value for _, kind in SPOILS])
    def test_of_what_was_left_out(self, spoil, kind, tmp_path, monkeypatch):
        fill(tmp_path)
        spoil(tmp_path)
        read = pydicom.dcmread

        def refuse(path, *arguments, **options):  # for the superuser, who may read everything
            if path.name == "locked.dcm":
                raise PermissionError(13, "Permission denied", str(path))
            return read(path, *arguments, **options)

        monkeypatch.setattr(pydicom, "dcmread", refuse)
        skipped = scan_folder(tmp_path, results=False).skipped
        assert {item.kind for item in skipped} == {kind}

    def test_every_one_is_tested(self):
        assert {kind for _, kind in SPOILS} == set(SkippedKind)

    def test_a_folder_that_cannot_be_listed_is_unreadable(self, tmp_path, monkeypatch):
        def walk(folder, onerror):
            onerror(PermissionError(13, "Permission denied", str(folder / "locked")))
            return iter(())

        monkeypatch.setattr(os, "walk", walk)
        (skipped,) = scan_folder(tmp_path).skipped
        assert skipped.kind is SkippedKind.UNREADABLE and skipped.path == tmp_path / "locked"

    def test_an_error_of_which_nothing_is_known_is_about_an_unusable_file(self):
        assert DicomError("odd").kind is SkippedKind.UNUSABLE

    def test_survives_a_process_boundary(self):
        error = pickle.loads(pickle.dumps(DicomError("odd", SkippedKind.EMPTY)))
        assert (error.kind, str(error)) == (SkippedKind.EMPTY, "odd")


class TestNothingToDo:
    def test_an_empty_folder_scans_and_fails_only_on_demand(self, tmp_path):
        scan = scan_folder(tmp_path)
        assert scan.series == scan.skipped == []
        with pytest.raises(DicomError, match="holds no files"):
            scan.require_series()

    def test_a_folder_of_junk_says_why(self, tmp_path):
        for number in range(5):
            (tmp_path / f"{number}.txt").write_text("x")
        with pytest.raises(DicomError, match=r"no usable CT slice in 5 files(.|\n)*0.txt(.|\n)*and 2 more"):
            scan_folder(tmp_path).require_series()

    def test_no_folder(self, tmp_path):
        with pytest.raises(DicomError, match="is not a folder"):
            scan_folder(tmp_path / "absent")


class TestReadSeries:
    def test_gives_the_slices_in_order(self, tmp_path):
        fill(tmp_path, numbers=(3, 1, 2))
        assert [slice_.position_mm for slice_ in read_series(tmp_path)] == [2.5, 5.0, 7.5]

    def test_refuses_several_series_by_name(self, tmp_path):
        fill(tmp_path)
        fill(tmp_path, series=2, SeriesDescription="abdomen")
        with pytest.raises(DicomError, match=r"2 CT series(.|\n)*thorax(.|\n)*abdomen"):
            read_series(tmp_path)


class TestOneSeries:
    def test_is_given_where_there_is_one(self, tmp_path):
        fill(tmp_path)
        scan = scan_folder(tmp_path)
        assert scan.require_one_series() is scan.series[0]

    def test_several_or_none_are_refused(self, tmp_path):
        with pytest.raises(DicomError, match="holds no files"):
            scan_folder(tmp_path).require_one_series()
        fill(tmp_path)
        fill(tmp_path, series=2, SeriesDescription="abdomen")
        with pytest.raises(DicomError, match=r"2 CT series(.|\n)*thorax(.|\n)*5 slices(.|\n)*abdomen"):
            scan_folder(tmp_path).require_one_series()
