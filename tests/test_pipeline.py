"""DiffusionCTPipeline at tiny size: kinds in and out, determinism, references, schedulers, save and load, refusals."""

import numpy as np
import pydicom
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
)
from helpers.tiny import LATENT_CHANNELS, get_dummy_components, tiny_pipeline
from PIL import Image
from pydicom.data import get_testdata_file

from diffusionct_pipeline import AutoencoderResNet18, ConditionalUNet1DModel, DiffusionCTPipeline
from diffusionct_pipeline.models.texture.reference_unet_1d import REFERENCE_TOKENS
from diffusionct_pipeline.models.weights import named_weights
from diffusionct_pipeline.seeds import derive_seed

CT_SMALL = get_testdata_file("CT_small.dcm")
SPACING = 0.7


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline()


def fixed_target_pipeline():
    """The paper's own two networks, which take no reference."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        autoencoder = AutoencoderResNet18(
            latent_channels=LATENT_CHANNELS, block_out_channels=(8, 8, 8, 8, 16), layers_per_block=1,
            decoder_channels=(16, 8, 8, 8, 8),
        )  # fmt: skip
        denoiser = ConditionalUNet1DModel(LATENT_CHANNELS, (8, 16), 1, head_channels=8, norm_groups=4)
    scheduler = tiny_pipeline().scheduler
    pipe = DiffusionCTPipeline(autoencoder.eval(), denoiser.eval(), scheduler, default_num_inference_steps=2)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def seed(value):
    return torch.Generator().manual_seed(value)


def noise_hu(*shape, seed=0):
    return np.random.default_rng(seed).normal(0, 200, shape).astype(np.float32)


@pytest.fixture
def series(tmp_path):
    """A folder of three slices of one series, made from pydicom's CT_small; file names against the order in space."""
    for number in range(3):
        dataset = pydicom.dcmread(CT_SMALL)
        dataset.SOPInstanceUID = f"{dataset.SOPInstanceUID}.{number}"
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y, z + 5 * number]
        dataset.PixelData = np.roll(dataset.pixel_array, 10 * number, axis=0).tobytes()
        dataset.save_as(tmp_path / f"{9 - number}.dcm")
    return tmp_path


class TestKinds:
    def test_arrays(self, pipe):
        hu = noise_hu(2, 64, 70)
        images = pipe(hu, pixel_spacing=SPACING).images
        assert len(images) == 2
        assert all(image.dtype == np.float32 and image.shape == (64, 70) for image in images)
        assert np.isfinite(images).all() and not np.allclose(images, hu)

    def test_tensors(self, pipe):
        hu = torch.from_numpy(noise_hu(64, 64)).double()
        (image,) = pipe(hu, pixel_spacing=SPACING).images
        assert isinstance(image, torch.Tensor) and image.shape == hu.shape and image.dtype == torch.float32
        np.testing.assert_array_equal(image, pipe(hu.numpy(), pixel_spacing=SPACING).images[0])

    def test_dicom_keeps_patient_and_geometry(self, pipe):
        source = pydicom.dcmread(CT_SMALL)
        (derived,) = pipe(CT_SMALL).images
        assert derived.SOPInstanceUID != source.SOPInstanceUID
        assert derived.SeriesInstanceUID != source.SeriesInstanceUID
        for keyword in ("PatientID", "StudyInstanceUID", "PixelSpacing", "ImagePositionPatient", "Rows", "Columns"):
            assert derived[keyword].value == source[keyword].value
        hu = derived.pixel_array * float(derived.RescaleSlope) + float(derived.RescaleIntercept)
        (as_array,) = pipe(CT_SMALL, output_type="np").images
        np.testing.assert_allclose(hu, as_array, atol=0.5 + 1e-3)  # half a stored value

    def test_a_rerun_makes_the_same_uids_and_other_options_make_others(self, pipe):
        runs = [
            pipe(CT_SMALL).images[0],
            pipe(CT_SMALL, generator=seed(0)).images[0],
            pipe(CT_SMALL, generator=seed(1)).images[0],
            pipe(CT_SMALL, num_inference_steps=2).images[0],
            pipe(CT_SMALL, reference=noise_hu(64, 64), reference_pixel_spacing=SPACING).images[0],
        ]
        uids = [run.SOPInstanceUID for run in runs]
        assert uids[0] == uids[1]
        assert len(set(uids)) == 4

    def test_a_folder_is_done_in_order_of_position(self, pipe, series):
        derived = pipe(series).images
        assert [float(one.ImagePositionPatient[2]) for one in derived] == sorted(
            float(one.ImagePositionPatient[2]) for one in derived
        )
        assert len({one.SOPInstanceUID for one in derived}) == 3
        assert len({one.SeriesInstanceUID for one in derived}) == 1

    def test_a_mixed_list_gives_each_its_own_kind(self, pipe):
        images = pipe([noise_hu(40, 50), CT_SMALL, torch.zeros(64, 64)], pixel_spacing=SPACING).images
        for image, kind in zip(images, (np.ndarray, pydicom.Dataset, torch.Tensor), strict=True):
            assert isinstance(image, kind)

    def test_pictures_and_latents(self, pipe):
        hu = noise_hu(64, 96)
        (picture,) = pipe(hu, pixel_spacing=SPACING, output_type="pil").images
        assert isinstance(picture, Image.Image) and picture.size == (96, 64)
        (latent,) = pipe(hu, pixel_spacing=SPACING, output_type="latent").images
        assert latent.shape == (LATENT_CHANNELS, 2 * 3) and latent.dtype == torch.float32
        (tensor,) = pipe(hu, pixel_spacing=SPACING, output_type="pt").images
        assert isinstance(tensor, torch.Tensor)

    def test_a_tuple_when_asked(self, pipe):
        (images,) = pipe(noise_hu(64, 64), pixel_spacing=SPACING, return_dict=False)
        assert images[0].shape == (64, 64)

    def test_padding_and_metal_survive(self, pipe):
        hu = noise_hu(64, 64)
        hu[:, :8], hu[20:24, 20:24] = -3024, 20000
        (image,) = pipe(hu, pixel_spacing=SPACING).images
        np.testing.assert_array_equal(image[:, :8], -3024)
        assert image[20:24, 20:24].min() > 15000


class TestDeterminism:
    def test_a_second_run_gives_the_same_bytes(self, pipe):
        hu = noise_hu(64, 64)
        first, second = (pipe(hu, pixel_spacing=SPACING, generator=seed(5)).images[0] for _ in range(2))
        assert first.tobytes() == second.tobytes()

    @pytest.mark.parametrize("scheduler", [DDPMScheduler, DDIMScheduler, DPMSolverMultistepScheduler])
    def test_batch_size_and_company_do_not_change_a_slice(self, scheduler):
        pipe = tiny_pipeline()
        pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
        hu = noise_hu(3, 64, 64)
        alone = [pipe(one, pixel_spacing=SPACING, generator=seed(0)).images[0] for one in hu]
        for batch_size in (1, 2, 8):
            together = pipe(hu, pixel_spacing=SPACING, generator=seed(0), batch_size=batch_size).images
            np.testing.assert_array_equal(together, alone)
        among_others = pipe([noise_hu(40, 96), hu[1]], pixel_spacing=SPACING, generator=seed(0)).images[1]
        np.testing.assert_array_equal(among_others, alone[1])

    def test_a_generator_for_each_slice(self, pipe):
        hu = noise_hu(2, 64, 64)
        together = pipe(hu, pixel_spacing=SPACING, generator=[seed(3), seed(4)]).images
        alone = [pipe(one, pixel_spacing=SPACING, generator=seed(3 + i)).images[0] for i, one in enumerate(hu)]
        np.testing.assert_array_equal(together, alone)

    def test_the_default_is_seed_0_and_another_seed_differs(self, pipe):
        hu = noise_hu(64, 64)
        default, zero, one = (
            pipe(hu, pixel_spacing=SPACING, generator=generator).images[0] for generator in (None, seed(0), seed(1))
        )
        np.testing.assert_array_equal(default, zero)
        assert not np.array_equal(zero, one)

    def test_a_generator_moves_on(self, pipe):
        generator = seed(0)
        first, second = (
            pipe(noise_hu(64, 64), pixel_spacing=SPACING, generator=generator).images[0] for _ in range(2)
        )
        assert not np.array_equal(first, second)

    def test_the_global_generator_is_left_alone(self, pipe):
        before = torch.get_rng_state()
        pipe(noise_hu(64, 64), pixel_spacing=SPACING)
        assert torch.equal(torch.get_rng_state(), before)

    def test_slices_of_a_series_have_one_seed_and_series_do_not(self, pipe, series):
        slices = pipe.image_processor.load([series, noise_hu(64, 64)], SPACING)
        *of_series, of_array = pipe.noise_seeds(slices)
        assert len(set(of_series)) == 1
        assert of_array != of_series[0]
        assert derive_seed(0, "1.2") != derive_seed(0, "1.3") != derive_seed(1, "1.3")

    def test_slices_of_a_series_have_noise_of_their_own_place(self, pipe, series):
        slices = pipe.image_processor.load(series)
        assert len({item.position_mm for item in slices}) == 3 and slices[0].thickness_mm == 5.0
        noise = pipe.noise(slices, pipe.noise_seeds(slices), "texture", (1, 128, 128)).flatten(1)
        assert 0.2 < torch.corrcoef(noise)[0, 1] < 0.45 and abs(torch.corrcoef(noise)[0, 2]) < 0.1

    def test_a_folder_equals_its_files_one_by_one(self, pipe, series):
        whole = pipe(series, output_type="np").images
        paths = sorted(series.iterdir(), reverse=True)
        single = [pipe(path, output_type="np").images[0] for path in paths]
        np.testing.assert_array_equal(whole, single)


class TestSlicePositions:
    def noisy(self, pipe, positions, **options):
        hu = np.repeat(noise_hu(1, 64, 64), len(positions), 0)
        return pipe(hu, pixel_spacing=SPACING, slice_positions=positions, **options).images

    def test_the_same_position_has_the_same_noise_and_another_has_another(self, pipe):
        first, again, other = self.noisy(pipe, [3.0, 3.0, 4.0])
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)

    def test_order_and_company_do_not_count(self, pipe):
        forward, backward = self.noisy(pipe, [0.0, 1.0, 2.5]), self.noisy(pipe, [2.5, 1.0, 0.0])
        np.testing.assert_array_equal(forward, backward[::-1])
        np.testing.assert_array_equal(self.noisy(pipe, [1.0])[0], forward[1])

    def test_without_positions_all_lie_at_0(self, pipe):
        hu = noise_hu(64, 64)
        np.testing.assert_array_equal(pipe(hu, pixel_spacing=SPACING).images[0], self.noisy(pipe, [0.0])[0])

    def test_neighbours_are_more_alike_the_thicker_the_slices(self, pipe):
        def distance(thickness_mm):
            one, other = self.noisy(pipe, [0.0, 1.0], slice_thickness=thickness_mm)
            return np.abs(one - other).mean()

        assert distance(4.0) < distance(2.0) < distance(1.0)

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"slice_positions": [0.0]}, "for each of 2 slices"),
            ({"slice_positions": [0.0, np.nan]}, "finite"),
            ({"slice_thickness": 0.0}, "`slice_thickness` is 0.0"),
            ({"slice_thickness": -1.0}, "above 0"),
        ],
    )
    def test_impossible_places_are_refused(self, pipe, options, said):
        with pytest.raises(ValueError, match=said):
            pipe(noise_hu(2, 64, 64), pixel_spacing=SPACING, **options)

    @pytest.mark.parametrize("options", [{"slice_positions": [0.0]}, {"slice_thickness": 1.0}])
    def test_dicom_has_its_own(self, pipe, options):
        with pytest.raises(ValueError, match="DICOM has its own"):
            pipe(CT_SMALL, **options)


class TestSamples:
    def test_the_first_is_what_a_single_call_gives(self, pipe):
        hu = noise_hu(2, 64, 70)
        single = pipe(hu, pixel_spacing=SPACING, generator=seed(2))
        several = pipe(hu, pixel_spacing=SPACING, generator=seed(2), num_samples=3)
        assert single.samples is None and single.spread is None
        for one, image, samples, spread in zip(single.images, several.images, several.samples, several.spread, strict=True):
            assert one.tobytes() == image.tobytes() == samples[0].tobytes()
            assert samples.shape == (3, 64, 70) and spread.shape == (64, 70)
            np.testing.assert_allclose(spread, samples.std(0, ddof=1))
            assert not np.array_equal(samples[0], samples[1]) and not np.array_equal(samples[1], samples[2])

    def test_more_samples_begin_with_the_same(self, pipe):
        two, three = (pipe(noise_hu(64, 64), pixel_spacing=SPACING, num_samples=k).samples[0] for k in (2, 3))
        np.testing.assert_array_equal(two, three[:2])

    def test_of_latents(self, pipe):
        out = pipe(noise_hu(64, 96), pixel_spacing=SPACING, num_samples=2, output_type="latent")
        assert out.samples[0].shape == (2, LATENT_CHANNELS, 6) and torch.equal(out.samples[0][0], out.images[0])
        assert out.spread[0].shape == (LATENT_CHANNELS, 6)

    def test_of_dicom_are_hounsfield_units(self, pipe):
        out = pipe(CT_SMALL, num_samples=2)
        assert isinstance(out.images[0], pydicom.Dataset) and out.samples[0].shape == (2, 128, 128)
        assert out.images[0].SOPInstanceUID == pipe(CT_SMALL).images[0].SOPInstanceUID

    @pytest.mark.parametrize("count", [0, -1, 1.5, True])
    def test_their_number_is_checked(self, pipe, count):
        with pytest.raises(ValueError, match="`num_samples` is"):
            pipe(noise_hu(64, 64), pixel_spacing=SPACING, num_samples=count)


class TestReference:
    def test_a_reference_changes_the_outcome(self, pipe):
        hu = noise_hu(64, 64)
        standard = pipe(hu, pixel_spacing=SPACING).images[0]
        reference = pipe(hu, pixel_spacing=SPACING, reference=CT_SMALL).images[0]
        assert not np.array_equal(standard, reference)

    def test_the_order_of_several_does_not_count(self, pipe):
        hu, references = noise_hu(64, 64), noise_hu(3, 64, 64, seed=1)
        forward, backward = (
            pipe(hu, pixel_spacing=SPACING, reference=given, reference_pixel_spacing=SPACING).images[0]
            for given in (references, references[::-1])
        )
        np.testing.assert_allclose(forward, backward, atol=0.01)

    def test_several_slices_and_several_scans_give_tokens_of_each(self, pipe):
        load = pipe.image_processor.load
        several = load([*noise_hu(2, 64, 64), noise_hu(96, 64)], SPACING, "reference")
        tokens = pipe.reference_tokens(several)
        each = torch.cat([pipe.reference_tokens([one]) for one in several], 1)
        torch.testing.assert_close(tokens, each)
        assert tokens.shape == (1, 4 + 4 + 6, LATENT_CHANNELS)

    def test_tokens_of_a_large_reference_are_limited_and_evenly_chosen(self, pipe):
        several = pipe.image_processor.load(noise_hu(3, 320, 320), SPACING, "reference")  # 100 positions each
        tokens = pipe.reference_tokens(several)
        assert tokens.shape == (1, REFERENCE_TOKENS, LATENT_CHANNELS)
        of_last = pipe.reference_tokens(several[2:])
        assert (tokens[0, :, None] == of_last[0]).all(-1).any(1).sum() > REFERENCE_TOKENS / 4

    def test_none_is_the_checkpoints_standard(self, pipe):
        assert pipe.reference_tokens() is None  # the denoiser has tokens of its own
        assert pipe.sees_reference and not fixed_target_pipeline().sees_reference

    def test_a_fixed_target_takes_none(self):
        pipe = fixed_target_pipeline()
        with pytest.raises(ValueError, match="target of this checkpoint is fixed"):
            pipe(noise_hu(64, 64), pixel_spacing=SPACING, reference=CT_SMALL)

    def test_its_own_spacing_is_required(self, pipe):
        with pytest.raises(ValueError, match="`reference_pixel_spacing` is missing"):
            pipe(noise_hu(64, 64), pixel_spacing=SPACING, reference=noise_hu(64, 64))


class TestDiffusersHabits:
    @pytest.mark.parametrize(
        "scheduler", [DDPMScheduler, DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler]
    )
    def test_schedulers_swap(self, scheduler):
        pipe = tiny_pipeline()
        pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
        (image,) = pipe(noise_hu(64, 64), pixel_spacing=SPACING, num_inference_steps=4).images
        assert np.isfinite(image).all()

    def test_callback_sees_and_replaces_the_latents(self, pipe):
        seen = []

        def zero_at_the_end(pipe, step, timestep, tensors):
            seen.append((step, int(timestep), tuple(tensors["latents"].shape)))
            return {"latents": torch.zeros_like(tensors["latents"])} if step == 2 else {}

        (latent,) = pipe(
            noise_hu(64, 64),
            pixel_spacing=SPACING,
            num_inference_steps=3,
            output_type="latent",
            callback_on_step_end=zero_at_the_end,
            callback_on_step_end_tensor_inputs=["latents", "latent_a"],
        ).images
        assert [step for step, _, _ in seen] == [0, 1, 2]
        assert [timestep for _, timestep, _ in seen] == pipe.scheduler.timesteps.tolist()
        assert seen[0][2] == (1, LATENT_CHANNELS, 4)
        with torch.no_grad():
            latent_a, _ = pipe.encode(*pipe.image_processor.preprocess(pipe.image_processor.load(noise_hu(64, 64), SPACING)))
            torch.testing.assert_close(latent, pipe.denoiser.origin(latent_a)[0])  # a difference of zero from it

    def test_the_checkpoint_owns_the_number_of_steps(self, pipe):
        steps = []
        count = lambda pipe, step, timestep, tensors: steps.append(step)  # noqa: E731
        pipe(noise_hu(64, 64), pixel_spacing=SPACING, callback_on_step_end=count)
        assert len(steps) == get_dummy_components()["default_num_inference_steps"]

    @pytest.mark.parametrize("loader", [DiffusionCTPipeline, DiffusionPipeline])
    def test_saved_and_loaded_is_the_same(self, pipe, tmp_path, loader):
        pipe.save_pretrained(tmp_path)
        loaded = loader.from_pretrained(tmp_path)
        loaded.set_progress_bar_config(disable=True)
        assert type(loaded) is DiffusionCTPipeline
        assert loaded.config.default_num_inference_steps == 3
        hu = noise_hu(64, 64)
        np.testing.assert_array_equal(
            loaded(hu, pixel_spacing=SPACING).images[0], pipe(hu, pixel_spacing=SPACING).images[0]
        )

    def test_the_papers_own_networks_save_load_and_run(self, tmp_path):
        pipe = fixed_target_pipeline()
        pipe.save_pretrained(tmp_path)
        loaded = DiffusionCTPipeline.from_pretrained(tmp_path)
        loaded.set_progress_bar_config(disable=True)
        assert type(loaded.autoencoder) is AutoencoderResNet18 and type(loaded.denoiser) is ConditionalUNet1DModel
        hu = noise_hu(64, 70)
        images = [either(hu, pixel_spacing=SPACING).images[0] for either in (pipe, loaded)]
        np.testing.assert_array_equal(*images)
        assert np.isfinite(images[0]).all()

    def test_half_precision_stays_close(self, pipe):
        hu = noise_hu(64, 64)
        half = tiny_pipeline().to(torch.bfloat16)
        (image,) = half(hu, pixel_spacing=SPACING).images
        (exact,) = pipe(hu, pixel_spacing=SPACING).images
        changed = np.abs(exact - hu).mean()
        assert image.dtype == np.float32
        assert np.abs(image - exact).mean() < 0.1 * changed

    def test_half_precision_leaves_gains_exact(self, pipe):
        half = tiny_pipeline().to(torch.bfloat16)
        for model, exact in zip(half.models, pipe.models, strict=True):
            whole = {name: weight for name, weight, _ in named_weights(exact)}
            for name, weight, kept in named_weights(model):
                if weight.is_floating_point():
                    assert weight.dtype == (torch.float32 if kept else torch.bfloat16), name
                assert not kept or torch.equal(weight, whole[name]), name
            assert {kept for _, _, kept in named_weights(model)} >= ({True} if model._keep_in_fp32_modules else set())

    def test_a_half_precision_checkpoint_in_shards_runs_in_single(self, pipe, tmp_path):
        tiny_pipeline().to(torch.float16).save_pretrained(tmp_path, max_shard_size="10KB")
        assert len(list((tmp_path / "denoiser").glob("*.safetensors"))) > 1
        loaded = DiffusionCTPipeline.from_pretrained(tmp_path)
        loaded.set_progress_bar_config(disable=True)
        assert loaded.autoencoder.dtype == loaded.denoiser.dtype == torch.float32
        hu = noise_hu(64, 64)
        np.testing.assert_allclose(
            loaded(hu, pixel_spacing=SPACING).images[0], pipe(hu, pixel_spacing=SPACING).images[0], atol=1
        )

    def test_progress_bar_counts_every_step(self, capsys):
        pipe = tiny_pipeline()
        pipe.set_progress_bar_config(disable=False)
        pipe(noise_hu(2, 64, 64), pixel_spacing=SPACING)
        assert "6/6" in capsys.readouterr().err


class TestRefusals:
    @pytest.mark.parametrize(
        "options, said",
        [
            ({"num_inference_steps": 0}, "`num_inference_steps` is 0"),
            ({"num_inference_steps": -3}, "`num_inference_steps` is -3"),
            ({"num_inference_steps": 2.5}, "`num_inference_steps` is 2.5"),
            ({"num_inference_steps": 1001}, "1 to 1000"),
            ({"batch_size": 0}, "`batch_size` is 0"),
            ({"output_type": "jpeg"}, "`output_type` is 'jpeg'"),
            ({"output_type": "dicom"}, "have no header"),
            ({"generator": 0}, "`generator` holds 0"),
            ({"generator": [None]}, "`generator` holds None"),
            ({"generator": [seed(0), seed(1)]}, "list of 2, but `image` holds 1"),
            ({"callback_on_step_end_tensor_inputs": ["anatomy"]}, "anatomy"),
            ({"pixel_spacing": None}, "`pixel_spacing` is missing"),
        ],
    )
    def test_arguments(self, pipe, options, said):
        with pytest.raises((ValueError, TypeError), match=said):
            pipe(noise_hu(64, 64), **{"pixel_spacing": SPACING, **options})

    def test_names_that_are_no_checkpoint(self, tmp_path):
        for name in ("no-such-model", tmp_path, str(tmp_path / "absent" / "deeper"), ""):
            with pytest.raises(ValueError, match="`pretrained_model_name_or_path`"):
                DiffusionCTPipeline.from_pretrained(name)

    def test_sources_stay_as_they_are(self, pipe, series):
        before = {path: path.read_bytes() for path in series.iterdir()}
        pipe(series)
        dataset = pydicom.dcmread(CT_SMALL)
        cells = dataset.PixelData
        pipe(dataset)
        assert {path: path.read_bytes() for path in series.iterdir()} == before
        assert dataset.PixelData == cells
