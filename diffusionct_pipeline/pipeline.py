"""Standardize CT slices between reconstruction kernels: encode, denoise the latent, decode.

Source: Selim, Zhang, Brooks, Wang, Chen, "DiffusionCT: Latent Diffusion Model for CT Image Standardization" (2023).
"""

import hashlib
import inspect
import json
from collections.abc import Callable
from contextlib import nullcontext
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from diffusers.schedulers import SchedulerMixin
from diffusers.utils.torch_utils import randn_tensor

from .dicom import derive_slice
from .hub_registration import register
from .image_processor import CTImageProcessor
from .models import AutoencoderResNet18, ConditionalUNet1DModel
from .pipeline_output import DiffusionCTPipelineOutput

PRETRAINED = Path(__file__).with_name("pretrained")
OUTPUT_TYPES = ("auto", "np", "pt", "pil", "dicom", "latent")
MAX_SEED = 2**63 - 1
ACCELERATOR_BATCH = 8  # a modest default, not tuned

# How far the power of a reference counts as it is, where noise dominates, besides what the network makes of it: that does
# not believe a kernel unlike all of its training. Chosen on validation scans, half of them under kernels of any shape, half
# with a reference of another dose: mean error of the log gain .26 with 0, .23 with 0.5, .24 with 0.75, .27 with 1.
REFERENCE_SHARE = 0.5


class DiffusionCTPipeline(DiffusionPipeline):
    r"""Give CT slices the texture of another reconstruction kernel and keep their anatomy.

    ```python
    pipe = DiffusionCTPipeline.from_pretrained()
    out = pipe("slice.dcm")
    out = pipe(hu, pixel_spacing=0.693, reference=hu_ref, reference_pixel_spacing=0.713)
    ```

    Args:
        autoencoder: Splits a slice into texture (latent) and anatomy (skips).
        denoiser: Predicts the target's latent from the source's latent and the target's style.
        scheduler: Any diffusers scheduler; the checkpoint's is what the denoiser was trained with.
        default_num_inference_steps: Denoising steps that the checkpoint recommends.
        standard_name: Kernel of the checkpoint's own standard, named in derived DICOM.
    """

    model_cpu_offload_seq = "autoencoder->denoiser"
    _callback_tensor_inputs = ["latents", "latent_a", "style"]

    def __init__(
        self,
        autoencoder: AutoencoderResNet18,
        denoiser: ConditionalUNet1DModel,
        scheduler: SchedulerMixin,
        default_num_inference_steps: int = 20,
        standard_name: str = "Bl64",
    ):
        super().__init__()
        self.register_modules(autoencoder=autoencoder, denoiser=denoiser, scheduler=scheduler)
        self.register_to_config(default_num_inference_steps=default_num_inference_steps, standard_name=standard_name)
        self.image_processor = CTImageProcessor()
        for model in (autoencoder, denoiser):
            lay_out_weights(model)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path=None, **kwargs):
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

    def to(self, *args, **kwargs):
        """Move or cast as in diffusers; what the models name in `_keep_in_fp32_modules` stays float32."""
        exact = []
        for model in (self.autoencoder, self.denoiser):
            kept = set(model._keep_in_fp32_modules or ())
            tensors = [*model.named_parameters(), *model.named_buffers()]
            exact += [(model, name, tensor.data) for name, tensor in tensors if kept & set(name.split("."))]
        super().to(*args, **kwargs)
        for model, name, data in exact:
            tensor = attrgetter(name)(model)
            tensor.data = data.to(tensor.device)
        return self

    @torch.no_grad()
    def __call__(
        self,
        image,
        pixel_spacing: float | tuple[float, float] | None = None,
        reference=None,
        reference_pixel_spacing: float | tuple[float, float] | None = None,
        num_inference_steps: int | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        batch_size: int | None = None,
        output_type: str = "auto",
        return_dict: bool = True,
        callback_on_step_end: Callable | None = None,
        callback_on_step_end_tensor_inputs: list[str] = ("latents",),
    ):
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
        if output_type == "dicom" and any(one.source is None for one in slices):
            raise ValueError('`output_type` is "dicom", but `image` holds arrays or tensors, which have no header.')
        seeds = self.noise_seeds(slices, generator)

        # 3. The target's style.
        reference_style = self.target_style(references, batch_size)  # [1,C] or None

        def on_step_end(step, timestep, tensors):
            bar.update()
            if callback_on_step_end is None:
                return {}
            wanted = {name: tensors[name] for name in callback_on_step_end_tensor_inputs}
            return callback_on_step_end(self, step, timestep, wanted) or {}

        images = []
        batches = self.batches(slices, batch_size)
        with self.progress_bar(total=num_inference_steps * len(batches)) as bar:
            for batch in batches:
                inputs = [slices[i] for i in batch]
                generators = [torch.Generator().manual_seed(seeds[i]) for i in batch]

                # 4. HU -> model range on a padded grid; texture goes with the latent, anatomy with the skips.
                sample, spacing_mm = self.image_processor.preprocess(inputs, self._execution_device)  # [B,1,H,W], [B]
                latent_a, skips = self.encode(sample, spacing_mm)  # [B,C,L]

                # 5. p(Z_B | Z_A, style): the latent DDPM.
                style = self.style_to_sample(latent_a, spacing_mm, reference_style)  # [B,C]
                latent_b = self.denoise(latent_a, style, num_inference_steps, generators, on_step_end)  # [B,C,L]
                if output_type == "latent":
                    images.extend(latent_b.cpu())
                    continue

                # 6. The standardized slices, back to HU and the original grid.
                standardized = self.decode(latent_b, skips, sample, spacing_mm)  # [B,1,H,W]
                images.extend(self.image_processor.postprocess(standardized, inputs))  # B x [H,W]
        self.maybe_free_model_hooks()

        # 7. The caller's kind.
        if output_type != "latent":
            kinds = [one.kind if output_type == "auto" else output_type for one in slices]
            derivation = self.derivation(num_inference_steps, references) if "dicom" in kinds else None
            to_kind = self.image_processor.to_kind
            images = [
                self.derive(hu, one, seed, derivation) if kind == "dicom" else to_kind(hu, one, kind)
                for hu, one, seed, kind in zip(images, slices, seeds, kinds)
            ]
        return DiffusionCTPipelineOutput(images=images) if return_dict else (images,)

    def check_inputs(self, num_inference_steps, generator, batch_size, output_type, callback_on_step_end_tensor_inputs):
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
        for one in generators:
            if not isinstance(one, torch.Generator):
                raise TypeError(f"`generator` holds {one!r}; legal is a torch.Generator or a list of them.")
        unknown = set(callback_on_step_end_tensor_inputs) - set(self._callback_tensor_inputs)
        if unknown:
            raise ValueError(
                f"`callback_on_step_end_tensor_inputs` holds {sorted(unknown)}; "
                f"legal are {self._callback_tensor_inputs}."
            )

    def noise_seeds(self, slices, generator=None):
        """One noise seed for each slice, the same for all slices of a series that share a generator.

        Each generator is drawn from once, whatever the number of slices, so the seed of a slice depends on the state of
        its generator and on its series UID ("" for arrays) only.
        """
        if isinstance(generator, (list, tuple)):
            if len(generator) != len(slices):
                raise ValueError(f"`generator` is a list of {len(generator)}, but `image` holds {len(slices)} slices.")
            drawn = [draw_seed(one) for one in generator]
        else:
            drawn = [draw_seed(generator or torch.Generator().manual_seed(0))] * len(slices)
        return [join_seed(seed, one.series_uid) for seed, one in zip(drawn, slices)]

    def batches(self, slices, batch_size=None):
        """Indices of slices that go through the networks together: neighbours of one size; on a CPU each alone."""
        if self._execution_device.type == "cpu":
            size = 1  # oneDNN chooses its algorithm by batch size, so bytes would differ with it
        else:
            size = batch_size or ACCELERATOR_BATCH
        groups = [list(group) for _, group in groupby(range(len(slices)), key=lambda i: slices[i].hu.shape)]
        return [group[start : start + size] for group in groups for start in range(0, len(group), size)]

    def target_style(self, references=(), batch_size=None):
        """Style (1, C) of the references, the mean over their slices; None without any, for the checkpoint's standard."""
        if not references:
            return None
        styles = []
        for batch in self.batches(references, batch_size):
            sample, spacing_mm = self.image_processor.preprocess([references[i] for i in batch], self._execution_device)
            with self.mixed_precision(self.autoencoder):
                latent, _ = self.autoencoder.encode(sample, spacing_mm)
            styles.append(self.autoencoder.standardize(self.autoencoder.pool(latent.float())))
        return torch.cat(styles).mean(0, keepdim=True)

    def encode(self, sample, spacing_mm):
        """(B, 1, H, W) in model range and (B,) in mm -> standardized latent (B, C, L), float32, and the skips."""
        with self.mixed_precision(self.autoencoder):
            latent, skips = self.autoencoder.encode(sample, spacing_mm)
        return self.autoencoder.standardize(latent.float()), skips

    def denoise(self, latent_a, style, num_inference_steps, generators, on_step_end=None):
        """Sample Z_A' from p(Z_B | Z_A, style).

        Args:
            latent_a: (B, C, L), standardized.
            style: What `style_to_sample` gives, (B, C), standardized.
            num_inference_steps: Steps of the scheduler.
            generators: B CPU generators, for the initial noise and for the scheduler's own.
            on_step_end: Called with step, timestep and a dict of "latents", "latent_a" and "style"; returns a dict of
                those to replace.

        Returns:
            (B, C, L), standardized, float32.
        """
        tensors = {"latent_a": latent_a, "style": style}
        noise = randn_tensor(latent_a.shape, generator=generators, device=latent_a.device)
        self.scheduler.set_timesteps(num_inference_steps, device=latent_a.device)
        tensors["latents"] = noise * self.scheduler.init_noise_sigma
        takes_generator = "generator" in inspect.signature(self.scheduler.step).parameters
        step_options = {"generator": generators} if takes_generator else {}
        for step, timestep in enumerate(self.scheduler.timesteps):
            noisy = self.scheduler.scale_model_input(tensors["latents"], timestep)
            with self.mixed_precision(self.denoiser):
                predicted = self.denoiser(noisy, timestep, tensors["latent_a"], tensors["style"]).sample  # [B,C,L]
            tensors["latents"] = self.scheduler.step(
                predicted.float(), timestep, tensors["latents"], **step_options
            ).prev_sample
            if on_step_end is not None:
                tensors.update(on_step_end(step, timestep, dict(tensors)))
        if not self.denoiser.config.style_conditioned:
            return tensors["latents"]
        return self.match_style(tensors["latent_a"], tensors["style"], tensors["latents"])

    def style_to_sample(self, latent_a, spacing_mm, reference_style=None):
        """Style (B, C) that slices Z_A will have with the references' texture, or with the standard's without any."""
        source_style = self.style_of(latent_a, latent_a)
        if not self.denoiser.config.style_conditioned:
            return source_style  # ignored
        style = self.denoiser.target_style(latent_a, source_style, spacing_mm, reference_style)
        if reference_style is not None and self.autoencoder.config.local_spectrum:
            power = self.autoencoder.spectrum_channels
            share = REFERENCE_SHARE * self.autoencoder.spectrum.noise_dominated()  # [rings]
            style[:, power] += share * (reference_style - style)[:, power]
        return style

    def match_style(self, latent_a, style, latents):
        """Shift sampled latents (B, C, L) to the style (B, C) that they were sampled for: it tells the filter its gain."""
        return latents + (style - self.style_of(latents, latent_a))[..., None]

    def style_of(self, latent, latent_a):
        """Style (B, C) of standardized latents (B, C, L), over the places that Z_A weighs."""
        latent, latent_a = (self.autoencoder.unstandardize(one) for one in (latent, latent_a))
        return self.autoencoder.standardize(self.autoencoder.pool(latent, latent_a))

    def decode(self, latent, skips, sample, spacing_mm):
        """Standardized latent (B, C, L), skips of A and A itself -> (B, 1, H, W), model range, float32."""
        with self.mixed_precision(self.autoencoder):
            return self.autoencoder.decode(self.autoencoder.unstandardize(latent), skips, sample, spacing_mm).float()

    def mixed_precision(self, model):
        """Autocast to the type of a half-precision model."""
        if model.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self._execution_device.type, model.dtype)

    def derivation(self, num_inference_steps, references):
        """What derived DICOM says about a call: arguments of `dicom.derive_slice`; the derived UIDs depend on them."""
        kernels = {one.kernel for one in references}
        reference_kernel = kernels.pop() if len(kernels) == 1 else ""
        pixels = b"".join(one.hu.tobytes() + str(one.spacing_mm).encode() for one in references)
        return {
            "model_id": self.model_id(),
            "target_name": (reference_kernel or "reference") if references else self.config.standard_name,
            "options": {
                "num_inference_steps": num_inference_steps,
                "reference": hashlib.sha256(pixels).hexdigest()[:16] if references else "standard",
            },
        }

    def derive(self, hu, one, seed, derivation):
        """Standardized HU (H, W) of the DICOM slice `one` -> derived CT `Dataset`."""
        return derive_slice(one.source, hu, **{**derivation, "options": {**derivation["options"], "seed": seed}})

    def model_id(self):
        """"DiffusionCT" and a hash of the weights and of the scheduler's settings, the same on every machine."""
        settings = {key: value for key, value in self.scheduler.config.items() if not key.startswith("_")}
        settings["scheduler"] = type(self.scheduler).__name__
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
        for model in (self.autoencoder, self.denoiser):
            for name, weight in sorted(model.state_dict().items()):
                digest.update(name.encode())
                digest.update(weight.float().cpu().numpy().tobytes())
        return f"DiffusionCT {digest.hexdigest()[:16]}"


def lay_out_weights(model):
    """Give every weight memory of its own, aligned, and convolutions the order of channels that oneDNN is fastest in.

    A loaded checkpoint is mapped at odd addresses, by which the last digit of a product differs: a pipeline would not
    give the same bytes before saving and after loading. channels_last: 0.27 s instead of 0.39 s for encode and decode
    of 512 x 512 on 2 cores in float32.
    """
    for weight in [*model.parameters(), *model.buffers()]:
        order = torch.channels_last if weight.ndim == 4 else torch.contiguous_format
        weight.data = weight.data.clone(memory_format=order)


def is_integer(value):
    """Whether a value is an integer, a bool being none."""
    return isinstance(value, int) and not isinstance(value, bool)


def draw_seed(generator):
    """Draw one seed from a generator on any device."""
    return int(torch.randint(MAX_SEED, (1,), generator=generator, device=generator.device))


def join_seed(seed, series_uid):
    """Seed and series UID -> seed, the same in every process."""
    return int.from_bytes(hashlib.sha256(f"{seed} {series_uid}".encode()).digest()[:8], "big") >> 1


# diffusers looks the class up by name when a checkpoint is loaded with its own DiffusionPipeline.
register(DiffusionCTPipeline)
