"""Every system of the comparison by name; `System` in protocol.py defines what each can do.

To add one: write a file here, a line below and a test.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from ...utils.devices import usable_device
from ...utils.usage import UsageError
from .as_pipeline import SystemPipeline
from .band_energies import BandEnergies
from .conditional_gaussian import ConditionalGaussian
from .cvh_ct import CVHCT
from .cyclegan import CycleGAN
from .ddpm import DDPM
from .diffusionct import DiffusionCT
from .encoder_decoder import EncoderDecoder
from .ganai import GANai
from .histogram_matching import HistogramMatching
from .linear_filter import LinearFilter
from .pix2pix import Pix2Pix
from .protocol import FittingPair, System
from .radiomicgan import RadiomicGAN
from .stan_ct import STANCT
from .trained import TrainedSystem
from .transfer_ratio import TransferRatio
from .uda_ct import UDACT
from .unchanged import Unchanged
from .unet_l1 import UNetL1

# These work as they are, or after `fit` with a few pairs.
SYSTEMS: dict[str, Callable[[], System]] = {
    "input": Unchanged,
    "histogram matching": HistogramMatching,
    "linear filter, least squares": partial(LinearFilter, "least_squares"),
    "linear filter, power": partial(LinearFilter, "power"),
    "band energies": BandEnergies,
    "transfer ratio": TransferRatio,
    "conditional Gaussian": ConditionalGaussian,
    "DiffusionCT": DiffusionCT,
    "DiffusionCT, reference": partial(DiffusionCT, by_reference=True),
    "DiffusionCT, adapted": partial(DiffusionCT, by_pairs=True),
    "DiffusionCT, pooled style": partial(DiffusionCT, without="diffusion"),
    "DiffusionCT, filter alone": partial(DiffusionCT, without="synthesis"),
}
# Networks that training/train_system.py trains; before that, their weights are random.
TRAINABLE: dict[str, type[TrainedSystem]] = {
    "U-Net, L1": UNetL1,
    "pix2pix": Pix2Pix,
    "CycleGAN": CycleGAN,
    "GANai": GANai,
    "STAN-CT": STANCT,
    "RadiomicGAN": RadiomicGAN,
    "CVH-CT": CVHCT,
    "UDA-CT": UDACT,
    "DDPM": DDPM,
}


def _class_of(make: Callable[[], System]) -> type[System]:
    made = make.func if isinstance(make, partial) else make
    assert isinstance(made, type)
    return made


# These, and what is loaded from folders that other scripts wrote.
ALL_SYSTEMS: dict[str, type[System]] = {
    **{name: _class_of(make) for name, make in SYSTEMS.items()},
    **TRAINABLE,
    "encoder-decoder": EncoderDecoder,
    "DiffusionCT (literal)": DiffusionCT,
}
WITHOUT_FILES = ("input", "DiffusionCT")


def load_system(name: str, folder: str | Path | None = None) -> System:
    """Load a system.

    Args:
        name: A name in `ALL_SYSTEMS`.
        folder: What its `save_pretrained` wrote; None for a system without files.

    Raises:
        ValueError: for an unknown name, or if the folder is missing or cannot be loaded.
    """
    if name not in ALL_SYSTEMS:
        raise UsageError(f"`system` must be one of {', '.join(map(repr, ALL_SYSTEMS))}, got {name!r}.")
    if folder is None and name in WITHOUT_FILES:
        return SYSTEMS[name]()
    if folder is None:
        raise UsageError(f"`model` is missing; {name} needs {_source_of(name)}.")
    if not Path(folder).is_dir():
        raise UsageError(f'`model` must be {_source_of(name)} for {name}, got "{folder}".')
    try:
        return ALL_SYSTEMS[name].from_pretrained(folder)
    except Exception as error:  # what a damaged or foreign folder raises depends on the damage
        raise ValueError(f'"{folder}" cannot be loaded as {name}: {error}') from error


def load_as_pipeline(name: str, folder: str | Path | None = None, device: str | None = None) -> SystemPipeline:
    """Load a system in the form that `standardize_folder` takes as its `pipe`.

    Args:
        name, folder: As in `load_system`.
        device: "cpu", "cuda", "cuda:1", ...; None takes the first GPU, or the CPU where there is none.

    Raises:
        ValueError: as `load_system`, or for an unusable device.
    """
    return SystemPipeline(name, load_system(name, folder), folder, usable_device(device))


def _source_of(name: str) -> str:
    """Describe what `model` must be for a system that needs it."""
    if name in SYSTEMS:
        return (
            "a folder that `save_pretrained` wrote after `fit`, or that training/train_system.py wrote after fitting to "
            "simulated pairs"
        )
    script = "train_system.py" if name in TRAINABLE else "train_literal_autoencoder.py or train_literal_latent.py"
    return f"the folder that training/{script} wrote"


__all__ = [
    "ALL_SYSTEMS",
    "SYSTEMS",
    "TRAINABLE",
    "BandEnergies",
    "ConditionalGaussian",
    "DiffusionCT",
    "EncoderDecoder",
    "FittingPair",
    "HistogramMatching",
    "LinearFilter",
    "System",
    "SystemPipeline",
    "TransferRatio",
    "Unchanged",
    "load_as_pipeline",
    "load_system",
]
