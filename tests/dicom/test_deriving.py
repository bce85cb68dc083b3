import datetime
import hashlib
import json
import warnings

import numpy as np
import pydicom
import pytest
from helpers.dicom import convert, dciodvfy_errors, derive, make_slice, ramp, save
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from diffusionct_pipeline import __version__
from diffusionct_pipeline.dicom import DicomError, derived_uid, read_slice, write_slice
from diffusionct_pipeline.dicom.deriving import synthetic_kernel_name


class TestPixels:
    @pytest.mark.parametrize(
        "layout",
        [{}, {"signed": False}, {"signed": False, "bits": 12}, {"slope": 0.5, "intercept": -1000},
         {"bits": 12, "intercept": 0}],
        ids=str,
    )  # fmt: skip
    def test_identity_gives_the_source_back(self, layout, tmp_path):
        source = read_slice(make_slice(**layout))
        back = read_slice(write_slice(derive(source), tmp_path / "out.dcm"))
        np.testing.assert_array_equal(back.hu, source.hu)
        assert back.pixels == source.pixels

    def test_hu_are_rounded_to_the_rescale_of_the_source(self, tmp_path):
        source = read_slice(make_slice(slope=0.5, intercept=-1000))
        back = read_slice(write_slice(derive(source, source.hu + 0.3), tmp_path / "out.dcm"))
        np.testing.assert_allclose(back.hu, source.hu + 0.5)

    def test_clipped_pixels_are_counted(self, tmp_path):
        source = read_slice(make_slice(signed=False, bits=12))
        hu = source.hu.copy()
        hu[0, :3], hu[1, :2] = -2000, 5000
        derived = derive(source, hu)
        assert derived.clipped_pixels == 5
        back = read_slice(write_slice(derived, tmp_path / "out.dcm"))
        assert (back.hu[0, :3] == -1024).all() and (back.hu[1, :2] == 3071).all()

    def test_padding_is_kept_and_nothing_else_becomes_padding(self, tmp_path):
        hu = ramp()
        hu[:3] = -2000 - 1024
        dataset = make_slice(hu)
        dataset.add_new("PixelPaddingValue", "US", 63536)  # signed pixels, unsigned tag: as some scanners write it
        source = read_slice(dataset)
        result = np.full(hu.shape, -3024.0)
        result[8:] = 40
        derived = derive(source, result)
        back = read_slice(write_slice(derived, tmp_path / "out.dcm"))
        assert derived["PixelPaddingValue"].VR == "SS" and derived.PixelPaddingValue == -2000
        stored = np.frombuffer(derived.PixelData, "<i2").reshape(hu.shape)
        np.testing.assert_array_equal(stored == -2000, source.padding)
        assert (back.hu[8:] == 40).all()

    def test_the_corners_outside_the_field_of_view_are_kept_without_a_padding_tag(self):
        hu = ramp()
        hu[:3] = -2048
        source = read_slice(make_slice(hu))
        derived = derive(source, np.zeros(hu.shape))
        assert "PixelPaddingValue" not in derived
        assert (read_slice(derived).hu[:3] == -2048).all() and (read_slice(derived).hu[3:] == 0).all()

    def test_a_wrong_shape_and_nan_are_refused(self, source):
        with pytest.raises(ValueError, match=r"\(128, 128\).*got \(3, 4\)"):
            derive(source, np.zeros((3, 4)))
        with pytest.raises(ValueError, match="NaN"):
            derive(source, source.hu * np.nan)


class TestIdentity:
    def test_the_uids_follow_from_source_model_and_options(self, source):
        first, again = derive(source), derive(source)
        assert (first.SOPInstanceUID, first.SeriesInstanceUID) == (again.SOPInstanceUID, again.SeriesInstanceUID)
        changes = [{"model_id": "other"}, {"options": {"seed": 1, "steps": 20}}, {"target_name": "Br40"}]
        others = [derive(source, **change) for change in changes]
        assert len({ds.SOPInstanceUID for ds in [first, *others]}) == 4
        assert len({ds.SeriesInstanceUID for ds in [first, *others]}) == 4

    def test_slices_of_a_series_stay_one_series(self):
        derived = [derive(read_slice(make_slice(number=n))) for n in (1, 2)]
        assert derived[0].SeriesInstanceUID == derived[1].SeriesInstanceUID
        assert derived[0].SOPInstanceUID != derived[1].SOPInstanceUID

    def test_derived_uid_is_a_uuid_uid(self):
        uid = UID(derived_uid("1.2.3", "model", {"b": 1, "a": [2]}))
        assert uid.is_valid and len(uid) <= 44 and uid.startswith("2.25.")
        assert uid == derived_uid("1.2.3", "model", {"a": [2], "b": 1})
        number = int(uid[5:])
        digest = hashlib.sha256(json.dumps(["1.2.3", "model", {"a": [2], "b": 1}]).encode()).digest()
        free = ~((0xF << 76) | (0x3 << 62))  # all but the version and variant bits of the UUID are the hash
        assert number & free == int.from_bytes(digest[:16], "big") & free

    def test_options_must_be_json(self, source):
        with pytest.raises(ValueError, match="`options` must hold only JSON"):
            derive(source, options={"generator": object()})

    def test_study_and_frame_of_reference_and_geometry_are_untouched(self, source):
        derived = derive(source)
        for keyword in [
            "StudyInstanceUID",
            "FrameOfReferenceUID",
            "ImagePositionPatient",
            "ImageOrientationPatient",
            "PixelSpacing",
            "SliceThickness",
            "SliceLocation",
            "PatientID",
            "InstanceNumber",
            "AcquisitionDate",
            "WindowCenter",
        ]:
            assert derived.get(keyword) == source.dataset.get(keyword)
        texts = [[number.original_string for number in ds.ImagePositionPatient] for ds in (derived, source.dataset)]
        assert texts[0] == texts[1]

    def test_the_source_dataset_is_untouched(self, ct_small_path, tmp_path):
        source = read_slice(ct_small_path)
        write_slice(derive(source, now=datetime.datetime(2030, 1, 1)), tmp_path / "out.dcm")
        assert source.dataset == pydicom.dcmread(ct_small_path)

    def test_what_the_source_lacks(self, tmp_path):
        header = dict.fromkeys(
            [
                "SeriesInstanceUID",
                "StudyInstanceUID",
                "FrameOfReferenceUID",
                "SeriesNumber",
                "SeriesDescription",
                "PatientName",
                "Manufacturer",
                "ImageType",
            ]
        )
        source = read_slice(save(make_slice(**header), tmp_path / "in.dcm"))
        derived = derive(source)
        assert "ReferencedSeriesSequence" not in derived
        for keyword in ["SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"]:
            assert UID(derived[keyword].value).is_valid
        assert derived.Manufacturer in ("", None)  # unknown, not ours: we made no scanner
        assert dciodvfy_errors(write_slice(derived, tmp_path / "out.dcm")) == []

    def test_no_instance_uid_no_derived_image(self):
        dataset = make_slice(SOPInstanceUID=None)
        del dataset.file_meta.MediaStorageSOPInstanceUID
        with pytest.raises(DicomError, match="no SOPInstanceUID"):
            derive(read_slice(dataset))


class TestDescription:
    def test_says_derived_and_from_what(self, source):
        derived = derive(source)
        assert list(derived.ImageType) == ["DERIVED", "PRIMARY", "AXIAL"]
        image = derived.SourceImageSequence[0]
        assert image.ReferencedSOPInstanceUID == source.dataset.SOPInstanceUID
        assert image.ReferencedSOPClassUID == source.dataset.SOPClassUID
        assert image.SpatialLocationsPreserved == "YES"
        assert image.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
        series = derived.ReferencedSeriesSequence[0]
        assert series.SeriesInstanceUID == source.series_uid
        assert series.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == source.dataset.SOPInstanceUID

    def test_says_how_and_by_whom(self, source):
        derived = derive(source)
        for word in ["Bl64", __version__, "tiny 0123abcd", "seed=0", "steps=20"]:
            assert word in derived.DerivationDescription
        equipment = derived.ContributingEquipmentSequence[0]
        assert equipment.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
        assert equipment.Manufacturer == "DiffusionCT"
        assert list(equipment.SoftwareVersions) == [__version__, "tiny 0123abcd"]
        assert len(derived.DerivationCodeSequence) == 1

    def test_a_second_derivation_keeps_the_first(self, source):
        second = derive(read_slice(derive(source)), target_name="Br40")
        assert len(second.ContributingEquipmentSequence) == len(second.DerivationCodeSequence) == 2
        assert "Br40" in second.DerivationDescription and "Bl64" in second.DerivationDescription
        assert second.SourceImageSequence[0].ReferencedSOPInstanceUID == derive(source).SOPInstanceUID

    @pytest.mark.parametrize(
        "target, kernel",
        [("Bl64", "Bl64 synthetic"), ("STANDARD", "STANDARD synth"), ("reference 1", "reference 1 syn"),
         ("a very long name of a kernel", "a very long syn"), ("Br64d\\3", "Br64d/3 synth")],
    )  # fmt: skip
    def test_the_kernel_is_marked_synthetic(self, target, kernel):
        assert synthetic_kernel_name(target) == kernel and len(kernel) <= 16

    def test_the_series_description_keeps_its_suffix(self):
        derived = derive(read_slice(make_slice(SeriesDescription="x" * 64)), series_description_suffix=" -> Bl64")
        assert derived.SeriesDescription == "x" * 56 + " -> Bl64"
        assert derive(read_slice(make_slice(SeriesNumber=4))).SeriesNumber == 9004
        assert derive(read_slice(make_slice()), series_number=7).SeriesNumber == 7

    def test_what_is_no_longer_true_is_dropped(self):
        dataset = make_slice(SmallestImagePixelValue=0, LargestImagePixelValue=9, InstanceCreatorUID="1.2.3")
        dataset.private_block(0x0029, "VENDOR", create=True).add_new(0x10, "LO", "secret")
        item = pydicom.Dataset()
        item.private_block(0x0031, "VENDOR", create=True).add_new(0x10, "LO", "secret")
        item.ReferencedSOPInstanceUID = "1.2.3.4"
        dataset.ReferencedImageSequence = [item]
        dataset.add_new(0x60003000, "OW", b"\0" * 32)
        dataset.add_new(0x50003000, "OW", b"\0" * 32)
        dataset.add_new(0x00280000, "UL", 100)
        derived = derive(read_slice(dataset))
        assert not [e for e in derived.iterall() if e.tag.is_private or e.tag.element == 0]
        assert not [tag for tag in derived.keys() if tag.group in (0x6000, 0x5000)]  # noqa: SIM118  elements
        assert derived.ReferencedImageSequence[0].ReferencedSOPInstanceUID == "1.2.3.4"
        for keyword in ["SmallestImagePixelValue", "LargestImagePixelValue", "InstanceCreatorUID"]:
            assert keyword not in derived

    def test_a_lossy_source_stays_flagged(self):
        dataset = make_slice(
            LossyImageCompression="01", LossyImageCompressionRatio=8, LossyImageCompressionMethod="ISO_15444_1"
        )
        derived = derive(read_slice(dataset))
        assert (derived.LossyImageCompression, derived.LossyImageCompressionRatio) == ("01", 8)

    def test_a_lossy_encoding_is_flagged_even_if_the_header_is_not(self, tmp_path):
        path, packed = save(make_slice(ramp(64, 64), signed=False, bits=12), tmp_path / "a.dcm"), tmp_path / "b.dcm"
        convert("dcmcjpls", "+en", "+md", "2", path, packed)
        dataset = pydicom.dcmread(packed)
        for keyword in ["LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"]:
            dataset.pop(keyword, None)
        derived = derive(read_slice(dataset))
        assert (derived.LossyImageCompression, derived.LossyImageCompressionMethod) == ("01", "ISO_14495_1")
        assert derived.LossyImageCompressionRatio > 1

    def test_unreadable_and_overlong_values_do_not_stop_the_writing(self, tmp_path):
        path = save(make_slice(Exposure=12, GantryDetectorTilt=5), tmp_path / "odd.dcm")
        data = path.read_bytes()
        long = b"0.12345678901234567890"
        for old, new in [
            (b"\x18\x00\x52\x11IS\x02\x0012", b"\x18\x00\x52\x11IS\x02\x00?!"),
            (b"\x18\x00\x20\x11DS\x04\x005.0 ", b"\x18\x00\x20\x11DS\x16\x00" + long),
        ]:
            assert old in data
            data = data.replace(old, new)
        path.write_bytes(data)
        out = write_slice(derive(read_slice(path)), tmp_path / "out.dcm")
        derived = pydicom.dcmread(out)
        assert "Exposure" not in derived
        assert derived.GantryDetectorTilt == pytest.approx(float(long))
        assert dciodvfy_errors(out) == []


class TestValuesThatBreakTheirType:
    """PS3.5 6.2: mended where it is plain how, else left out; what must be there is empty then."""

    def derived(self, tmp_path, **header):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom sees it too
            path = save(make_slice(ramp(32, 32), **header), tmp_path / "odd.dcm")
        return write_slice(derive(read_slice(path)), tmp_path / "out.dcm")

    @pytest.mark.parametrize(
        ("keyword", "written", "expected"),
        [
            ("StudyDate", "2020-01-02", "20200102"),
            ("StudyDate", "2020.01.02", "20200102"),
            ("StudyDate", "20201399", ""),
            ("PatientBirthDate", "unknown", ""),
            ("StudyTime", "12:03:04.5", "120304.5"),
            ("StudyTime", "25:00", ""),
            ("StudyTime", "120304.123456789", "120304.123456"),
            ("AcquisitionDate", "1.2.2020", None),
            ("PatientAge", "45Y", "045Y"),
            ("PatientAge", "045y", "045Y"),
            ("PatientAge", "45", None),
            ("PatientSex", "m", "M"),
            ("BodyPartExamined", "Chest", "CHEST"),
            ("StationName", "a station of a long name", "a station of a l"),
            ("FrameOfReferenceUID", "1.02.3", ...),
        ],
    )
    def test_texts(self, tmp_path, keyword, written, expected):
        out = self.derived(tmp_path, **{keyword: written})
        found = pydicom.dcmread(out).get(keyword)
        assert (found not in ("", None, written)) if expected is ... else found == expected
        assert dciodvfy_errors(out) == []

    @pytest.mark.parametrize(
        ("old", "new", "keyword", "expected"),
        [
            (b"\x18\x00\x52\x11IS\x02\x0012", b"\x18\x00\x52\x11IS\x04\x0012.0", "Exposure", 12),
            (b"\x18\x00\x52\x11IS\x02\x0012", b"\x18\x00\x52\x11IS\x0c\x00999999999999", "Exposure", None),
            (b"\x18\x00\x20\x11DS\x04\x005.0 ", b"\x18\x00\x20\x11DS\x06\x001_000 ", "GantryDetectorTilt", 1000),
            (b"\x18\x00\x20\x11DS\x04\x005.0 ", b"\x18\x00\x20\x11DS\x04\x00NaN ", "GantryDetectorTilt", None),
        ],
    )
    @pytest.mark.filterwarnings("ignore")
    def test_numbers(self, tmp_path, old, new, keyword, expected):
        path = save(make_slice(ramp(32, 32), Exposure=12, GantryDetectorTilt=5), tmp_path / "odd.dcm")
        assert path.read_bytes().count(old) == 1
        path.write_bytes(path.read_bytes().replace(old, new))
        out = write_slice(derive(read_slice(path)), tmp_path / "out.dcm")
        assert pydicom.dcmread(out).get(keyword) == expected
        assert dciodvfy_errors(out) == []

    def test_names_of_patient_study_and_order_are_not_cut(self, tmp_path):
        out = self.derived(tmp_path, AccessionNumber="1" * 20, StudyID="2" * 17, PatientID="3" * 64)
        derived = pydicom.dcmread(out)
        assert (derived.AccessionNumber, derived.StudyID, derived.PatientID) == ("", "", "3" * 64)
        assert dciodvfy_errors(out) == []

    @pytest.mark.filterwarnings("ignore")
    def test_no_line_of_the_log_quotes_them(self, tmp_path, caplog):
        caplog.set_level("DEBUG")
        secret = {
            "StudyDate": "SECRET-1",
            "PatientAge": "SECRET-2",
            "SliceThickness": 3,
            "StationName": "SECRET-3 " * 4,
        }
        path = save(make_slice(ramp(32, 32), **secret), tmp_path / "odd.dcm")
        data = path.read_bytes().replace(b"\x18\x00\x50\x00DS\x02\x003 ", b"\x18\x00\x50\x00DS\x08\x00SECRET-4")
        path.write_bytes(data)
        derive(read_slice(path))
        own = [record.getMessage() for record in caplog.records if record.name.startswith("diffusionct")]
        assert len(own) >= 3 and "SECRET" not in " ".join(own)


class TestDates:
    def test_two_runs_write_the_same_bytes(self, ct_small_path, tmp_path):
        files = [write_slice(derive(read_slice(ct_small_path)), tmp_path / name) for name in ("a.dcm", "b.dcm")]
        assert files[0].read_bytes() == files[1].read_bytes()

    def test_without_now_only_the_times_of_the_acquisition_stay(self, source):
        derived = derive(source)
        assert derived.ContentDate == source.dataset.ContentDate
        assert "InstanceCreationDate" not in derived
        assert "ContributionDateTime" not in derived.ContributingEquipmentSequence[0]

    def test_now_is_written_where_it_belongs(self, source):
        derived = derive(source, now=datetime.datetime(2030, 1, 2, 3, 4, 5))
        assert derived.ContentDate == derived.InstanceCreationDate == derived.SeriesDate == "20300102"
        assert derived.ContentTime.startswith("030405")
        assert derived.ContributingEquipmentSequence[0].ContributionDateTime.startswith("20300102030405")
        assert derived.AcquisitionDate == source.dataset.AcquisitionDate
        assert derived.SOPInstanceUID == derive(source).SOPInstanceUID


class TestValidator:
    """dciodvfy prints errors and may still exit 0: its text counts."""

    @pytest.mark.parametrize("now", [None, datetime.datetime(2030, 1, 2)])
    def test_a_real_slice(self, source, now, tmp_path):
        assert dciodvfy_errors(write_slice(derive(source, now=now), tmp_path / "out.dcm")) == []

    @pytest.mark.parametrize("layout", [{}, {"signed": False, "bits": 12}, {"slope": 0.5}], ids=str)
    def test_a_series(self, layout, tmp_path):
        for number in (1, 2, 3):
            dataset = make_slice(number=number, **layout)
            assert dciodvfy_errors(save(dataset, tmp_path / "in.dcm")) == []
            out = write_slice(derive(read_slice(dataset)), tmp_path / f"{number}.dcm")
            assert dciodvfy_errors(out) == []

    def test_errors_of_a_de_identified_source_are_not_inherited(self, tmp_path):
        dataset = make_slice(
            PatientIdentityRemoved="YES",
            PlanarConfiguration=0,
            BodyPartExamined="TH CT CHEST WO C",
            ImageType=None,
            Manufacturer=None,
            PatientBirthDate=None,
        )
        assert dciodvfy_errors(save(dataset, tmp_path / "in.dcm")) != []
        derived = derive(read_slice(dataset))
        assert dciodvfy_errors(write_slice(derived, tmp_path / "out.dcm")) == []
        assert derived.DeidentificationMethod == "Not stated in the source image"

    @pytest.mark.parametrize("command", ["dcmcjpls", "dcmcrle", "gdcmconv --j2k", "dcmcjpeg +e1"])
    def test_compressed_sources(self, command, ct_small_path, source, tmp_path):
        tool, *options = command.split()
        convert(tool, *options, ct_small_path, tmp_path / "in.dcm")
        out = write_slice(derive(read_slice(tmp_path / "in.dcm")), tmp_path / "out.dcm")
        assert pydicom.dcmread(out).file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        np.testing.assert_array_equal(read_slice(out).hu, source.hu)
        assert dciodvfy_errors(out) == []

    def test_an_implicit_source(self, source, tmp_path):
        path = tmp_path / "in.dcm"
        dataset = pydicom.dcmread(source.path)
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        pydicom.dcmwrite(path, dataset, enforce_file_format=True)
        assert dciodvfy_errors(write_slice(derive(read_slice(path)), tmp_path / "out.dcm")) == []
