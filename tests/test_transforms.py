"""The transforms give what the pipeline gives, in the kind that was given; with MONAI and TorchIO where they are."""

import copy
import pickle

import numpy as np
import pytest
import torch
from helpers.tiny import tiny_pipeline
from helpers.volumes import TURNS, affine_ras, phantom, turned, volume_of

from diffusionct_pipeline import StandardizeCT, StandardizeCTd
from diffusionct_pipeline.transforms import Transform
from diffusionct_pipeline.volumes import CTVolume

HU = volume_of(phantom(2)).astype(np.float32)[None]  # [1,x,y,z]
AFFINE = affine_ras()


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline()


@pytest.fixture(scope="module")
def expected(pipe):
    return pipe(CTVolume.of_array(HU[0], AFFINE)).images[0].voxels[None]


class TestArrays:
    def test_become_what_the_pipeline_makes_of_them(self, pipe, expected):
        before = HU.copy()
        result = StandardizeCT(pipe)(HU, AFFINE)
        assert result.dtype == np.float32 and result.shape == HU.shape
        np.testing.assert_array_equal(result, expected)
        np.testing.assert_array_equal(HU, before)

    @pytest.mark.parametrize("order, flips", TURNS[::11])
    def test_of_any_orientation(self, pipe, expected, order, flips):
        voxels, affine = turned(HU[0], AFFINE, order, flips)
        wanted, _ = turned(expected[0], AFFINE, order, flips)
        np.testing.assert_array_equal(StandardizeCT(pipe)(voxels, affine), wanted)

    @pytest.mark.parametrize("dtype, result", [(torch.float64, torch.float32), (torch.int16, torch.int16)])
    def test_may_be_tensors(self, pipe, expected, dtype, result):
        out = StandardizeCT(pipe)(torch.from_numpy(HU).to(dtype), torch.from_numpy(AFFINE))
        assert out.dtype == result
        np.testing.assert_allclose(out, expected, atol=0 if result.is_floating_point else 0.5)

    def test_seed_and_options_count(self, pipe, expected):
        for transform in (StandardizeCT(pipe, seed=1), StandardizeCT(pipe, slice_thickness=3.0)):
            assert not np.array_equal(transform(HU, AFFINE), expected)

    @pytest.mark.parametrize(
        "image, affine, message",
        [
            (HU, None, "must have one affine"),
            (np.repeat(HU, 2, 0), AFFINE, "shape"),
            (HU / 1000, AFFINE, "not Hounsfield units"),
            (HU, np.diag([0.7, 0.9, 1, 1]), "square"),
        ],
    )
    def test_that_are_refused(self, pipe, image, affine, message):
        with pytest.raises(ValueError, match=message):
            StandardizeCT(pipe)(image, affine)


class Image(np.ndarray):
    """An array that knows where it lies."""

    affine = AFFINE


class TestDictionaries:
    def test_the_keys_are_standardized_and_nothing_else(self, pipe, expected):
        data = {"ct": HU.view(Image), "label": HU > 0}
        result = StandardizeCTd(["ct"], pipe)(data)
        np.testing.assert_array_equal(result["ct"], expected)
        assert result["label"] is data["label"] and data["ct"][0, 0, 0, 0] == HU[0, 0, 0, 0]

    def test_missing_keys(self, pipe):
        with pytest.raises(KeyError, match="'mr' is missing"):
            StandardizeCTd(("ct", "mr"), pipe)({"ct": HU.view(Image)})
        assert StandardizeCTd("mr", pipe, allow_missing_keys=True)({}) == {}

    def test_errors_name_the_key(self, pipe):
        with pytest.raises(ValueError, match="`label` must have one affine .*got none"):
            StandardizeCTd("label", pipe)({"label": HU > 0})

    def test_workers_of_a_loader_get_a_copy(self):
        assert pickle.loads(pickle.dumps(StandardizeCTd("ct", seed=3))).transform.seed == 3


class TestMonai:
    def test_a_meta_tensor_keeps_its_metadata(self, pipe, expected):
        monai = pytest.importorskip("monai")
        image = monai.data.MetaTensor(torch.from_numpy(HU), affine=torch.from_numpy(AFFINE), meta={"filename": "a.nii"})
        steps = monai.transforms.Compose([StandardizeCTd("ct", pipe)])
        result = steps({"ct": image})["ct"]
        assert isinstance(result, monai.data.MetaTensor) and result.meta["filename"] == "a.nii"
        np.testing.assert_array_equal(result.affine, AFFINE)
        np.testing.assert_array_equal(np.asarray(result), expected)
        np.testing.assert_array_equal(np.asarray(image), HU)

    def test_a_dataset_caches_what_it_does(self, pipe):
        monai = pytest.importorskip("monai")
        assert issubclass(StandardizeCT, monai.transforms.Transform) and Transform is monai.transforms.Transform
        image = monai.data.MetaTensor(torch.from_numpy(HU), affine=torch.from_numpy(AFFINE))
        dataset = monai.data.CacheDataset([{"ct": image}], StandardizeCTd("ct", pipe), progress=False)
        assert not np.array_equal(np.asarray(dataset._cache[0]["ct"]), HU)


class TestTorchio:
    def test_a_subject_keeps_its_labels(self, pipe, expected):
        torchio = pytest.importorskip("torchio")
        subject = torchio.Subject(
            ct=torchio.ScalarImage(tensor=torch.from_numpy(HU), affine=AFFINE),
            tumour=torchio.LabelMap(tensor=torch.from_numpy(HU > 0).int(), affine=AFFINE),
        )
        before = copy.deepcopy(subject)
        for transform in (StandardizeCT(pipe), StandardizeCTd("ct", pipe), torchio.Compose([StandardizeCT(pipe)])):
            result = transform(subject)
            assert isinstance(result, torchio.Subject) and isinstance(result["ct"], torchio.ScalarImage)
            np.testing.assert_array_equal(result["ct"].data, expected)
            np.testing.assert_array_equal(result["ct"].affine, AFFINE)
            np.testing.assert_array_equal(result["tumour"].data, before["tumour"].data)
            np.testing.assert_array_equal(subject["ct"].data, before["ct"].data)
