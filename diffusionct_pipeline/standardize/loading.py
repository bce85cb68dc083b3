"""Load a checkpoint as a pipeline on its device, and prepare it for `--fast`."""

from __future__ import annotations

import logging
import os

import diffusers
import torch

from ..pipeline import DiffusionCTPipeline
from ..utils.devices import first_line, usable_device
from ..utils.stages import stage

logger = logging.getLogger(__name__)

FAST_TYPE = torch.bfloat16  # the range of float32: nothing in the networks needs scaling


def load_pipeline(model: str | os.PathLike | None = None, device: str | None = None) -> DiffusionCTPipeline:
    """Load a checkpoint and put it on a device; None as in `standardize_folder`.

    Raises:
        ValueError: naming the model or device and the reason.
    """
    place = usable_device(device)
    stage("loading the checkpoint")
    try:
        diffusers.utils.logging.disable_progress_bar()  # three small files
        pipe = DiffusionCTPipeline.from_pretrained(model)
    except Exception as error:  # what a damaged checkpoint or an unreachable Hub raises depends on the damage
        name = "the embedded model" if model is None else f'model "{model}"'
        raise ValueError(f"{name} cannot be loaded: {first_line(error)}") from error
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(place)


def make_fast(pipe: DiffusionCTPipeline) -> DiffusionCTPipeline:
    """Cast the networks of a pipeline to bfloat16 and, on a GPU, compile the denoiser.

    What the models name in `_keep_in_fp32_modules` stays float32. `DiffusionCTPipeline.derivation` names the precision,
    so that derived UIDs are others than those of float32.

    A step of the denoiser is hundreds of small kernels, whose launches a CUDA graph ("reduce-overhead") joins. On a CPU
    bfloat16 is slower than float32, and compiling takes what a thousand slices gain by it (docs/performance.md): there
    it is of use to get what a GPU would give, to the last bits.

    Args:
        pipe: Changed in place; already on its device.

    Returns:
        The same pipeline.
    """
    verbosity = diffusers.utils.logging.get_verbosity()
    diffusers.utils.logging.set_verbosity_error()  # it warns of modules that must stay float32, and do
    try:
        pipe.to(FAST_TYPE)
    finally:
        diffusers.utils.logging.set_verbosity(verbosity)
    if pipe.device.type == "cuda":
        pipe.denoiser.compile(mode="reduce-overhead")
    else:
        logger.warning("fast is for GPUs: on a CPU bfloat16 is slower than float32.")
    return pipe
