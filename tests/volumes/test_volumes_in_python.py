"""Volumes through the pipeline: what a scan becomes does not depend on the file that it is in."""

import numpy as np
import pydicom
import pytest
import torch
from helpers.dicom import ROOT, save
from helpers.tiny import tiny_pipeline
from helpers.volumes import COUNT, FIRST, STEP, THICKNESS, TURNS, affine_ras, nifti, nrrd, phantom, turned, volume_of

from diffusionct_pipeline.volumes import CTVolume, VolumeError, read_volume, write_volume

SERIES = {"series_uid": f"{ROOT}.1", "slice_thickness": THICKNESS}


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline()


@pytest.fixture(scope="module")
def of_dicom(pipe, series):
    """Float HU that the DICOM series becomes."""
    return np.stack(pipe(series, output_type="np").images)


class TestTheDicomRoute:
    def test_is_met_bit_for_bit(self, pipe, scan, of_dicom):
        np.testing.assert_array_equal(pipe(scan, output_type="np", **SERIES).images, of_dicom)

    def test_by_the_written_file_too(self, pipe, scan, of_dicom, tmp_path):
        (volume,) = pipe(scan, **SERIES).images
        written = read_volume(write_volume(volume, tmp_path / "out.nii.gz"))
        assert written.voxels.dtype == np.int16
        np.testing.assert_array_equal(written.hu, np.rint(of_dicom))

    @pytest.mark.parametrize("order, flips", TURNS[::7])
    def test_in_any_orientation(self, pipe, of_dicom, tmp_path, order, flips):
        affine = affine_ras((0.7, 0.7, STEP), (-10, -20, FIRST))
        voxels, affine = turned(volume_of(phantom(COUNT)), affine, order, flips)
        (tmp_path / "turned.nii").write_bytes(nifti(voxels, affine))
        np.testing.assert_array_equal(pipe(tmp_path / "turned.nii", output_type="np", **SERIES).images, of_dicom)

    def test_by_an_array_of_the_whole_volume(self, pipe, of_dicom):
        positions = [FIRST + index * STEP for index in range(COUNT)]
        out = pipe(phantom(COUNT), pixel_spacing=0.7, slice_positions=positions, **SERIES)
        np.testing.assert_array_equal(out.images, of_dicom)

    def test_under_a_kernel_that_its_header_knows_by_the_estimate_of_that(self, pipe, scan, series, tmp_path):
        for path in series.iterdir():
            dataset = pydicom.dcmread(path)
            dataset.ConvolutionKernel = "B70f"
            save(dataset, tmp_path / path.name)
        out = pipe(tmp_path, output_type="np")
        assert "header" in out.sources[0].told_by
        assert not np.array_equal(pipe(scan, output_type="np", **SERIES).images, out.images)
        np.testing.assert_array_equal(pipe(scan, output_type="np", source=out.sources[0], **SERIES).images, out.images)

    def test_each_of_thickness_uid_and_position_counts(self, pipe, scan, of_dicom):
        others = [
            {**SERIES, "series_uid": "another"},
            {**SERIES, "slice_thickness": None},
            {**SERIES, "slice_positions": [5.0 * index for index in range(COUNT)]},
        ]
        for options in others:
            assert not np.array_equal(pipe(scan, output_type="np", **options).images[0], of_dicom[0])


class TestTheNoise:
    def test_of_two_scans_differs(self, pipe, tmp_path):
        """As of two series: else texture would correlate from patient to patient."""
        hu = phantom(1)
        results = []
        for name, change in (("a", 0), ("b", 1)):
            voxels = volume_of(hu).copy()
            voxels[0, 0, 0] += change
            (tmp_path / f"{name}.nii").write_bytes(nifti(voxels, affine_ras()))
            results.append(pipe(tmp_path / f"{name}.nii", output_type="np").images[0])
        assert np.abs(results[0] - results[1]).mean() > 5

    def test_does_not_depend_on_name_format_and_type(self, pipe, tmp_path):
        voxels, affine = volume_of(phantom(1)), affine_ras()
        (tmp_path / "a.nii").write_bytes(nifti(voxels, affine))
        (tmp_path / "b.nrrd").write_bytes(nrrd(voxels.astype("<f4"), affine))
        one, other = (pipe(tmp_path / name, output_type="np").images for name in ("a.nii", "b.nrrd"))
        np.testing.assert_array_equal(one, other)

    def test_follows_the_generator(self, pipe, scan):
        one, other = (pipe(scan, generator=torch.Generator().manual_seed(seed)).images[0] for seed in (0, 1))
        assert one.description != other.description and not np.array_equal(one.voxels, other.voxels)


class TestTheResult:
    def test_is_one_volume_that_says_how_it_was_made(self, pipe, scan):
        (volume,) = pipe(scan).images
        assert isinstance(volume, CTVolume) and len(volume) == COUNT
        assert volume.description.startswith("DiffusionCT uncertain synth; model "), "no skin shows what it became"
        assert len(volume.description) < 80, "what a NIfTI header holds"

    def test_of_volumes_and_arrays_in_one_call(self, pipe, scan):
        images = pipe([scan, phantom(2), scan], pixel_spacing=0.7).images
        assert [type(image) for image in images] == [CTVolume, np.ndarray, np.ndarray, CTVolume]
        np.testing.assert_array_equal(images[0].voxels, images[3].voxels)

    def test_of_one_object_given_twice_is_two(self, pipe, scan):
        assert len(pipe([read_volume(scan)] * 2).images) == 2

    def test_has_samples_of_the_whole(self, pipe, scan):
        out = pipe(scan, num_samples=2)
        assert out.samples[0].shape == (2, COUNT, 40, 48) and out.spread[0].shape == (COUNT, 40, 48)
        np.testing.assert_array_equal(np.rint(out.samples[0][0]), out.images[0].hu)

    def test_of_a_volume_as_reference_is_that_of_its_slices(self, pipe, scan, series):
        results = [pipe(series, reference=reference, output_type="np").images for reference in (series, scan)]
        np.testing.assert_array_equal(*results)


class TestRefusals:
    def test_pixel_spacing_and_dicom_output(self, pipe, scan):
        with pytest.raises(ValueError, match="`pixel_spacing` must be None for DICOM and volumes.*got 0.7"):
            pipe(scan, pixel_spacing=0.7)
        with pytest.raises(ValueError, match='`output_type` must not be "dicom".*volumes'):
            pipe(scan, output_type="dicom")

    def test_a_series_uid_for_dicom(self, pipe, series):
        with pytest.raises(ValueError, match="`series_uid` must be None for DICOM"):
            pipe(series, series_uid="1.2")

    def test_values_that_are_no_numbers(self, pipe, tmp_path):
        voxels = volume_of(phantom(1)).astype("<f4")
        voxels[3, 3] = np.nan
        (tmp_path / "nan.nii").write_bytes(nifti(voxels, affine_ras()))
        with pytest.raises(ValueError, match="nan.nii.*NaN"):
            pipe(tmp_path / "nan.nii")

    @pytest.mark.parametrize(
        "voxels, affine, message",
        [(np.zeros((4, 40, 40, 3)), np.eye(4), "shape"), (np.zeros((40, 40, 3)), np.eye(3), "affine of shape")],
    )
    def test_arrays_that_are_no_volume(self, voxels, affine, message):
        with pytest.raises(VolumeError, match=message):
            CTVolume.of_array(voxels, affine)
