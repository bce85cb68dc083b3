import numpy as np
import pytest
from helpers.dicom import make_slice, ramp

from diffusionct_pipeline.dicom import DicomError, PixelFormat, cells_to_hu, hu_to_cells, pixel_format, read_slice

FORMATS = {
    "signed 16": {},
    "unsigned 16": {"signed": False},
    "unsigned 12": {"signed": False, "bits": 12},
    "signed 12, intercept 0": {"bits": 12, "intercept": 0},
    "slope 0.5": {"slope": 0.5, "intercept": -1000},
    "slope 2": {"slope": 2, "intercept": -1000, "signed": False},
    "negative slope": {"slope": -1, "intercept": 3000, "signed": False},
}


@pytest.mark.parametrize("layout", FORMATS.values(), ids=FORMATS.keys())
def test_hu_do_not_depend_on_how_they_are_stored(layout):
    hu = 2 * np.rint(ramp() / 2)  # even, so that every slope above represents it exactly
    np.testing.assert_array_equal(read_slice(make_slice(hu, **layout)).hu, hu)


@pytest.mark.parametrize("layout", FORMATS.values(), ids=FORMATS.keys())
def test_hu_to_cells_is_the_inverse_of_cells_to_hu(layout):
    dataset = make_slice(2 * np.rint(ramp() / 2), **layout)
    source = read_slice(dataset)
    cells, clipped = hu_to_cells(source.hu, pixel_format(dataset, "test"))
    assert clipped == 0
    assert cells.tobytes() == dataset.PixelData


def test_bits_above_bits_stored_are_ignored():
    dataset = make_slice(signed=False, bits=12)
    expected = read_slice(dataset).hu
    cells = np.frombuffer(dataset.PixelData, "<u2") | 0xA000  # an old overlay plane, say
    dataset.PixelData = cells.tobytes()
    np.testing.assert_array_equal(read_slice(dataset).hu, expected)


def test_the_sign_is_that_of_the_stored_bits():
    dataset = make_slice(bits=12, intercept=0)
    expected = read_slice(dataset).hu
    dataset.PixelData = (np.frombuffer(dataset.PixelData, "<u2") & 0x0FFF).tobytes()  # sign not extended
    np.testing.assert_array_equal(read_slice(dataset).hu, expected)


def test_left_aligned_cells():
    pixels = PixelFormat(bits_stored=12, signed=False, high_bit=15)
    hu, _ = cells_to_hu(np.array([[1024 << 4, 2048 << 4]], np.uint16), pixels)
    np.testing.assert_array_equal(hu, [[0, 1024]])
    assert hu_to_cells(hu, pixels)[0].tolist() == [[1024 << 4, 2048 << 4]]


class TestPadding:
    def test_the_declared_value(self):
        dataset = make_slice(ramp(low=-1000))
        dataset.add_new("PixelPaddingValue", "SS", 24)  # -1000 HU
        np.testing.assert_array_equal(read_slice(dataset).padding, ramp(low=-1000) == -1000)

    @pytest.mark.parametrize("value, limit", [(24, 30), (30, 24)])
    def test_the_declared_range_in_either_direction(self, value, limit):
        dataset = make_slice(ramp(low=-1000))
        dataset.add_new("PixelPaddingValue", "SS", value)
        dataset.add_new("PixelPaddingRangeLimit", "SS", limit)
        assert read_slice(dataset).padding.sum() == (ramp(low=-1000) <= -994).sum() > 0

    def test_a_signed_value_written_as_unsigned(self):
        hu = ramp()
        hu[0, :5] = -2000 - 1024
        dataset = make_slice(hu)
        dataset.add_new("PixelPaddingValue", "US", 63536)  # the cell of -2000, as some scanners write it
        slice_ = read_slice(dataset)
        assert slice_.pixels.padding_cells == (-2000, -2000)
        assert slice_.padding.sum() == 5

    def test_a_value_that_needs_more_bits_than_are_stored(self):
        dataset = make_slice(signed=False, bits=12)
        cells = np.frombuffer(dataset.PixelData, "<u2").copy()
        cells[:7] = 63536
        dataset.PixelData = cells.tobytes()
        dataset.add_new("PixelPaddingValue", "US", 63536)
        assert read_slice(dataset).padding.sum() == 7

    def test_outside_the_field_of_view_without_a_declared_value(self):
        hu = ramp()
        hu[:2] = -2048
        padding = read_slice(make_slice(hu)).padding
        assert padding[:2].all() and not padding[2:].any()

    @pytest.mark.parametrize("first, last", [(0, 0), (20, 20), (0, 30), (4090, 4095)])
    def test_no_measured_pixel_is_written_as_padding(self, first, last):
        pixels = PixelFormat(bits_stored=12, signed=False, padding_cells=(first, last))
        hu = np.array([np.linspace(-1100, 3200, 5000)])
        cells, _ = hu_to_cells(hu, pixels)
        assert not ((cells >= first) & (cells <= last)).any()
        legal = np.clip(hu, -1024, 3071)
        assert np.abs(cells - 1024.0 - legal).max() <= last - first + 1

    def test_padding_pixels_keep_their_cells_whatever_the_hu(self):
        pixels = PixelFormat(padding_cells=(-2000, -2000))
        padding = np.array([[True, False]])
        cells, clipped = hu_to_cells(np.array([[np.nan, 40.0]]), pixels, padding, np.array([[-2000, 7]]))
        assert (cells.tolist(), clipped) == ([[-2000, 1064]], 0)

    def test_padding_without_its_cells_is_refused(self):
        with pytest.raises(ValueError, match="padding_cells"):
            hu_to_cells(np.zeros((1, 1)), PixelFormat(), np.ones((1, 1), bool))


class TestClipping:
    def test_to_the_stored_range_and_counted(self):
        pixels = PixelFormat(bits_stored=12, signed=False)
        cells, clipped = hu_to_cells(np.array([[-1500.0, -1024.4, -1024.0, 0.0, 3071.0, 3072.0]]), pixels)
        assert cells.tolist() == [[0, 0, 0, 1024, 4095, 4095]]
        assert clipped == 2  # -1024.4 rounds to what can be stored
        assert pixels.hu_range == (-1024, 3071)

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_hu_that_are_not_finite_are_refused(self, value):
        with pytest.raises(ValueError, match="NaN or infinite"):
            hu_to_cells(np.array([[value, 0.0]]), PixelFormat())


@pytest.mark.parametrize(
    "header, reason",
    [
        ({"RescaleSlope": None}, "no rescale"),
        ({"RescaleIntercept": None}, "no rescale"),
        ({"RescaleSlope": 0}, "RescaleSlope 0"),
        ({"RescaleType": "US"}, "RescaleType HU .*, got 'US'"),
        ({"PhotometricInterpretation": "MONOCHROME1"}, "MONOCHROME1"),
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, "got RGB with 3"),
        ({"BitsAllocated": 8}, "a value of 16 for BitsAllocated, got 8"),
        ({"BitsStored": 17}, "a value of 1 to 16 for BitsStored, got 17"),
        ({"PixelRepresentation": None}, "a value of 0 or 1 for PixelRepresentation, got no value"),
        ({"HighBit": 5}, "HighBit of .*, got 5"),
        ({"Rows": None, "SamplesPerPixel": None, "PhotometricInterpretation": None}, "does not describe any pixels"),
    ],
)
def test_unusable_pixel_descriptions_are_refused(header, reason):
    with pytest.raises(DicomError, match=reason):
        read_slice(make_slice(**header))
