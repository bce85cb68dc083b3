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
from diffusionct_pipeline.estimation.scan_estimate import ScanEstimate
from diffusionct_pipeline.method.step import NEGLIGIBLY_SMOOTHED
from diffusionct_pipeline.models.texture.power_shift import SCAN_TOKENS
from diffusionct_pipeline.models.weights import named_weights
from diffusionct_pipeline.simulation import KERNELS, mtf
from diffusionct_pipeline.utils.seeds import derive_seed

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


def estimate(pipe, hu):
    """Of arrays (N, H, W)."""
    return pipe.estimate(pipe.image_processor.load(hu, SPACING))


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
        images = pipe([noise_hu(40, 50), CT_SMALL, torch.from_numpy(noise_hu(64, 64))], pixel_spacing=SPACING).images
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
        known = {"pixel_spacing": SPACING, "source": estimate(pipe, hu)}
        alone = [pipe(one, generator=seed(0), **known).images[0] for one in hu]
        for batch_size in (1, 2, 8):
            together = pipe(hu, generator=seed(0), batch_size=batch_size, **known).images
            np.testing.assert_array_equal(together, alone)
        among_others = pipe([noise_hu(40, 96), hu[1]], generator=seed(0), **known).images[1]
        np.testing.assert_array_equal(among_others, alone[1])

    def test_a_generator_for_each_slice(self, pipe):
        hu = noise_hu(2, 64, 64)
        known = {"pixel_spacing": SPACING, "source": estimate(pipe, hu)}
        together = pipe(hu, generator=[seed(3), seed(4)], **known).images
        alone = [pipe(one, generator=seed(3 + i), **known).images[0] for i, one in enumerate(hu)]
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
        first, second = (pipe(noise_hu(64, 64), pixel_spacing=SPACING, generator=generator).images[0] for _ in range(2))
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
        whole = pipe(series, output_type="np")
        (known,) = whole.sources
        paths = sorted(series.iterdir(), reverse=True)
        single = [pipe(path, output_type="np", source=known).images[0] for path in paths]
        np.testing.assert_array_equal(whole.images, single)


class TestSlicePositions:
    def noisy(self, pipe, positions, **options):
        hu = np.repeat(noise_hu(1, 64, 64), len(positions), 0)
        known = {"pixel_spacing": SPACING, "source": estimate(pipe, hu[:1])}
        return pipe(hu, slice_positions=positions, **known, **options).images

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
            ({"slice_thickness": 0.0}, "`slice_thickness` must be above 0 mm, got 0.0"),
            ({"slice_thickness": -1.0}, "above 0"),
        ],
    )
    def test_impossible_places_are_refused(self, pipe, options, said):
        with pytest.raises(ValueError, match=said):
            pipe(noise_hu(2, 64, 64), pixel_spacing=SPACING, **options)

    @pytest.mark.parametrize("options", [{"slice_positions": [0.0]}, {"slice_thickness": 1.0}])
    def test_dicom_has_its_own(self, pipe, options):
        with pytest.raises(ValueError, match="must be None for DICOM"):
            pipe(CT_SMALL, **options)


class TestSamples:
    def test_the_first_is_what_a_single_call_gives(self, pipe):
        hu = noise_hu(2, 64, 70)
        single = pipe(hu, pixel_spacing=SPACING, generator=seed(2))
        several = pipe(hu, pixel_spacing=SPACING, generator=seed(2), num_samples=3)
        assert single.samples is None and single.spread is None
        for one, image, samples, spread in zip(
            single.images, several.images, several.samples, several.spread, strict=True
        ):
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
        with pytest.raises(ValueError, match="`num_samples` must be"):
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

    def test_tokens_are_those_of_each_slice(self, pipe):
        several = pipe.image_processor.load([*noise_hu(2, 64, 64), noise_hu(96, 64)], SPACING, "reference")
        tokens = pipe.scan_tokens(several)
        torch.testing.assert_close(tokens, torch.cat([pipe.scan_tokens([one]) for one in several]))
        assert tokens.shape == (4 + 4 + 6, LATENT_CHANNELS) and tokens.dtype == torch.float16

    def test_tokens_of_large_slices_are_limited_and_evenly_chosen(self, pipe):
        several = pipe.image_processor.load(noise_hu(3, 320, 320), SPACING, "reference")  # 100 positions each
        tokens = pipe.scan_tokens(several)
        assert tokens.shape == (SCAN_TOKENS, LATENT_CHANNELS)
        of_last = pipe.scan_tokens(several[2:])
        assert (tokens[:, None] == of_last).all(-1).any(1).sum() > SCAN_TOKENS / 4

    def test_its_kernel_is_the_targets_name(self, pipe):
        of_ct = pipe.resolve_target(references=pipe.image_processor.load(CT_SMALL))
        of_array = pipe.resolve_target(references=pipe.image_processor.load(noise_hu(64, 64), SPACING))
        assert of_ct.name == pydicom.dcmread(CT_SMALL).get("ConvolutionKernel", "reference")
        assert of_array.name == "reference" and of_array.id != of_ct.id and of_array.mtf is None

    def test_a_reference_whose_kernel_is_not_known_gives_its_noise_level_too(self, pipe):
        out = pipe(noise_hu(64, 64), pixel_spacing=SPACING, reference=noise_hu(64, 64), reference_pixel_spacing=SPACING)
        assert out.steps[0].noise == "target" and "could not be estimated" in out.steps[0].remarks[0]

    def test_its_own_spacing_is_required(self, pipe):
        with pytest.raises(ValueError, match="`reference_pixel_spacing` must be a float or"):
            pipe(noise_hu(64, 64), pixel_spacing=SPACING, reference=noise_hu(64, 64))


class TestTarget:
    def test_none_is_the_checkpoints_standard(self, pipe):
        own, named = pipe.resolve_target(), pipe.resolve_target("Bl64")
        assert (own.name, own.id, own.mtf) == (named.name, named.id, named.mtf) == ("Bl64", "standard", None)
        torch.testing.assert_close(own.tokens[0], pipe.denoiser.standard)
        lp_cm = np.linspace(0, 12, 25)
        np.testing.assert_allclose(own.texture_mtf(lp_cm), mtf(torch.from_numpy(lp_cm), "Bl64").numpy())

    def test_a_name_changes_the_outcome_and_the_uids(self, pipe):
        standard, named, other = (pipe(CT_SMALL, target=name).images[0] for name in (None, "Br40", "Br40d"))
        assert len({image.SOPInstanceUID for image in (standard, named, other)}) == 3
        assert standard.PixelData != named.PixelData == other.PixelData
        assert "texture of Br40 by" in named.DerivationDescription

    def test_a_standard_whose_kernel_is_not_known_cannot_be_left(self):
        pipe = DiffusionCTPipeline(**get_dummy_components(), standard_name="Mine")
        assert pipe.resolve_target().texture_mtf is None
        with pytest.raises(
            ValueError,
            match="`target` must be None, got 'Br40': the MTF of this checkpoint's standard, \"Mine\", is not known",
        ):
            pipe.resolve_target("Br40")

    def test_a_standard_of_another_name_has_the_mtf_that_it_was_saved_with(self, tmp_path):
        law = [3.4, 5.44, 0.0, 2.04]
        made = DiffusionCTPipeline(**get_dummy_components(), standard_name="Mine", standard_mtf=law)
        made.save_pretrained(tmp_path)
        target = DiffusionCTPipeline.from_pretrained(tmp_path).resolve_target("Br40")
        np.testing.assert_allclose(target.texture_mtf([3.4, 5.44]), [0.5, 0.1])
        np.testing.assert_allclose(target.mtf(KERNELS["Br40"].mtf50), 0.5)

    @pytest.mark.parametrize(
        "given",
        [{"reference": CT_SMALL}, {"target": "Br40"}, {"noise": "target"}, {"noise": 30.0}, {"source": True}],
        ids=str,
    )
    def test_a_fixed_target_takes_none(self, pipe, given):
        if "source" in given:
            given = {"source": estimate(pipe, noise_hu(1, 64, 64))}
        with pytest.raises(ValueError, match="for this checkpoint, whose target is fixed"):
            fixed_target_pipeline()(noise_hu(64, 64), pixel_spacing=SPACING, **given)
        assert pipe.sees_reference and not fixed_target_pipeline().sees_reference


class TestNoiseAndSource:
    def test_of_an_unknown_kernel_the_targets_noise_is_taken_over_and_said(self, pipe):
        hu = noise_hu(64, 64)
        keep, target = (pipe(hu, pixel_spacing=SPACING, noise=noise) for noise in ("keep", "target"))
        assert keep.sources[0].kernel is None and keep.sources[0].told_by == "nothing"
        assert keep.steps[0].noise == target.steps[0].noise == "target"
        (remark,) = keep.steps[0].remarks
        assert "kernel could not be estimated" in remark and target.steps[0].remarks == []
        np.testing.assert_array_equal(keep.images[0], target.images[0])

    def test_a_kernel_of_the_header_keeps_the_dose(self, pipe):
        dataset = pydicom.dcmread(CT_SMALL)
        dataset.ConvolutionKernel = "B70f"
        keep, target = (pipe(dataset, noise=noise) for noise in ("keep", "target"))
        assert keep.steps[0].noise == "keep" and "the header" in keep.sources[0].told_by
        assert keep.images[0].PixelData != target.images[0].PixelData
        assert keep.images[0].SOPInstanceUID != target.images[0].SOPInstanceUID

    def test_each_scan_is_estimated_once(self, pipe, series):
        out = pipe([series, noise_hu(64, 64)], pixel_spacing=SPACING)
        assert len(out.images) == 4 and len(out.sources) == len(out.steps) == 2

    def test_a_part_of_a_scan_becomes_what_it_becomes_in_it_if_the_source_is_given(self, pipe, series):
        whole = pipe(series)
        path = sorted(series.iterdir())[0]
        alone, known = pipe(path).images[0], pipe(path, source=whole.sources[0]).images[0]
        assert known.PixelData == whole.images[-1].PixelData and known.SOPInstanceUID == whole.images[-1].SOPInstanceUID
        assert alone.PixelData != known.PixelData and alone.SOPInstanceUID != known.SOPInstanceUID

    def test_derived_images_are_not_named_after_a_kernel_that_is_not_seen(self, pipe):
        (derived,) = pipe(CT_SMALL).images
        assert derived.ConvolutionKernel == "uncertain synth"
        assert "texture of Bl64" in derived.DerivationDescription and "Measured: MTF50" in derived.DerivationDescription


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
            latent_a, _ = pipe.encode(
                *pipe.image_processor.preprocess(pipe.image_processor.load(noise_hu(64, 64), SPACING))
            )
            step = pipe.step(estimate(pipe, noise_hu(64, 64)), pipe.resolve_target())
            torch.testing.assert_close(latent, pipe.denoiser.baseline(latent_a, step.shift)[0])  # a residual of zero

    def test_the_checkpoint_owns_the_number_of_steps(self, pipe, monkeypatch):
        steps = []
        count = lambda pipe, step, timestep, tensors: steps.append(step)  # noqa: E731
        source = pipe(noise_hu(64, 64), pixel_spacing=SPACING, callback_on_step_end=count).sources[0]
        assert source.smoothed < NEGLIGIBLY_SMOOTHED and len(steps) == 1
        monkeypatch.setattr(ScanEstimate, "smoothed", 1.0)
        pipe(noise_hu(64, 64), pixel_spacing=SPACING, source=source, callback_on_step_end=count)
        assert len(steps) == 1 + get_dummy_components()["default_num_inference_steps"]
        pipe(noise_hu(64, 64), pixel_spacing=SPACING, num_inference_steps=2, callback_on_step_end=count)
        assert len(steps) == 1 + get_dummy_components()["default_num_inference_steps"] + 2

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
        pipe(noise_hu(2, 64, 64), pixel_spacing=SPACING, num_inference_steps=3)
        assert "6/6" in capsys.readouterr().err


class TestRefusals:
    @pytest.mark.parametrize(
        "options, said",
        [
            ({"num_inference_steps": 0}, "`num_inference_steps` must be between 1 and 1000, got 0"),
            ({"num_inference_steps": -3}, "`num_inference_steps` must be between 1 and 1000, got -3"),
            ({"num_inference_steps": 2.5}, "`num_inference_steps` must be .*, got 2.5"),
            ({"num_inference_steps": 1001}, "between 1 and 1000, got 1001"),
            ({"target": "Zz99"}, "`target` must be one of .*Br40.*, got 'Zz99'"),
            ({"target": "Br40", "reference": CT_SMALL}, "`target` and `reference` exclude each other"),
            ({"noise": "loud"}, '`noise` must be "keep", "target" or a number of HU above 0, got \'loud\''),
            ({"noise": 0}, "`noise` must be .*, got 0"),
            ({"noise": -5.0}, "`noise` must be .*, got -5.0"),
            ({"noise": float("nan")}, "`noise` must be .*, got nan"),
            ({"noise": True}, "`noise` must be .*, got True"),
            ({"batch_size": 0}, "`batch_size` must be .*, got 0"),
            ({"output_type": "jpeg"}, "`output_type` must be one of .*, got 'jpeg'"),
            ({"output_type": "dicom"}, "have no DICOM header"),
            ({"generator": 0}, "`generator` must be .*, got 0"),
            ({"generator": [None]}, "`generator` must be .*, got None"),
            ({"generator": [seed(0), seed(1)]}, "`generator` must have one entry for each of 1 slices, got 2"),
            ({"callback_on_step_end_tensor_inputs": ["anatomy"]}, "anatomy"),
            ({"pixel_spacing": None}, "`pixel_spacing` must be a float or"),
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
