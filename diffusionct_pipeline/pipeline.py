"""Standardize CT slices between reconstruction kernels: encode, denoise the latent, decode.

Source: Selim, Zhang, Brooks, Wang, Chen, "DiffusionCT: Latent Diffusion Model for CT Image Standardization" (2023).
docs/paper.md leads from its equations to this code, and lists where this code goes beyond it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.schedulers import SchedulerMixin
from diffusers.utils.torch_utils import randn_tensor

from .image_processor import CTImageProcessor, HUSlice
from .models import AutoencoderResNet18, ConditionalUNet1DModel, StyleAutoencoder, StylePredictor
from .models.weights import lay_out_weights, named_weights
from .pipeline_output import DiffusionCTPipelineOutput
from .provenance import Derivation, model_id, pixels_id
from .registration import register
from .seeds import MAX_SEED, derive_seed

PRETRAINED = Path(__file__).with_name("pretrained")
OUTPUT_TYPES = ("auto", "np", "pt", "pil", "dicom", "latent")
ACCELERATOR_BATCH = 8  # a modest default, not tuned

# step, timestep, {"latents": ..., "latent_a": ..., "style": ...} -> those to replace
StepCallback = Callable[[int, torch.Tensor, dict[str, Any]], dict[str, Any]]


class DiffusionCTPipeline(DiffusionPipeline):
    r"""Give CT slices the texture of another reconstruction kernel and keep their anatomy.

    ```python
    pipe = DiffusionCTPipeline.from_pretrained()
    out = pipe("slice.dcm")
    out = pipe(hu, pixel_spacing=0.693, reference=hu_ref, reference_pixel_spacing=0.713)
    ```

    Args:
        autoencoder: Splits a slice into texture (latent) and anatomy (skips): `StyleAutoencoder`, or the paper's own
            `AutoencoderResNet18`.
        denoiser: p(Z_B | Z_A, style), or p(Z_B | Z_A) without a style predictor.
        scheduler: Any diffusers scheduler; the checkpoint's is what the denoiser was trained with.
        style_predictor: Says which style a slice will have under the target's kernel. None: the target is fixed, as in the
            paper, and `reference` is refused.
        default_num_inference_steps: Denoising steps that the checkpoint recommends.
        standard_name: Kernel of the checkpoint's own standard, named in derived DICOM.
    """

    model_cpu_offload_seq = "autoencoder->style_predictor->denoiser"
    _optional_components = ["style_predictor"]
    _callback_tensor_inputs = ["latents", "latent_a", "style"]

    def __init__(
        self,
        autoencoder: StyleAutoencoder | AutoencoderResNet18,
        denoiser: ConditionalUNet1DModel,
        scheduler: SchedulerMixin,
        style_predictor: StylePredictor | None = None,
        default_num_inference_steps: int = 20,
        standard_name: str = "Bl64",
    ):
        super().__init__()
        self.register_modules(
            autoencoder=autoencoder, denoiser=denoiser, scheduler=scheduler, style_predictor=style_predictor
        )
        self.register_to_config(default_num_inference_steps=default_num_inference_steps, standard_name=standard_name)
        self.image_processor = CTImageProcessor()
        for model in self.models:
            lay_out_weights(model)

    @property
    def models(self) -> list[torch.nn.Module]:
        """The components that have weights."""
        return [component for component in self.components.values() if isinstance(component, torch.nn.Module)]

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path | None = None, **kwargs: Any
    ) -> DiffusionCTPipeline:
        """Load a checkpoint: None for the embedded one, a folder, or "user/repo" on the Hub.

        Raises:
            ValueError: if the name is neither a checkpoint folder nor of the form "user/repo".
        """
        name = PRETRAINED if pretrained_model_name_or_path is None else pretrained_model_name_or_path
        is_hub_name = isinstance(name, str) and name.count("/") == 1 and all(name.split("/"))
        if not (Path(name) / cls.config_name).is_file() and (Path(name).exists() or not is_hub_name):
            raise ValueError(
                f'`pretrained_model_name_or_path` is "{name}"; legal is a folder with {cls.config_name}, '
                'a Hub name "user/repo", or nothing for the embedded checkpoint.'
            )
        return super().from_pretrained(str(name), **kwargs)

    def to(self, *args: Any, **kwargs: Any) -> DiffusionCTPipeline:
        """Move or cast as in diffusers; what the models name in `_keep_in_fp32_modules` stays float32."""
        models = self.models
        exact = [(model, name, weight.data) for model in models for name, weight, kept in named_weights(model) if kept]
        super().to(*args, **kwargs)
        for model, name, data in exact:
            weight = attrgetter(name)(model)  # a buffer is another tensor now
            weight.data = data.to(weight.device)
        return self

    @torch.no_grad()
    def __call__(
        self,
        image: Any,
        pixel_spacing: float | tuple[float, float] | None = None,
        reference: Any = None,
        reference_pixel_spacing: float | tuple[float, float] | None = None,
        num_inference_steps: int | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        batch_size: int | None = None,
        output_type: str = "auto",
        return_dict: bool = True,
        callback_on_step_end: Callable | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> DiffusionCTPipelineOutput | tuple[list]:
        r"""Standardize CT slices to the texture of a reference (section 3.3 of Selim et al. 2023).

        Args:
            image: One slice or many: path of a DICOM file, pydicom `Dataset`, folder with one series, HU array or
                tensor (H, W) or (N, H, W), or a list of these. H and W of at least 32 pixels.
            pixel_spacing: mm, a float or (row, column), square; for arrays and tensors, where it is required.
            reference: Slices whose texture to take, same kinds as `image`; None takes the checkpoint's own standard.
            reference_pixel_spacing: As `pixel_spacing`, for `reference`.
            num_inference_steps: Denoising steps; None takes what the checkpoint recommends.
            generator: Source of the noise, one for all slices or a list with one for each; None is
                `torch.Generator().manual_seed(0)`. Each is drawn from once, for a seed that is joined with the series
                UID, so that all slices of a series (all arrays of a call) share their noise and texture does not
                flicker between them. To do a series in several calls, give each a new generator of the same seed.
            batch_size: Slices at a time on an accelerator; None is 8. On a CPU slices always go one by one: batching
                gains little there, and so the same slice and seed give the same bytes whatever else is in the call.
            output_type: "auto" (the kind that was given), "np", "pt", "pil", "dicom" or "latent"; see
                `DiffusionCTPipelineOutput`.
            return_dict: False returns a tuple instead of a `DiffusionCTPipelineOutput`.
            callback_on_step_end: Called as `callback(pipe, step, timestep, tensors)` after every step of every batch; a
                dict that it returns replaces tensors of the same name.
            callback_on_step_end_tensor_inputs: Which of "latents", "latent_a" and "style" the callback is given.

        Returns:
            `DiffusionCTPipelineOutput`: `images` has one entry for each slice, float32 HU for arrays.

        Raises:
            ValueError, TypeError, FileNotFoundError: naming the argument, the value received and what is legal.
            DicomError: naming the file and the reason.
        """
        # 0. The checkpoint owns its defaults.
        if num_inference_steps is None:
            num_inference_steps = self.config.default_num_inference_steps

        # 1. Check inputs; nothing is repaired silently.
        self.check_inputs(num_inference_steps, generator, batch_size, output_type, callback_on_step_end_tensor_inputs)

        # 2. Anything -> slices in HU.
        slices = self.image_processor.load(image, pixel_spacing)
        references = []
        if reference is not None:
            references = self.image_processor.load(reference, reference_pixel_spacing, "reference")
        if output_type == "dicom" and any(item.source is None for item in slices):
            raise ValueError('`output_type` is "dicom", but `image` holds arrays or tensors, which have no header.')
        seeds = self.noise_seeds(slices, generator)

        # 3. The target's style.
        reference_style = self.reference_style(references, batch_size)  # [1,C] or None

        def on_step_end(step: int, timestep: torch.Tensor, tensors: dict[str, Any]) -> dict[str, Any]:
            bar.update()
            if callback_on_step_end is None:
                return {}
            wanted = {name: tensors[name] for name in callback_on_step_end_tensor_inputs}
            return callback_on_step_end(self, step, timestep, wanted) or {}

        # 4. The method, batch by batch.
        results = []
        batches = self.batches(slices, batch_size)
        with self.progress_bar(total=num_inference_steps * len(batches)) as bar:
            for batch in batches:
                results += self.standardize_batch(
                    [slices[i] for i in batch],
                    [seeds[i] for i in batch],
                    num_inference_steps,
                    reference_style,
                    latents_only=output_type == "latent",
                    on_step_end=on_step_end,
                )
        self.maybe_free_model_hooks()

        # 5. The caller's kind.
        if output_type == "latent":
            images = [latent.cpu() for latent in results]
        else:
            kinds = [item.kind if output_type == "auto" else output_type for item in slices]
            derivation = self.derivation(num_inference_steps, references) if "dicom" in kinds else None
            to_kind = self.image_processor.to_kind
            images = [
                derivation.derive(hu, item.source, seed) if kind == "dicom" else to_kind(hu, item, kind)
                for hu, item, seed, kind in zip(results, slices, seeds, kinds)
            ]
        return DiffusionCTPipelineOutput(images=images) if return_dict else (images,)

    @torch.no_grad()
    def standardize_batch(
        self,
        slices: Sequence[HUSlice],
        seeds: Sequence[int],
        num_inference_steps: int,
        reference_style: torch.Tensor | None = None,
        latents_only: bool = False,
        on_step_end: StepCallback | None = None,
    ) -> list[np.ndarray] | list[torch.Tensor]:
        """The method: what `__call__` does to the slices of one batch, see `batches`.

        Args:
            slices: B slices of one size, as `image_processor.load` gives them.
            seeds: Seed of the noise of each, see `noise_seeds`.
            num_inference_steps: Denoising steps.
            reference_style: What `reference_style` gave, (1, C) or None.
            latents_only: Whether to stop at the standardized latents.
            on_step_end: See `denoise`.

        Returns:
            B standardized slices, float32 HU (H, W); or B latents Z_A', (C, L), normalized.
        """
        # 1. HU -> model range on a padded grid; texture goes with the latent, anatomy with the skips.
        sample, spacing_mm = self.image_processor.preprocess(slices, self._execution_device)  # [B,1,H,W], [B]
        latent_a, skips = self.encode(sample, spacing_mm)  # [B,C,L]

        # 2. p(Z_B | Z_A, style): the latent DDPM.
        style = self.predict_style(latent_a, spacing_mm, reference_style)  # [B,C] or None
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        latent_b = self.denoise(latent_a, style, num_inference_steps, generators, on_step_end)  # [B,C,L]
        if latents_only:
            return list(latent_b)

        # 3. The standardized slices, back to HU and the original grid.
        standardized = self.decode(latent_b, skips)  # [B,1,H,W]
        return self.image_processor.postprocess(standardized, slices)  # B x [H,W]

    def check_inputs(
        self,
        num_inference_steps: int,
        generator: torch.Generator | list[torch.Generator] | None,
        batch_size: int | None,
        output_type: str,
        callback_on_step_end_tensor_inputs: Sequence[str],
    ) -> None:
        """Raise ValueError or TypeError on a wrong argument; `image` and `reference` are checked as they are read."""
        train_steps = self.scheduler.config.num_train_timesteps
        if not is_integer(num_inference_steps) or not 1 <= num_inference_steps <= train_steps:
            raise ValueError(f"`num_inference_steps` is {num_inference_steps!r}; legal is 1 to {train_steps}.")
        if batch_size is not None and (not is_integer(batch_size) or batch_size < 1):
            raise ValueError(f"`batch_size` is {batch_size!r}; legal is None or an integer of at least 1.")
        if output_type not in OUTPUT_TYPES:
            raise ValueError(f"`output_type` is {output_type!r}; legal are {', '.join(OUTPUT_TYPES)}.")
        if generator is None:
            generator = []
        generators = generator if isinstance(generator, (list, tuple)) else [generator]
        for given in generators:
            if not isinstance(given, torch.Generator):
                raise TypeError(f"`generator` holds {given!r}; legal is a torch.Generator or a list of them.")
        unknown = set(callback_on_step_end_tensor_inputs) - set(self._callback_tensor_inputs)
        if unknown:
            raise ValueError(
                f"`callback_on_step_end_tensor_inputs` holds {sorted(unknown)}; "
                f"legal are {self._callback_tensor_inputs}."
            )

    def noise_seeds(
        self, slices: Sequence[HUSlice], generator: torch.Generator | list[torch.Generator] | None = None
    ) -> list[int]:
        """One noise seed for each slice, the same for all slices of a series that share a generator.

        Each generator is drawn from once, whatever the number of slices, so the seed of a slice depends on the state of
        its generator and on its series UID ("" for arrays) only.
        """
        if isinstance(generator, (list, tuple)):
            if len(generator) != len(slices):
                raise ValueError(f"`generator` is a list of {len(generator)}, but `image` holds {len(slices)} slices.")
            drawn = [draw_seed(given) for given in generator]
        else:
            drawn = [draw_seed(generator or torch.Generator().manual_seed(0))] * len(slices)
        return [derive_seed(seed, item.series_uid) for seed, item in zip(drawn, slices)]

    def batches(self, slices: Sequence[HUSlice], batch_size: int | None = None) -> list[list[int]]:
        """Indices of slices that go through the networks together: neighbours of one size; on a CPU each alone."""
        if self._execution_device.type == "cpu":
            size = 1  # oneDNN chooses its algorithm by batch size, so bytes would differ with it
        else:
            size = batch_size or ACCELERATOR_BATCH
        groups = [list(group) for _, group in groupby(range(len(slices)), key=lambda i: slices[i].hu.shape)]
        return [group[start : start + size] for group in groups for start in range(0, len(group), size)]

    @torch.no_grad()
    def reference_style(
        self, references: Sequence[HUSlice] = (), batch_size: int | None = None
    ) -> torch.Tensor | None:
        """Style (1, C) of the references, the mean over their slices; None without any, for the checkpoint's standard.

        Raises:
            ValueError: if the checkpoint has no style predictor, so that its target is fixed.
        """
        if not references:
            return None
        if self.style_predictor is None:
            raise ValueError("`reference` is given, but this checkpoint has no style predictor: its target is fixed.")
        styles = []
        for batch in self.batches(references, batch_size):
            sample, spacing_mm = self.image_processor.preprocess([references[i] for i in batch], self._execution_device)
            with self.mixed_precision(self.autoencoder):
                latent, _ = self.autoencoder.encode(sample, spacing_mm)
            styles.append(self.autoencoder.normalize(self.autoencoder.pool(latent.float())))
        return torch.cat(styles).mean(0, keepdim=True)

    def encode(self, sample: torch.Tensor, spacing_mm: torch.Tensor) -> tuple[torch.Tensor, tuple]:
        """(B, 1, H, W) in model range and (B,) in mm -> normalized latent (B, C, L), float32, and the skips."""
        with self.mixed_precision(self.autoencoder):
            latent, skips = self.autoencoder.encode(sample, spacing_mm)
        return self.autoencoder.normalize(latent.float()), skips

    def predict_style(
        self, latent_a: torch.Tensor, spacing_mm: torch.Tensor, reference_style: torch.Tensor | None = None
    ) -> torch.Tensor | None:
        """Style (B, C) that slices Z_A will have with the references' texture, or with the standard's without any.

        None without a style predictor: the denoiser then knows one target only.
        """
        if self.style_predictor is None:
            return None
        source_style = self.autoencoder.style_of(latent_a, latent_a)
        return self.style_predictor.predict(latent_a, source_style, spacing_mm, reference_style)

    def denoise(
        self,
        latent_a: torch.Tensor,
        style: torch.Tensor | None,
        num_inference_steps: int,
        generators: list[torch.Generator],
        on_step_end: StepCallback | None = None,
    ) -> torch.Tensor:
        """Sample Z_A' from p(Z_B | Z_A, style).

        Args:
            latent_a: (B, C, L), normalized.
            style: What `predict_style` gives, (B, C), normalized, or None.
            num_inference_steps: Steps of the scheduler.
            generators: B CPU generators, for the initial noise and for the scheduler's own.
            on_step_end: Called with step, timestep and a dict of "latents", "latent_a" and "style"; returns a dict of
                those to replace.

        Returns:
            (B, C, L), normalized, float32.
        """
        self.scheduler.set_timesteps(num_inference_steps, device=latent_a.device)
        takes_generator = "generator" in inspect.signature(self.scheduler.step).parameters
        step_options = {"generator": generators} if takes_generator else {}
        noise = randn_tensor(latent_a.shape, generator=generators, device=latent_a.device)
        x_t = noise * self.scheduler.init_noise_sigma  # [B,C,L]
        for step, timestep in enumerate(self.scheduler.timesteps):
            scaled = self.scheduler.scale_model_input(x_t, timestep)
            with self.mixed_precision(self.denoiser):
                predicted = self.denoiser(scaled, timestep, latent_a, style).sample  # [B,C,L]
            x_t = self.scheduler.step(predicted.float(), timestep, x_t, **step_options).prev_sample  # x_t-1
            if on_step_end is not None:
                tensors = {"latents": x_t, "latent_a": latent_a, "style": style}
                tensors |= on_step_end(step, timestep, tensors)
                x_t, latent_a, style = tensors["latents"], tensors["latent_a"], tensors["style"]
        return x_t if style is None else self.autoencoder.match_style(x_t, style, latent_a)

    def decode(self, latent: torch.Tensor, skips: tuple) -> torch.Tensor:
        """Normalized latent (B, C, L) and the skips of A -> (B, 1, H, W), model range, float32."""
        with self.mixed_precision(self.autoencoder):
            return self.autoencoder.decode(self.autoencoder.denormalize(latent), skips).float()

    def mixed_precision(self, model: torch.nn.Module) -> AbstractContextManager:
        """Autocast to the type of a half-precision model."""
        if model.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self._execution_device.type, model.dtype)

    def derivation(self, num_inference_steps: int, references: Sequence[HUSlice] = ()) -> Derivation:
        """What derived DICOM says about a run with these references."""
        if not references:
            return Derivation(model_id(self.components), self.config.standard_name, num_inference_steps, "standard")
        kernels = {item.kernel for item in references}
        kernel = kernels.pop() if len(kernels) == 1 else ""
        pixels = pixels_id([item.hu for item in references], [item.spacing_mm for item in references])
        return Derivation(model_id(self.components), kernel or "reference", num_inference_steps, pixels)


def is_integer(value: Any) -> bool:
    """Whether a value is an integer, a bool being none."""
    return isinstance(value, int) and not isinstance(value, bool)


def draw_seed(generator: torch.Generator) -> int:
    """Draw one seed from a generator on any device."""
    return int(torch.randint(MAX_SEED, (1,), generator=generator, device=generator.device))


# diffusers looks the class up by name when a checkpoint is loaded with its own DiffusionPipeline.
register(DiffusionCTPipeline)
