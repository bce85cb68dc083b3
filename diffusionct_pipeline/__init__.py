"""DiffusionCT: standardize CT images between reconstruction kernels with a conditional latent diffusion model."""

import importlib
from typing import TYPE_CHECKING

from .utils.registration import register_with_diffusers
from .utils.version import __version__

if TYPE_CHECKING:  # for editors and type checkers; at run time, `__getattr__` imports each name on first use
    from diffusers.models.modeling_utils import ModelMixin
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline
    from diffusers.schedulers import SchedulerMixin

    from .image_processor import CTImageProcessor
    from .models import AutoencoderResNet18, ConditionalUNet1DModel, ReferenceUNet1DModel, TextureAutoencoder
    from .pipeline import DiffusionCTPipeline
    from .pipeline_output import DiffusionCTPipelineOutput
    from .standardize.folder import standardize_folder
    from .transforms import StandardizeCT, StandardizeCTd

# Loaded on first use: importing torch and diffusers takes seconds, for which `diffusionct --help` must not wait.
_HOMES = {
    "DiffusionCTPipeline": ".pipeline",
    "DiffusionCTPipelineOutput": ".pipeline_output",
    "CTImageProcessor": ".image_processor",
    "standardize_folder": ".standardize.folder",
    "StandardizeCT": ".transforms",
    "StandardizeCTd": ".transforms",
    "AutoencoderResNet18": ".models",
    "ConditionalUNet1DModel": ".models",
    "ReferenceUNet1DModel": ".models",
    "TextureAutoencoder": ".models",
    # diffusers' loader compares components with these base classes, as attributes of the components' library.
    "ModelMixin": "diffusers",
    "SchedulerMixin": "diffusers",
    "DiffusionPipeline": "diffusers",
}
__all__ = [
    "__version__",
    "AutoencoderResNet18",
    "CTImageProcessor",
    "ConditionalUNet1DModel",
    "DiffusionCTPipeline",
    "DiffusionCTPipelineOutput",
    "DiffusionPipeline",
    "ModelMixin",
    "ReferenceUNet1DModel",
    "SchedulerMixin",
    "StandardizeCT",
    "StandardizeCTd",
    "TextureAutoencoder",
    "standardize_folder",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name], __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


register_with_diffusers()
