"""What headers tell: the protocol, and what no training scan had."""

import pytest
from helpers.dicom import make_slice
from pydicom.uid import JPEGLSNearLossless

from diffusionct_pipeline.dicom.protocol import iterative_level, read_protocol
from diffusionct_pipeline.standardize.likeness import header_remarks


def test_protocol_has_what_headers_say():
    header = make_slice(ManufacturerModelName="Scanner 1", Exposure=120, XRayTubeCurrent=200)
    protocol = read_protocol([header], 2.5, 1.25, 0.7)
    assert (protocol.vendor, protocol.model, protocol.kernel) == ("TEST", "Scanner 1", "B70f")
    assert (protocol.thickness_mm, protocol.increment_mm, protocol.kvp) == (2.5, 1.25, 120)
    assert (protocol.exposure_mas, protocol.current_ma) == (120, 200)


def test_protocol_does_without_headers_and_with_strange_ones():
    header = make_slice(KVP=None, ConvolutionKernel=None, Manufacturer="Name^of a patient; or anything else at all")
    protocol = read_protocol([header], None, None, 0.7)
    assert protocol.vendor == protocol.kernel == "" and protocol.kvp is None


class TestIterative:
    @pytest.mark.parametrize("kernel", ["B70f", "Br40d", "LUNG", "FC51", "D"])
    def test_is_not_seen_in_plain_kernels(self, kernel):
        assert iterative_level(make_slice(ConvolutionKernel=kernel)) == ""

    def test_is_the_strength_or_the_kernel_of_siemens(self):
        assert iterative_level(make_slice(ConvolutionKernel=["Br40d", "3"])) == "strength 3"
        assert iterative_level(make_slice(ConvolutionKernel="I30f")) == "iterative kernel"

    def test_is_the_private_level_of_ge(self):
        header = make_slice(ConvolutionKernel="STANDARD")
        header.private_block(0x0053, "GEHC_CT_ADVAPP_001", create=True).add_new(0x43, "SH", "40")
        assert iterative_level(header) == "40"


class TestRemarks:
    @pytest.mark.parametrize("header", [
        {}, {"ContrastBolusAgent": "NONE"}, {"ContrastBolusAgent": ""}, {"BodyPartExamined": "TH CT CHEST WO C"},
        {"BodyPartExamined": "CHEST_TO_PELVIS"}, {"LossyImageCompression": "00"}, {"BodyPartExamined": None},
    ])  # fmt: skip
    def test_plain_chests_have_none(self, header):
        assert header_remarks(make_slice(**header), 2.5, 0.7) == []

    @pytest.mark.parametrize(("header", "word"), [
        ({"ContrastBolusAgent": "Omnipaque 350"}, "contrast agent"),
        ({"BodyPartExamined": "ABDOMEN"}, "another part of the body"),
        ({"LossyImageCompression": "01"}, "with loss"),
        ({"ConvolutionKernel": ["Br40d", "3"]}, "iterative"),
    ])  # fmt: skip
    def test_name_what_training_did_not_have(self, header, word):
        (remark,) = header_remarks(make_slice(**header), 2.5, 0.7)
        assert word in remark and "Omnipaque" not in remark

    def test_a_lossy_transfer_syntax_is_enough(self):
        header = make_slice()
        header.file_meta.TransferSyntaxUID = JPEGLSNearLossless
        assert "with loss" in header_remarks(header, 2.5, 0.7)[0]

    def test_geometry_counts(self):
        assert len(header_remarks(make_slice(), 10.0, 1.5)) == 2
