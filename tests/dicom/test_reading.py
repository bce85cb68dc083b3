import zlib

import numpy as np
import pydicom
import pytest
from helpers.dicom import convert, make_slice, ramp, save
from pydicom.data import get_testdata_file
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, JPEGLSLossless

from diffusionct_pipeline.dicom import DicomError, hounsfield, kernel_name, read_slice


def test_a_real_slice(ct_small_path, ct_small):
    slice_ = read_slice(ct_small_path)
    np.testing.assert_array_equal(slice_.hu, ct_small.pixel_array - 1024.0)
    assert slice_.hu.dtype == np.float32
    assert slice_.spacing_mm == pytest.approx(0.661468)
    assert slice_.position_mm == pytest.approx(-75.699997)
    assert slice_.series_uid == ct_small.SeriesInstanceUID
    assert not slice_.padding.any()


def test_a_dataset_reads_like_its_file(ct_small_path, ct_small):
    np.testing.assert_array_equal(read_slice(ct_small).hu, read_slice(ct_small_path).hu)
    assert read_slice(ct_small).path is None


def test_a_dataset_without_file_meta_is_not_changed():
    dataset = make_slice()
    del dataset.file_meta
    np.testing.assert_array_equal(read_slice(dataset).hu, ramp())
    assert not hasattr(dataset, "file_meta")


class TestTransferSyntaxes:
    @pytest.mark.parametrize("layout", [{}, {"signed": False, "bits": 12}], ids=["signed 16", "unsigned 12"])
    @pytest.mark.parametrize(
        "command",
        [
            "dcmcjpeg +e1",
            "dcmcjpeg +el",
            "dcmcjpls",
            "gdcmconv --j2k",
            "dcmcrle",
            "dcmconv +tb",
            "dcmconv +td",
            "dcmconv +ti",
        ],
    )
    def test_lossless_ones_read_bit_exact(self, command, layout, tmp_path):
        source, packed = save(make_slice(ramp(64, 64), **layout), tmp_path / "source.dcm"), tmp_path / "packed.dcm"
        tool, *options = command.split()
        convert(tool, *options, source, packed)
        assert pydicom.dcmread(packed).file_meta.TransferSyntaxUID != ExplicitVRLittleEndian
        np.testing.assert_array_equal(read_slice(packed).hu, ramp(64, 64))

    def test_a_missing_decoder_names_what_to_install(self, tmp_path, monkeypatch):
        dataset = make_slice()
        dataset.file_meta.TransferSyntaxUID = JPEGLSLossless
        dataset.PixelData = pydicom.encaps.encapsulate([b"\0" * 100])
        path = save(dataset, tmp_path / "packed.dcm")

        class Missing:
            is_available = False

        monkeypatch.setattr(hounsfield, "get_decoder", lambda syntax: Missing)
        with pytest.raises(DicomError, match=r'packed.dcm.*JPEG-LS.*pip install "\.\[dicom\]" in the folder'):
            read_slice(path)

    def test_an_unknown_one_is_named(self, tmp_path):
        dataset = make_slice()
        dataset.PixelData = pydicom.encaps.encapsulate([b"\0" * 100])
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.MPEG2MPML
        with pytest.raises(DicomError, match="MPEG2.*not supported"):
            read_slice(save(dataset, tmp_path / "video.dcm"))

    @pytest.mark.parametrize("uid", ["1.2.3.4", "1.2.840.10008.1.2.4.999"])
    def test_one_that_does_not_exist_is_named(self, uid):
        dataset = make_slice()
        dataset.file_meta.TransferSyntaxUID = uid
        with pytest.raises(DicomError, match=f"{uid}.*not supported"):
            read_slice(dataset)

    def test_a_code_stream_that_disagrees_with_the_header_on_the_sign(self):
        path = get_testdata_file("J2K_pixelrep_mismatch.dcm", download=False)
        if path is None:
            pytest.skip("not bundled with this pydicom")
        assert read_slice(path).hu[~read_slice(path).padding].min() >= -1500


class TestWithoutPreamble:
    @pytest.mark.parametrize("implicit", [True, False])
    def test_a_bare_dataset_is_read(self, implicit, tmp_path):
        dataset = make_slice()
        path = tmp_path / "bare"
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        pydicom.dcmwrite(path, dataset, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
        data = path.read_bytes()
        path.write_bytes(data[data.index(b"\x08\x00\x08\x00") :])  # from (0008,0008) on
        np.testing.assert_array_equal(read_slice(path).hu, ramp())

    @pytest.mark.parametrize(
        "content", [b"\x08\x00", b"\x08\x00\x05\x00\xff\xff\xff\xff" * 9, b"PK\x03\x04" + bytes(400)]
    )
    def test_other_files_are_not_forced(self, content, tmp_path):
        path = tmp_path / "other"
        path.write_bytes(content)
        with pytest.raises(DicomError, match="other"):
            read_slice(path)


class TestRealWorldHeaders:
    @pytest.mark.parametrize(
        "keyword",
        [
            "ImageType",
            "SeriesInstanceUID",
            "SeriesDescription",
            "ImagePositionPatient",
            "SOPClassUID",
            "ImageOrientationPatient",
            "SliceThickness",
            "InstanceNumber",
            "RescaleType",
            "HighBit",
            "Modality",
        ],
    )
    @pytest.mark.parametrize("empty", [True, False])
    def test_a_single_slice_does_without(self, keyword, empty):
        dataset = make_slice()
        if empty:
            dataset[keyword].value = None
        else:
            delattr(dataset, keyword)
        np.testing.assert_array_equal(read_slice(dataset).hu, ramp())

    def test_position_falls_back_to_the_slice_location_then_to_nan(self):
        assert read_slice(make_slice(ImagePositionPatient=None, SliceLocation=-12.5)).position_mm == -12.5
        assert np.isnan(read_slice(make_slice(ImagePositionPatient=None)).position_mm)

    @pytest.mark.parametrize("text, number", [(b"+0.70 ", 0.7), (b" 7.0E-1 ", 0.7), (b"0.70000000000000000001", 0.7)])
    def test_odd_number_strings(self, text, number, tmp_path):
        path = save(make_slice(), tmp_path / "odd.dcm")
        data = path.read_bytes()
        old = b"\x28\x00\x30\x00DS\x08\x000.7\\0.7 "
        value = text + b"\\" + text
        value += b" " * (len(value) % 2)
        assert old in data
        path.write_bytes(data.replace(old, b"\x28\x00\x30\x00DS" + len(value).to_bytes(2, "little") + value))
        assert read_slice(path).spacing_mm == pytest.approx(number)

    def test_an_unreadable_value_that_is_not_needed(self, tmp_path):
        path = save(make_slice(InstanceNumber=7), tmp_path / "odd.dcm")
        data = path.read_bytes()
        path.write_bytes(data.replace(b"\x20\x00\x13\x00IS\x02\x007 ", b"\x20\x00\x13\x00IS\x02\x00?!"))
        np.testing.assert_array_equal(read_slice(path).hu, ramp())


class TestKernelName:
    @pytest.mark.parametrize(
        ("written", "name"), [("B70f", "B70f"), (["Br40d", "3"], "Br40d"), (["", "3"], ""), ("", ""), (None, "")]
    )
    def test_is_the_first_value_or_empty(self, written, name):
        assert kernel_name(make_slice(ConvolutionKernel=written), "a slice") == name

    def test_survives_the_file(self, tmp_path):
        path = save(make_slice(ConvolutionKernel=["Br40d", "3"]), tmp_path / "slice.dcm")
        assert kernel_name(pydicom.dcmread(path), "a slice") == "Br40d"


class TestDamage:
    """What pydicom raises for a damaged file is of any kind; what leaves here names the file."""

    def damaged(self, path, old, new):
        data = save(make_slice(), path).read_bytes()
        assert data.count(old) == 1
        path.write_bytes(data.replace(old, new))
        return path

    @pytest.mark.parametrize("vr", [b"UI", b"SQ", b"??", b"AT"])
    def test_another_vr_of_the_pixel_data(self, vr, tmp_path):
        path = self.damaged(tmp_path / "odd.dcm", b"\xe0\x7f\x10\x00OW", b"\xe0\x7f\x10\x00" + vr)
        with pytest.raises(DicomError, match="odd.dcm"):
            read_slice(path)

    def test_a_deflated_bomb(self, tmp_path):
        dataset = make_slice()
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        path = save(dataset, tmp_path / "bomb.dcm")
        whole = path.read_bytes()
        head = 144 + pydicom.dcmread(path).file_meta.FileMetaInformationGroupLength
        deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        block = bytes(1 << 20)
        path.write_bytes(whole[:head] + b"".join(deflate.compress(block) for _ in range(300)) + deflate.flush())
        assert path.stat().st_size < 1 << 20
        with pytest.raises(DicomError, match="bomb.dcm.*inflates to more than 256 MiB"):
            read_slice(path)

    def test_too_little_memory_is_not_the_fault_of_the_file(self, tmp_path, monkeypatch):
        def fail(*arguments, **options):
            raise MemoryError

        monkeypatch.setattr(hounsfield, "pixel_array", fail)
        with pytest.raises(MemoryError):
            read_slice(save(make_slice(), tmp_path / "slice.dcm"))


class TestRefusals:
    """Every refusal names the file and the reason."""

    @pytest.mark.parametrize(
        "header, reason",
        [
            ({"SOPClassUID": pydicom.uid.MRImageStorage}, "not a CT image but MR Image Storage"),
            ({"SOPClassUID": pydicom.uid.SecondaryCaptureImageStorage}, "Secondary Capture"),
            ({"Modality": "PT"}, "modality is PT"),
            ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer"),
            ({"SOPClassUID": pydicom.uid.EnhancedCTImageStorage, "NumberOfFrames": 20}, "multi-frame image with 20"),
            ({"NumberOfFrames": 2}, "multi-frame image with 2 frames"),
            ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, "RGB"),
            ({"RescaleSlope": None}, "no rescale"),
            ({"PixelSpacing": None}, "no pixel spacing"),
            ({"PixelSpacing": [0.7, 0.8]}, r"must have square pixels, got a pixel spacing of \(0.7, 0.8\) mm"),
            ({"PixelSpacing": [0, 0]}, r"PixelSpacing \(0028,0030\) of 0.05 to 5 mm, got 0, 0"),
            ({"PixelSpacing": [1e300, 1e300]}, r"PixelSpacing \(0028,0030\) of 0.05 to 5 mm, got 1e\+300, 1e\+300"),
            ({"RescaleSlope": 1e300}, r"RescaleSlope \(0028,1053\) of -100 to 100 HU, got 1e\+300"),
            ({"RescaleSlope": 1e-9}, "RescaleSlope 1e-09; every pixel"),
            ({"RescaleSlope": "NaN"}, "1 finite numbers as RescaleSlope, got 'NaN'"),
            ({"RescaleIntercept": -1e300}, r"RescaleIntercept \(0028,1052\) of -65536 to 65536 HU, got -1e\+300"),
            ({"Rows": 65535}, "a value of 1 to 8192 for Rows, got 65535"),
            (
                {"PixelSpacing": [4, 4], "hu": np.zeros((300, 600))},
                "must span at most 1000 mm, got 1200 mm for 300 x 600 pixels",
            ),
            ({"PixelSpacing": [0.7]}, "2 finite numbers"),
            ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "perpendicular"),
            ({"PixelData": None}, "no pixel data"),
            ({"PixelData": b"\0" * 100}, "truncated: 100 of 512 bytes"),
            ({"Rows": 15}, "512 bytes of pixel data; 15 x 16 pixels take 480: its Rows or Columns are wrong"),
        ],
    )
    def test_of_an_unsuitable_image(self, header, reason, tmp_path):
        path = save(make_slice(**header), tmp_path / "case_017.dcm")
        with pytest.raises(DicomError, match=reason) as caught:
            read_slice(path)
        assert "case_017.dcm" in str(caught.value)

    def test_a_dicomdir(self):
        with pytest.raises(DicomError, match="DICOMDIR"):
            read_slice(get_testdata_file("DICOMDIR"))

    @pytest.mark.parametrize("content, reason", [(b"", "is empty"), (b"name,value\n" * 50, "not a DICOM file")])
    def test_of_what_is_not_dicom(self, content, reason, tmp_path):
        path = tmp_path / "case_017.dcm"
        path.write_bytes(content)
        with pytest.raises(DicomError, match=f"case_017.dcm.*{reason}"):
            read_slice(path)

    def test_of_a_folder_and_of_nothing(self, tmp_path):
        with pytest.raises(DicomError, match="is a folder"):
            read_slice(tmp_path)
        with pytest.raises(DicomError, match="absent.dcm.*No such file"):
            read_slice(tmp_path / "absent.dcm")

    def test_of_a_file_cut_anywhere(self, tmp_path):
        whole = save(make_slice(), tmp_path / "whole.dcm").read_bytes()
        path = tmp_path / "cut.dcm"
        for length in [*range(0, len(whole) - 1, 37), len(whole) - 1]:
            path.write_bytes(whole[:length])
            with pytest.raises(DicomError, match="cut.dcm"):
                read_slice(path)

    def test_of_a_compressed_file_cut_anywhere(self, tmp_path):
        dataset = make_slice(np.random.default_rng(0).integers(-1000, 1000, (32, 32)))
        dataset.compress(pydicom.uid.RLELossless)
        whole = save(dataset, tmp_path / "whole.dcm").read_bytes()
        path = tmp_path / "cut.dcm"
        for length in range(0, len(whole) - 16, 41):
            path.write_bytes(whole[:length])
            with pytest.raises(DicomError, match="cut.dcm"):
                read_slice(path)
