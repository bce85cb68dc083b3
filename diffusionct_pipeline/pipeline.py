"""Standardize CT slices between reconstruction kernels: encode, denoise the latent, decode.

Source: Selim, Zhang, Brooks, Wang, Chen, "DiffusionCT: Latent Diffusion Model for CT Image Standardization" (2023).
docs/paper.md maps its equations to this code, and lists where this code goes beyond it.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import numpy as np
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from .estimation import estimate_kernel_of_slices
from .estimation.scan_estimate import ScanEstimate
from .image_processor import GRID, CTImageProcessor, HUSlice, ImageInput
from .method.checkpoint import (
    NETWORKS,
    checkpoint_named,
    require_finite,
    require_modest_scheduler,
    require_own_components,
    require_whole,
)
from .method.provenance import FULL_PRECISION, Derivation, model_id, pixels_id
from .method.reached import Reached, check_results
from .method.sampled import (
    Scheduler,
    described,
    require_converged,
    require_denoises,
    require_plausible,
    scheduler_named,
)
from .method.slices import checked_indices, draw_seed, images_of, sample_seed, scans_of, step_generator
from .method.step import NEGLIGIBLY_SMOOTHED, Step, Target, log_mtf_power, make_step, require_noise, tails_of
from .models import AutoencoderResNet18, ConditionalUNet1DModel, ReferenceUNet1DModel, TextureAutoencoder
from .models.network import Network
from .models.texture.channels import SPACING_UNIT, TYPICAL_SPACING_MM, patient_mean
from .models.texture.power_shift import SCAN_TOKENS, evenly_spaced_indices, level_weights, select_tokens, whitening
from .models.weights import lay_out_weights, named_weights
from .physics.kernels import KERNELS, Kernel, find_kernel, kernel_mtf
from .physics.scan_noise import scan_noise
from .pipeline_output import DiffusionCTPipelineOutput
from .utils.registration import register
from .utils.seeds import derive_seed
from .volumes.itk import as_given

PRETRAINED = Path(__file__).with_name("pretrained")
OUTPUT_TYPES = ("auto", "np", "pt", "pil", "dicom", "latent")
ACCELERATOR_BATCH = 8  # a modest default, not tuned

# step, timestep, {"latents": ..., "latent_a": ...} -> the tensors to replace
StepCallback = Callable[[int, torch.Tensor, dict[str, Any]], dict[str, Any]]


class EncodedBatch(NamedTuple):
    """Hold slices in the form that the networks work on.

    Attributes:
        latent_a: Z_A, (B, C, L), normalized.
        skips: What the autoencoder's `decode` needs of the slices; its type is known to the autoencoder only.
        shape: (1, H, W), on the padded grid.
    """

    latent_a: torch.Tensor
    skips: Any
    shape: torch.Size


class DiffusionCTPipeline(DiffusionPipeline):
    r"""Give CT slices the texture of another reconstruction kernel while keeping their anatomy.

    ```python
    pipe = DiffusionCTPipeline.from_pretrained()
    out = pipe("slice.dcm")
    out = pipe("slice.dcm", target="Br40")
    out = pipe(hu, pixel_spacing=0.693, reference=hu_ref, reference_pixel_spacing=0.713)
    ```

    Args:
        autoencoder: Splits a slice into texture (latent) and anatomy (skips): `TextureAutoencoder`, or the paper's
            `AutoencoderResNet18`.
        denoiser: p(Z_B | Z_A, target): `ReferenceUNet1DModel`; or p(Z_B | Z_A), the paper's
            `ConditionalUNet1DModel`, whose target is fixed: then `target`, `reference`, `noise` and `source` are refused.
        scheduler: Any diffusers scheduler; the denoiser was trained with the checkpoint's.
        default_num_inference_steps: Denoising steps that the checkpoint recommends.
        standard_name: Kernel of the checkpoint's own standard, named in derived DICOM.
        standard_mtf: MTF50 and MTF10 in lp/cm, boost and its peak in lp/cm of that kernel, see `simulation.Kernel`; needed
            if the name is not in `simulation.KERNELS`.
    """

    autoencoder: TextureAutoencoder | AutoencoderResNet18
    denoiser: ReferenceUNet1DModel | ConditionalUNet1DModel
    scheduler: Scheduler

    model_cpu_offload_seq = "autoencoder->denoiser"  # type: ignore[assignment]  # None in diffusers
    _callback_tensor_inputs = ["latents", "latent_a"]

    def __init__(
        self,
        autoencoder: TextureAutoencoder | AutoencoderResNet18,
        denoiser: ReferenceUNet1DModel | ConditionalUNet1DModel,
        scheduler: SchedulerMixin,
        default_num_inference_steps: int = 20,
        standard_name: str = "Bl64",
        standard_mtf: list[float] | None = None,
    ):
        super().__init__()
        self.register_modules(autoencoder=autoencoder, denoiser=denoiser, scheduler=scheduler)
        self.register_to_config(
            default_num_inference_steps=default_num_inference_steps,
            standard_name=standard_name,
            standard_mtf=standard_mtf,
        )
        self.image_processor = CTImageProcessor()
        for model in self.models:
            lay_out_weights(model)

    @property
    def models(self) -> list[torch.nn.Module]:
        """Return the components that have weights."""
        return [component for component in self.components.values() if isinstance(component, torch.nn.Module)]

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str] | None = None, **kwargs: Any
    ) -> DiffusionCTPipeline:
        """Load a checkpoint: None for the embedded one, a folder, or "user/repo" on the Hub.

        Only safetensors files are read: other formats can contain code.

        Raises:
            ValueError: if the name is neither a checkpoint folder nor of the form "user/repo", the checkpoint is damaged
                or incomplete or names foreign classes, or `use_safetensors` is not True.
            OSError: if a file is missing or damaged, or the Hub cannot be reached.
        """
        name = PRETRAINED if pretrained_model_name_or_path is None else pretrained_model_name_or_path
        is_hub_name = isinstance(name, str) and name.count("/") == 1 and all(name.split("/"))
        if not (Path(name) / cls.config_name).is_file() and (Path(name).exists() or not is_hub_name):
            raise ValueError(
                f"`pretrained_model_name_or_path` must be a folder with {cls.config_name}, a Hub name "
                f'"user/repo", or None for the embedded checkpoint, got "{name}".'
            )
        if kwargs.setdefault("use_safetensors", True) is not True:
            found = kwargs["use_safetensors"]
            raise ValueError(f"`use_safetensors` must be True, as other formats can contain code, got {found!r}.")
        with checkpoint_named(str(name)):
            pipe = super().from_pretrained(str(name), **kwargs)
            for component in set(NETWORKS) - kwargs.keys():
                model = getattr(pipe, component)
                require_whole(component, model, kwargs.get("variant"))
                require_finite(component, model)
        return pipe

    @classmethod
    def load_config(cls, *args: Any, **kwargs: Any) -> Any:
        """Load model_index.json as diffusers does, before it loads a component; refuse foreign classes and endless schedulers."""
        index: Any = super().load_config(*args, **kwargs)
        require_modest_scheduler(args[0])
        require_own_components(index)
        return index

    def to(self, *args: Any, **kwargs: Any) -> DiffusionCTPipeline:
        """Move or cast as in diffusers; weights that the models name in `_keep_in_fp32_modules` stay float32."""
        models = self.models
        exact = [(model, name, weight.data) for model in models for name, weight, kept in named_weights(model) if kept]
        super().to(*args, **kwargs)
        for model, name, data in exact:
            weight = attrgetter(name)(model)  # buffers have been replaced by new tensors
            weight.data = data.to(weight.device)
        return self

    @torch.no_grad()
    def __call__(
        self,
        image: ImageInput,
        pixel_spacing: float | tuple[float, float] | None = None,
        target: str | None = None,
        reference: ImageInput | None = None,
        reference_pixel_spacing: float | tuple[float, float] | None = None,
        noise: str | float = "keep",
        source: ScanEstimate | None = None,
        slice_positions: Sequence[float] | None = None,
        slice_thickness: float | None = None,
        series_uid: str | None = None,
        num_inference_steps: int | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        num_samples: int = 1,
        batch_size: int | None = None,
        output_type: str = "auto",
        return_dict: bool = True,
        callback_on_step_end: Callable[..., dict[str, Any] | None] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> DiffusionCTPipelineOutput:
        r"""Standardize CT slices to a target kernel or to the texture of a reference (section 3.3 of Selim et al. 2023).

        Args:
            image: One or more slices: path of a DICOM, NIfTI or NRRD file, pydicom `Dataset`, folder with one DICOM
                series, `CTVolume`, SimpleITK image, HU array or tensor (H, W) or (N, H, W), or a list of these. H and W
                must be at least 32 pixels.
            pixel_spacing: mm, a float or (row, column), square; required for arrays and tensors, and only for these.
            target: Name of a kernel, see `simulation.KERNELS`, such as "Br40"; None for the checkpoint's own standard.
            reference: Slices of one scan whose texture is the target, in place of a kernel's name; same kinds as `image`.
            reference_pixel_spacing: As `pixel_spacing`, for `reference`.
            noise: "keep" keeps the dose of the scan: the result has the noise that it would have had with the target kernel.
                "target" gives it the noise level of the standard or of the reference. A number is the noise in soft tissue
                in HU; a level below that of the scan's dose is not reached, which `steps` reports.
            source: An estimate of the scan that an earlier call returned in `sources`; None estimates it from the given
                slices, once for each scan. A single slice gives a less certain estimate than a series.
            slice_positions: mm along the normal of the slices, one for each; for arrays, tensors and volumes. None places
                arrays and tensors at 0, and volumes by their affine.
            slice_thickness: mm, for arrays, tensors and volumes; None is 1, for volumes the distance between slices.
            series_uid: Identifies the scan of arrays, tensors and volumes for the noise, see `generator`. With the
                SeriesInstanceUID, positions and thickness of a DICOM series they give the same result as the series, bit for
                bit, if its header names no known kernel; otherwise its `source` is needed, too, as only DICOM has a header.
                None is "" for arrays and tensors, and a hash of the HU for a volume.
            num_inference_steps: Number of denoising steps; None for what the checkpoint recommends, and a single one for a
                scan that was not smoothed, see `recommended_steps`.
            generator: Source of the noise, one for all slices or a list with one for each; None is
                `torch.Generator().manual_seed(0)`. Each is drawn from once, for a seed that is combined with the series
                UID: the noise of a series is a field in space, correlated between neighbours as far as their thickness
                overlaps (see physics/scan_noise.py). Arrays have no position and share one noise, unless `slice_positions`
                gives it. To process a series in several calls, give each a new generator of the same seed.
            num_samples: Number K of samples of every slice. The result is the first of them, not their mean: a mean of
                textures has less texture than each of them. The others also draw the level of noise, within its uncertainty.
                With more than one, `samples` and `spread` of the output show how certain the result is.
            batch_size: Slices per batch on an accelerator; None is 8. On a CPU slices are always processed one by one:
                batching gains little there, and the same slice and seed give the same bytes whatever else is in the call.
            output_type: "auto" (the kind of the input), "np", "pt", "pil", "dicom" or "latent"; see
                `DiffusionCTPipelineOutput`.
            return_dict: False returns a tuple instead of a `DiffusionCTPipelineOutput`.
            callback_on_step_end: Called as `callback(pipe, step, timestep, tensors)` after every step of every batch; a
                returned dict replaces tensors of the same name.
            callback_on_step_end_tensor_inputs: Which of "latents" and "latent_a" the callback is given.

        Returns:
            `DiffusionCTPipelineOutput`: `images` has one entry for each slice or volume; arrays are float32 HU.

        Raises:
            ValueError, TypeError, FileNotFoundError: naming the argument, the value received and what is allowed.
            DicomError, VolumeError: naming the file and the reason.
        """
        # 1. Check inputs; nothing is corrected silently. The checkpoint owns its defaults.
        most_steps = (
            int(self.config["default_num_inference_steps"]) if num_inference_steps is None else num_inference_steps
        )
        self.check_inputs(
            most_steps, generator, batch_size, output_type, callback_on_step_end_tensor_inputs, num_samples
        )
        require_noise(noise)

        # 2. Anything -> slices in HU.
        slices = self.image_processor.load(image, pixel_spacing)
        slices = self.image_processor.place(slices, slice_positions, slice_thickness, series_uid)
        references: list[HUSlice] = []
        if reference is not None:
            references = self.image_processor.load(reference, reference_pixel_spacing, "reference")
        if output_type == "dicom" and any(item.source is None for item in slices):
            raise ValueError(
                '`output_type` must not be "dicom" for arrays, tensors and volumes in `image`: they have no DICOM header.'
            )
        seeds = self.noise_seeds(slices, generator)

        # 3. The target, each scan, and the step from one to the other.
        scans = scans_of(slices)
        steps: list[Step | None] = [None] * len(slices)
        sources: list[ScanEstimate] = []
        goal = self.resolve_target(target, references, batch_size)
        if goal is None:
            self.require_no_target(target, noise, source)
        else:
            for scan in scans:
                sources.append(source or self.estimate([slices[i] for i in scan], batch_size))
                scan_step = self.step(sources[-1], goal, noise)
                for i in scan:
                    steps[i] = scan_step

        taken = [num_inference_steps or self.recommended_steps(step) for step in steps]

        def on_step_end(step: int, timestep: torch.Tensor, tensors: dict[str, Any]) -> dict[str, Any]:
            bar.update()
            if callback_on_step_end is None:
                return {}
            wanted = {name: tensors[name] for name in callback_on_step_end_tensor_inputs}
            return callback_on_step_end(self, step, timestep, wanted) or {}

        # 4. The method, batch by batch, sample by sample.
        samples: list[list[Any]] = [[] for _ in range(num_samples)]  # of arrays [H,W], or of latents [C,L]
        batches = self.batches(slices, batch_size)
        with self.progress_bar(total=sum(taken[batch[0]] for batch in batches) * num_samples) as bar:
            for batch in batches:
                inputs, step, count = [slices[i] for i in batch], steps[batch[0]], taken[batch[0]]
                encoded = self.encode_batch(inputs)
                for number, results in enumerate(samples):
                    of_sample = [sample_seed(seeds[i], number) for i in batch]
                    of_step = step and step.of_sample(number, seeds[batch[0]])
                    if output_type == "latent":
                        results += self.sample_batch(inputs, of_sample, count, of_step, on_step_end, encoded)
                    else:
                        results += self.standardize_batch(
                            inputs, of_sample, count, of_step, on_step_end=on_step_end, encoded=encoded
                        )
        self.maybe_free_model_hooks()

        # 5. To the caller's kind; of several samples the first.
        results = samples[0]
        images: list[Any] = []
        stacks: list[np.ndarray | torch.Tensor] = []
        if output_type == "latent":
            images = [latent.cpu() for latent in results]
            stacks = [torch.stack(of_slice).cpu() for of_slice in zip(*samples)]
        else:
            kinds = [item.kind if output_type == "auto" else output_type for item in slices]
            derives = {"dicom", "volume"}.intersection(kinds)
            derivations: dict[int, Derivation] = {}
            if derives:
                derivations = dict.fromkeys(range(len(slices)), self.derivation(most_steps, goal))
            if derives and goal is not None:
                for scan, known in zip(scans, sources):
                    checked = [scan[i] for i in checked_indices(len(scan))]
                    reached = self.check(known, goal, [slices[i] for i in checked], [results[i] for i in checked])
                    for i in scan:
                        derivations[i] = derivations[i].of_source(known, noise, taken[i]).named(reached)
            for first, end in images_of(slices, kinds):
                hu, item, seed, kind = results[first], slices[first], seeds[first], kinds[first]
                stack = [of_slice[first] for of_slice in samples]  # K x [H,W]
                if kind == "volume":
                    derived = derivations[first].derive_volume(results[first:end], slices[first:end], seeds[first:end])
                    images.append(as_given(derived))
                    stack = [of_slice[first:end] for of_slice in samples]  # K x N x [H,W]
                elif kind == "dicom":
                    assert item.source is not None, "slices of DICOM have a source"
                    images.append(derivations[first].derive(hu, item.source, seed))
                else:
                    images.append(self.image_processor.to_kind(hu, item, kind))
                if num_samples > 1:
                    stacks.append(np.asarray(stack))
        if not return_dict:
            return (images,)  # type: ignore[return-value]  # in a union, `.images` would be a type error
        return DiffusionCTPipelineOutput(
            images=images,
            samples=stacks if num_samples > 1 else None,
            sources=sources,
            steps=[step for scan in scans if (step := steps[scan[0]]) is not None],
        )

    @torch.no_grad()
    def standardize_batch(
        self,
        slices: Sequence[HUSlice],
        seeds: Sequence[int],
        num_inference_steps: int | None = None,
        step: Step | None = None,
        *,
        on_step_end: StepCallback | None = None,
        encoded: EncodedBatch | None = None,
    ) -> list[np.ndarray]:
        """Standardize the slices of one batch, see `batches`: the method of `__call__`.

        Args:
            slices: B slices of one scan and size, as `image_processor.load` returns them.
            seeds: Noise seed of each slice, see `noise_seeds`.
            num_inference_steps: Number of denoising steps; None: see `recommended_steps`.
            step: What `step` returned for the scan; None for a denoiser whose target is fixed.
            on_step_end: See `denoise`.
            encoded: What `encode_batch` returned for the slices, to share it between samples; None encodes them.

        Returns:
            B standardized slices, float32 HU (H, W).
        """
        # 1. HU -> model range on a padded grid; the latent holds the texture, the skips the anatomy.
        encoded = encoded or self.encode_batch(slices)

        # 2. p(Z_B | Z_A, target): the latent DDPM.
        steps = num_inference_steps or self.recommended_steps(step)
        latent_b = self.sample_batch(slices, seeds, steps, step, on_step_end, encoded)  # [B,C,L]

        # 3. The standardized slices, back to HU and the original grid.
        texture = self.noise(slices, seeds, "texture", encoded.shape)  # [B,1,H,W]
        coherent = None if step is None else step.coherent
        standardized = self.decode(latent_b, encoded.skips, texture, coherent)  # [B,1,H,W]
        results = self.image_processor.postprocess(standardized, slices)  # B x [H,W]
        require_plausible(results, slices, described(self.scheduler, steps))
        return results

    @torch.no_grad()
    def sample_batch(
        self,
        slices: Sequence[HUSlice],
        seeds: Sequence[int],
        num_inference_steps: int,
        step: Step | None = None,
        on_step_end: StepCallback | None = None,
        encoded: EncodedBatch | None = None,
    ) -> torch.Tensor:
        """Sample the latents Z_A' of one batch, (B, C, L), normalized; arguments as of `standardize_batch`."""
        latent_a, _, shape = encoded or self.encode_batch(slices)  # [B,C,L]
        start = self.noise(slices, seeds, "latent", latent_a.shape[1:])  # [B,C,L]
        generators = [step_generator(seed, item) for seed, item in zip(seeds, slices)]
        return self.denoise(latent_a, step, num_inference_steps, start, generators, shape[-1] // GRID, on_step_end)

    def check_inputs(
        self,
        num_inference_steps: int | None,
        generator: torch.Generator | list[torch.Generator] | None,
        batch_size: int | None,
        output_type: str,
        callback_on_step_end_tensor_inputs: Sequence[str],
        num_samples: int = 1,
    ) -> None:
        """Raise ValueError or TypeError for a wrong argument; `image` and `reference` are checked when they are read."""
        with scheduler_named(self.scheduler, num_inference_steps or 0):
            train_steps = self.scheduler.config.num_train_timesteps
        if not is_integer(num_inference_steps) or not 1 <= num_inference_steps <= train_steps:
            raise ValueError(f"`num_inference_steps` must be between 1 and {train_steps}, got {num_inference_steps!r}.")
        if not is_integer(num_samples) or num_samples < 1:
            raise ValueError(f"`num_samples` must be an integer of at least 1, got {num_samples!r}.")
        if batch_size is not None and (not is_integer(batch_size) or batch_size < 1):
            raise ValueError(f"`batch_size` must be None or an integer of at least 1, got {batch_size!r}.")
        if output_type not in OUTPUT_TYPES:
            raise ValueError(f"`output_type` must be one of {', '.join(OUTPUT_TYPES)}, got {output_type!r}.")
        if generator is None:
            generator = []
        generators = generator if isinstance(generator, (list, tuple)) else [generator]
        for given in generators:
            if not isinstance(given, torch.Generator):
                raise TypeError(f"`generator` must be a torch.Generator or a list of them, got {given!r}.")
        unknown = set(callback_on_step_end_tensor_inputs) - set(self._callback_tensor_inputs)
        if unknown:
            raise ValueError(
                f"`callback_on_step_end_tensor_inputs` must be among {self._callback_tensor_inputs}, "
                f"got {sorted(unknown)}."
            )

    def noise_seeds(
        self, slices: Sequence[HUSlice], generator: torch.Generator | list[torch.Generator] | None = None
    ) -> list[int]:
        """Return a noise seed for each slice, the same for all slices of a series that share a generator.

        Each generator is drawn from once, whatever the number of slices, so the seed of a slice depends only on the state
        of its generator and on its series UID ("" for arrays).
        """
        if isinstance(generator, (list, tuple)):
            if len(generator) != len(slices):
                raise ValueError(
                    f"`generator` must have one entry for each of {len(slices)} slices, got {len(generator)}."
                )
            drawn = [draw_seed(given) for given in generator]
        else:
            drawn = [draw_seed(generator or torch.Generator().manual_seed(0))] * len(slices)
        return [derive_seed(seed, item.series_uid) for seed, item in zip(drawn, slices)]

    def batches(self, slices: Sequence[HUSlice], batch_size: int | None = None) -> list[list[int]]:
        """Return the indices of slices to process together: neighbours of one scan and size; on a CPU each slice alone."""
        if self._execution_device.type == "cpu":
            size = 1  # oneDNN chooses its algorithm by batch size, which would change the bytes
        else:
            size = batch_size or ACCELERATOR_BATCH

        def scan_and_size(i: int) -> tuple[Any, ...]:
            return slices[i].hu.shape, slices[i].series_uid, slices[i].spacing_mm

        groups = [list(group) for _, group in groupby(range(len(slices)), key=scan_and_size)]
        return [group[start : start + size] for group in groups for start in range(0, len(group), size)]

    @torch.no_grad()
    def estimate(self, slices: Sequence[HUSlice], batch_size: int | None = None) -> ScanEstimate:
        """Estimate the kernel, the noise and the texture of a scan from some of its slices.

        Args:
            slices: Slices of one scan, as `image_processor.load` returns them. Those of a reference may be of several scans:
                its kernel is that of the first.
            batch_size: As in `__call__`.
        """
        first, *others = scans_of(slices)
        few = checked_indices(len(slices)) if not others else range(len(slices))
        kernel = estimate_kernel_of_slices([slices[i] for i in first])
        return ScanEstimate(kernel, self.scan_tokens([slices[i] for i in few], batch_size))

    @torch.no_grad()
    def scan_tokens(self, slices: Sequence[HUSlice], batch_size: int | None = None) -> torch.Tensor:
        """Choose positions of the latents of some slices of a scan, (T, C) float16, not normalized."""
        tokens = []
        for batch in self.batches(slices, batch_size):
            latent = self.encode_batch([slices[i] for i in batch]).latent_a
            tokens.append(select_tokens(self.autoencoder.denormalize(latent)))
        joined = torch.cat(tokens)
        return joined[evenly_spaced_indices(len(joined), SCAN_TOKENS)].half().cpu()

    def resolve_target(
        self, target: str | None = None, references: Sequence[HUSlice] = (), batch_size: int | None = None
    ) -> Target | None:
        """Return the target of a scan; None if the denoiser's target is fixed.

        Args:
            target: Name of a kernel; None for the checkpoint's standard.
            references: Slices of a scan, in place of a name.
            batch_size: As in `__call__`.

        Raises:
            ValueError: for an unknown name, both a name and references, or references to a denoiser whose target is fixed.
        """
        if target is not None and references:
            raise ValueError("`target` and `reference` exclude each other; give only one of them.")
        if not self.sees_reference:
            if references:
                raise ValueError(
                    "`reference` must be None for this checkpoint, whose target is fixed, as in the paper."
                )
            return None
        if references:
            kernels = {item.kernel for item in references}
            name = kernels.pop() if len(kernels) == 1 else ""
            pixels = pixels_id([item.hu for item in references], [item.spacing_mm for item in references])
            return self.reference_target(self.estimate(references, batch_size), name or "reference", pixels)
        standard: str = self.config["standard_name"]
        law = self.config["standard_mtf"]
        known = Kernel(standard, *law) if law else find_kernel(standard)
        texture_mtf = None if known is None else kernel_mtf(known)
        _, denoiser = self._texture_networks()
        tokens = denoiser.standard[None].float()
        if target is None or target == standard:
            return Target(tokens, texture_mtf, None, standard, "standard")
        named = find_kernel(target)
        if named is None:
            raise ValueError(
                f"`target` must be one of {', '.join(KERNELS)}, or a Siemens kernel between two of them, got {target!r}."
            )
        if known is None:
            raise ValueError(
                f'`target` must be None, got {target!r}: the MTF of this checkpoint\'s standard, "{standard}", is not known.'
            )
        return Target(tokens, texture_mtf, kernel_mtf(named), target, target)

    def reference_target(self, reference: ScanEstimate, name: str, identity: str) -> Target:
        """Return the texture of a scan as a target; see `Target` for `name` and `identity`."""
        tokens = self.autoencoder.normalize(reference.tokens.to(self._execution_device).float().T[None]).transpose(1, 2)
        return Target(tokens, None if reference.kernel is None else reference.kernel.mtf, None, name, identity)

    def step(self, source: ScanEstimate, target: Target, noise: str | float = "keep") -> Step:
        """Compute the step of a scan, see method/step.py; a denoiser calibrated on pairs of a site has its step to the standard."""
        autoencoder, denoiser = self._texture_networks()
        device, max_lp_cm = self._execution_device, autoencoder.spectrum.max_lp_cm
        if denoiser.is_calibrated and target.id == "standard":
            tails = tails_of(source).to(device)
            mtf = log_mtf_power(source, autoencoder.channels.rings, max_lp_cm)
            return Step(target.tokens, denoiser.calibration[0].T, tails, source.smoothed, None, mtf)
        mean, std = autoencoder.latent_mean.to(device), autoencoder.latent_std.to(device)
        return make_step(source, target, noise, mean, std, max_lp_cm)

    def check(
        self, source: ScanEstimate, target: Target, slices: Sequence[HUSlice], results: Sequence[np.ndarray]
    ) -> Reached:
        """Measure whether some results of a scan, float32 HU (H, W) each, have the target's kernel."""
        made = [replace(item, hu=hu.round().clip(item.hu.min())) for item, hu in zip(slices, results)]
        shown = estimate_kernel_of_slices(made, header_kernel="") if made else None
        return check_results(target.name, target.mtf or target.texture_mtf, source.kernel, shown)

    def require_no_target(self, target: str | None, noise: str | float, source: ScanEstimate | None) -> None:
        """Refuse options that a denoiser whose target is fixed does not have.

        Raises:
            ValueError: naming the argument.
        """
        for name, value, default in (("target", target, None), ("noise", noise, "keep"), ("source", source, None)):
            if value is not default and value != default:
                raise ValueError(
                    f"`{name}` must be {default!r} for this checkpoint, whose target is fixed, as in the paper."
                )

    @property
    def sees_reference(self) -> bool:
        """Return whether the denoiser takes a reference; the paper's does not."""
        return isinstance(self.denoiser, ReferenceUNet1DModel)

    def _texture_networks(self) -> tuple[TextureAutoencoder, ReferenceUNet1DModel]:
        """Return the networks of a checkpoint whose denoiser takes a reference."""
        assert isinstance(self.autoencoder, TextureAutoencoder) and isinstance(self.denoiser, ReferenceUNet1DModel)
        return self.autoencoder, self.denoiser

    def noise(
        self, slices: Sequence[HUSlice], seeds: Sequence[int], purpose: str, shape: Sequence[int]
    ) -> torch.Tensor:
        """Return noise (B, *shape) of slices for one purpose, correlated along their normal; see `scan_noise`."""
        made = [
            scan_noise(shape, derive_seed(seed, purpose), item.position_mm, item.thickness_mm)
            for seed, item in zip(seeds, slices)
        ]
        return torch.stack(made).to(self._execution_device)

    @torch.no_grad()
    def encode_batch(self, slices: Sequence[HUSlice]) -> EncodedBatch:
        """Encode slices of one size; this does not depend on the noise, so all their samples share it."""
        sample, spacing_mm = self.image_processor.preprocess(slices, self._execution_device)  # [B,1,H,W], [B]
        return EncodedBatch(*self.encode(sample, spacing_mm), sample.shape[1:])

    def encode(self, sample: torch.Tensor, spacing_mm: torch.Tensor) -> tuple[torch.Tensor, Any]:
        """Encode (B, 1, H, W) in model range with spacings (B,) in mm: normalized latent (B, C, L), float32, and skips."""
        with self.mixed_precision(self.autoencoder):
            latent, skips = self.autoencoder.encode(sample, spacing_mm)
        return self.autoencoder.normalize(latent.float()), skips

    def denoise(
        self,
        latent_a: torch.Tensor,
        step: Step | None,
        num_inference_steps: int,
        noise: torch.Tensor,
        generators: list[torch.Generator],
        row_length: int | None = None,
        on_step_end: StepCallback | None = None,
    ) -> torch.Tensor:
        """Sample Z_A' from p(Z_B | Z_A, target).

        Args:
            latent_a: (B, C, L), normalized.
            step: What `step` returned for the scan; None for a denoiser whose target is fixed.
            num_inference_steps: Number of the scheduler's steps.
            noise: (B, C, L), the starting point.
            generators: B CPU generators, for the scheduler's own noise.
            row_length: Positions in a row of the slices; None for square slices.
            on_step_end: Called with step, timestep and a dict of "latents" and "latent_a"; returns a dict of the tensors to
                replace.

        Returns:
            (B, C, L), normalized, float32.
        """
        with scheduler_named(self.scheduler, num_inference_steps):
            self.scheduler.set_timesteps(num_inference_steps, device=latent_a.device)
            require_denoises(self.scheduler)
            takes_generator = "generator" in inspect.signature(self.scheduler.step).parameters
            step_options = {"generator": generators} if takes_generator else {}
            x_t = noise * self.scheduler.init_noise_sigma  # [B,C,L]
        condition: tuple[Any, ...] = ()
        if step is not None:
            condition = (step.tokens, step.shift, self.whitening(latent_a, step), step.tails, row_length)
        for number, timestep in enumerate(self.scheduler.timesteps):
            with scheduler_named(self.scheduler, num_inference_steps):
                scaled = self.scheduler.scale_model_input(x_t, timestep)
            with self.mixed_precision(self.denoiser):
                predicted = self.denoiser(scaled, timestep, latent_a, *condition).sample  # [B,C,L]
            with scheduler_named(self.scheduler, num_inference_steps):
                x_t = self.scheduler.step(predicted.float(), timestep, x_t, **step_options).prev_sample  # x_t-1
            if on_step_end is not None:
                tensors = {"latents": x_t, "latent_a": latent_a}
                tensors |= on_step_end(number, timestep, tensors)
                x_t, latent_a = tensors["latents"], tensors["latent_a"]
        require_converged(x_t, self.scheduler, num_inference_steps, is_residual=step is not None)
        if step is None:
            return x_t
        _, denoiser = self._texture_networks()
        return denoiser.from_residual(x_t, latent_a, step.shift, step.smoothed)

    def recommended_steps(self, step: Step | None) -> int:
        """Return the number of steps for `num_inference_steps` None.

        It is the checkpoint's default, or a single step of DDPM for a scan that was not smoothed, in which the sampled residual is
        not used (`Step.smoothed`).
        """
        is_ddpm = isinstance(self.scheduler, DDPMScheduler)  # other schedulers may not support a single step
        if step is not None and is_ddpm and step.smoothed < NEGLIGIBLY_SMOOTHED:
            _, denoiser = self._texture_networks()
            if not denoiser.is_calibrated:
                return 1
        return int(self.config["default_num_inference_steps"])

    def whitening(self, latent_a: torch.Tensor, step: Step) -> torch.Tensor:
        """Measure how white the noise of slices (B, C, L) is for their kernel, (B, rings); 0 where that is not known."""
        autoencoder, _ = self._texture_networks()
        channels, max_lp_cm = autoencoder.channels, autoencoder.spectrum.max_lp_cm
        if step.log_mtf_power is None:
            return latent_a.new_zeros(len(latent_a), channels.rings)
        latent = autoencoder.denormalize(latent_a)
        spacing = TYPICAL_SPACING_MM * torch.exp(latent[:, channels.spacing, 0] * SPACING_UNIT)
        law = step.log_mtf_power.expand(len(latent), -1)
        weights = level_weights(law, max_lp_cm, 5 / spacing)
        return whitening(patient_mean(latent)[:, channels.power], law, weights, max_lp_cm)

    def decode(
        self, latent: torch.Tensor, skips: Any, noise: torch.Tensor | None, coherent: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Decode a normalized latent (B, C, L), the skips of A and noise (B, 1, H, W): (B, 1, H, W), model range, float32.

        Without noise nothing is synthesized; `coherent` is that of a `Step`.
        """
        with self.mixed_precision(self.autoencoder):
            latent = self.autoencoder.denormalize(latent)
            if isinstance(self.autoencoder, TextureAutoencoder):
                return self.autoencoder.decode(latent, skips, noise, coherent).float()
            return self.autoencoder.decode(latent, skips).float()

    def mixed_precision(self, model: Network) -> AbstractContextManager[Any]:
        """Return autocasting to the data type of a half-precision model."""
        if model.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self._execution_device.type, model.dtype)

    @property
    def precision(self) -> str:
        """Return the data type of the weights that `to` casts, such as "float32" or "bfloat16"; several, sorted, if they differ."""
        cast = {
            str(weight.dtype).removeprefix("torch.")
            for model in self.models
            for _, weight, kept in named_weights(model)
            if weight.is_floating_point() and not kept
        }
        return ", ".join(sorted(cast)) or FULL_PRECISION

    def derivation(self, num_inference_steps: int, target: Target | None = None) -> Derivation:
        """Return how a run to a target is described in derived DICOM; `Derivation.of_source` adds the scan."""
        name, identity = (self.config["standard_name"], "standard") if target is None else (target.name, target.id)
        return Derivation(model_id(self.components), name, num_inference_steps, identity, self.precision)


def is_integer(value: Any) -> TypeGuard[int]:
    """Return whether a value is an integer; a bool is not."""
    return isinstance(value, int) and not isinstance(value, bool)


# diffusers looks up the class by name when a checkpoint is loaded with its own DiffusionPipeline.
register(DiffusionCTPipeline)
