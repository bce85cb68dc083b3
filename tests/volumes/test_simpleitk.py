"""SimpleITK images through the pipeline: they become what the same scan becomes in a file, where they lie."""

import numpy as np
import pytest
from helpers.tiny import tiny_pipeline
from helpers.volumes import COUNT, FIRST, STEP, phantom

from diffusionct_pipeline.volumes import VolumeError

sitk = pytest.importorskip("SimpleITK")


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline()


def image_of(slices, flip=False, dtype=np.int16):
    """(slices, rows, columns) as an image; with `flip` stored from head to feet."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(slices[::-1] if flip else slices).astype(dtype))
    image.SetSpacing((0.7, 0.7, STEP))
    image.SetOrigin((-10, -20, FIRST + (COUNT - 1) * STEP if flip else FIRST))
    if flip:
        image.SetDirection((1, 0, 0, 0, 1, 0, 0, 0, -1))
    return image


class TestSimpleITK:
    def test_become_what_the_file_becomes(self, pipe, scan):
        (derived,) = pipe(image_of(phantom(COUNT))).images
        (volume,) = pipe(scan).images
        assert isinstance(derived, sitk.Image) and derived.GetPixelID() == sitk.sitkInt16
        np.testing.assert_array_equal(sitk.GetArrayFromImage(derived), volume.hu)
        said = derived.GetMetaData("DiffusionCT")  # but for the hash: NIfTI keeps geometry in single precision
        assert said.split("; run ")[0] == volume.description.split("; run ")[0]

    @pytest.mark.parametrize("flip", [False, True])
    def test_lie_where_their_source_lies(self, pipe, flip):
        source = image_of(phantom(COUNT), flip)
        source.SetMetaData("0018|1210", "B70f")
        (derived,) = pipe(source).images
        assert (derived.GetSpacing(), derived.GetOrigin(), derived.GetDirection()) == (
            source.GetSpacing(), source.GetOrigin(), source.GetDirection(),
        )  # fmt: skip
        assert derived.GetMetaDataKeys() == ("DiffusionCT",), "no name of a kernel that it does not have any more"
        (other,) = pipe(image_of(phantom(COUNT), not flip)).images
        np.testing.assert_array_equal(sitk.GetArrayFromImage(derived), sitk.GetArrayFromImage(other)[::-1])

    def test_source_is_left_as_it_was(self, pipe):
        source = image_of(phantom(COUNT))
        pipe(source)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(source), phantom(COUNT))

    def test_floats_stay_floats(self, pipe):
        (derived,) = pipe(image_of(phantom(COUNT), dtype=np.float64)).images
        assert derived.GetPixelID() == sitk.sitkFloat32

    def test_may_be_the_reference_and_become_arrays(self, pipe):
        image = image_of(phantom(COUNT))
        out = pipe(image, reference=image_of(phantom(2)), output_type="np")
        assert [hu.shape for hu in out.images] == [(40, 48)] * COUNT

    def test_samples_are_of_the_volume(self, pipe):
        out = pipe(image_of(phantom(COUNT)), num_samples=2)
        assert isinstance(out.images[0], sitk.Image) and out.samples[0].shape == (2, COUNT, 40, 48)

    @pytest.mark.parametrize(
        ("image", "reason"),
        [
            (lambda: sitk.Image(40, 40, sitk.sitkInt16), "2 axes"),
            (lambda: sitk.Image([40, 40, 2], sitk.sitkVectorFloat32), "1 value per voxel, got"),
            (lambda: sitk.Image([40, 40, 2], sitk.sitkComplexFloat32), "complex"),
            (lambda: image_of(phantom(COUNT) + 32000), "holds values"),
        ],
    )
    def test_what_is_no_ct_volume_is_refused(self, pipe, image, reason):
        with pytest.raises(VolumeError, match=reason):
            pipe(image())

    def test_oblique_ones_are_refused(self, pipe):
        image = image_of(phantom(COUNT))
        turn = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])
        image.SetDirection(turn.ravel().tolist())
        with pytest.raises(VolumeError, match="oblique"):
            pipe(image)
