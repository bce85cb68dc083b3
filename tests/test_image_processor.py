"""CTImageProcessor: every accepted kind becomes HU slices, HU survive the round trip, and bad input is named."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from pydicom.data import get_testdata_file

from diffusionct_pipeline.image_processor import (
    HIGHEST_SEEN_HU,
    HU_SCALE,
    LOWEST_SEEN_HU,
    CTImageProcessor,
    preview,
    to_hu,
    to_model,
)

CT_SMALL = get_testdata_file("CT_small.dcm")


@pytest.fixture
def processor():
    return CTImageProcessor()


def noise_hu(*shape, seed=0):
    return np.random.default_rng(seed).normal(0, 200, shape).astype(np.float32)


class TestLoad:
    def test_a_file_a_dataset_and_a_folder_are_the_same_slice(self, processor, tmp_path):
        dataset = pydicom.dcmread(CT_SMALL)
        dataset.save_as(tmp_path / "only.dcm")
        (tmp_path / "notes.txt").write_text("not DICOM")
        loaded = [processor.load(image)[0] for image in (CT_SMALL, dataset, tmp_path)]
        for one in loaded:
            np.testing.assert_array_equal(one.hu, loaded[0].hu)
            assert one.kind == "dicom"
            assert one.spacing_mm == pytest.approx(float(dataset.PixelSpacing[0]))
            assert one.series_uid == dataset.SeriesInstanceUID

    def test_what_a_folder_holds_besides_is_logged(self, processor, tmp_path, caplog):
        pydicom.dcmread(CT_SMALL).save_as(tmp_path / "only.dcm")
        (tmp_path / "cut.dcm").write_bytes(Path(CT_SMALL).read_bytes()[:300])
        assert len(processor.load(tmp_path)) == 1
        assert "cut.dcm" in caplog.text

    def test_arrays_tensors_and_lists_flatten_in_order(self, processor):
        hu = noise_hu(3, 40, 50)
        slices = processor.load([hu[:2], torch.from_numpy(hu[2]).double(), CT_SMALL], pixel_spacing=(0.7, 0.7))
        assert [one.kind for one in slices] == ["np", "np", "pt", "dicom"]
        for one, expected in zip(slices, hu):
            np.testing.assert_array_equal(one.hu, expected)
            assert one.spacing_mm == 0.7

    def test_the_input_is_not_written_to(self, processor):
        hu = noise_hu(40, 40)
        before = hu.copy()
        processor.load(hu, 0.7)[0].hu[:] = 0
        np.testing.assert_array_equal(hu, before)

    def test_several_series_in_a_folder_are_listed(self, processor, tmp_path):
        dataset = pydicom.dcmread(CT_SMALL)
        uids = ["1.2.3.4", "1.2.3.5"]
        for uid in uids:
            dataset.SeriesInstanceUID = uid
            dataset.SOPInstanceUID = f"{uid}.1"
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            dataset.save_as(tmp_path / f"{uid}.dcm")
        with pytest.raises(ValueError, match="2 CT series") as error:
            processor.load(tmp_path)
        assert all(uid in str(error.value) for uid in uids)

    def test_a_small_field_of_view_and_a_chest_without_air_are_remarked_upon(self, processor, caplog):
        processor.load(np.random.default_rng(0).normal(40, 200, (40, 40)).clip(-250, 1000), 0.7)
        assert "field of view of 28 mm" in caplog.text and "below -300 HU" in caplog.text

    def test_a_chest_is_not(self, processor, caplog):
        processor.load(np.linspace(-1000, 900, 90 * 90).reshape(90, 90), 0.7)
        assert caplog.text == ""


class TestNoHounsfieldUnits:
    """Nothing below 0, or a span that no patient has: stored values, masks, scaled and standardized images."""

    @pytest.mark.parametrize(
        ("values", "said"),
        [
            (np.linspace(0, 4095, 1600).astype(np.uint16), "rescale intercept"),
            (np.linspace(0, 255, 1600).astype(np.uint8), "mask or a picture"),
            (np.linspace(0, 1, 1600), "none below 0"),
            (np.linspace(-1, 1, 1600), "Undo the scaling"),
            (np.zeros(1600), "mask or a picture"),
        ],
    )
    @pytest.mark.parametrize("argument", ["image", "reference"])
    def test_are_refused_by_name(self, processor, values, said, argument):
        with pytest.raises(ValueError, match=f"`{argument}` holds values from .*{said}"):
            processor.load(values.reshape(40, 40), 0.7, argument)

    def test_air_alone_is_a_slice_beyond_the_patient(self, processor):
        assert len(processor.load(np.full((40, 40), -1000), 0.7)) == 1

    def test_slices_are_judged_together(self, processor):
        bone_alone = np.linspace(100, 900, 1600).reshape(40, 40)
        assert len(processor.load([bone_alone, bone_alone - 1100], 0.7)) == 2


class TestRefusals:
    @pytest.mark.parametrize(
        "spacing, said",
        [
            (None, "must be a float or"),
            ((0.7, 0.8), "square"),
            (0.0, "0.05 and 5"),
            (-0.7, "0.05 and 5"),
            (700, "0.05 and 5"),
            (float("nan"), "float or"),
            ((0.7, 0.7, 1.0), "float or"),
            ("wide", "float or"),
        ],
    )
    def test_spacing(self, processor, spacing, said):
        with pytest.raises(ValueError, match=f"`pixel_spacing`.*{said}"):
            processor.load(noise_hu(40, 40), spacing)

    @pytest.mark.parametrize("value", [np.nan, np.inf, -1e6, 70000])
    def test_values_no_scanner_gives(self, processor, value):
        hu = noise_hu(40, 40)
        hu[3, 4] = value
        with pytest.raises(ValueError, match="`image` must hold"):
            processor.load(hu, 0.7)

    @pytest.mark.parametrize("shape", [(40,), (1, 1, 40, 40), (0, 40, 40), (40, 0), (31, 40), (40, 40, 3)])
    def test_shapes(self, processor, shape):
        with pytest.raises(ValueError, match="`image` must have shape"):
            processor.load(np.zeros(shape), 0.7)

    @pytest.mark.parametrize("dtype", [bool, complex, object, "datetime64[s]"])
    def test_dtypes(self, processor, dtype):
        with pytest.raises(ValueError, match="must hold integers or floats"):
            processor.load(np.zeros((40, 40), dtype=dtype), 0.7)

    def test_kinds(self, processor, tmp_path):
        with pytest.raises(TypeError, match="`reference` must be .*, got int"):
            processor.load(7, 0.7, "reference")
        with pytest.raises(ValueError, match="`image` must be .*, got nothing"):
            processor.load([])
        with pytest.raises(ValueError, match="holds no files"):
            processor.load(tmp_path)
        with pytest.raises(FileNotFoundError, match="absent.dcm"):
            processor.load(tmp_path / "absent.dcm")
        (tmp_path / "notes.txt").write_text("not DICOM")
        with pytest.raises(ValueError, match="notes.txt"):
            processor.load(tmp_path / "notes.txt")

    def test_spacing_beside_a_header(self, processor):
        with pytest.raises(ValueError, match="`reference_pixel_spacing` must be None for DICOM"):
            processor.load(CT_SMALL, 0.7, "reference")


class TestRoundTrip:
    @pytest.mark.parametrize("shape", [(32, 32), (33, 95), (64, 70), (128, 128)])
    def test_gives_back_what_went_in(self, processor, shape):
        hu = noise_hu(*shape).clip(LOWEST_SEEN_HU, HIGHEST_SEEN_HU)
        slices = processor.load(hu, 0.7)
        sample, spacing_mm = processor.preprocess(slices)
        assert sample.shape[-2] % 32 == 0 and sample.shape[-1] % 32 == 0
        assert spacing_mm.tolist() == pytest.approx([0.7])
        np.testing.assert_allclose(processor.postprocess(sample, slices)[0], hu, atol=1e-3)

    def test_model_range(self, processor):
        sample, _ = processor.preprocess(processor.load(np.linspace(-1000, 30000, 1024).reshape(32, 32), 0.7))
        assert to_hu(sample).max().item() == pytest.approx(HIGHEST_SEEN_HU)

    def test_to_model_and_back(self):
        hu = torch.linspace(-1500, 3071, 100)
        torch.testing.assert_close(to_hu(to_model(hu)), hu)
        assert to_model(hu).abs().max() < 10  # unit-ish range

    def test_metal_keeps_its_excess_and_padding_its_value(self, processor):
        hu = noise_hu(40, 40)
        hu[:5], hu[5:8], hu[8] = -3024, 20000, -1100
        slices = processor.load(hu, 0.7)
        sample, _ = processor.preprocess(slices)
        shifted = processor.postprocess(sample + 10 / HU_SCALE, slices)[0]  # a model that adds 10 HU everywhere
        np.testing.assert_array_equal(shifted[:5], -3024)
        np.testing.assert_allclose(shifted[5:], hu[5:] + 10, atol=2e-3)


def test_preview_is_monotonic_and_clips():
    grey = np.asarray(preview(np.linspace(-3000, 3000, 1024).reshape(32, 32)))
    assert grey.dtype == np.uint8
    assert grey.min() == 0 and grey.max() == 255
    assert (np.diff(grey.astype(int).ravel()) >= 0).all()
