"""Adapter that lets a folder run use a system of the comparison as its pipeline; derived DICOM then names the system."""

from __future__ import annotations

import hashlib
import importlib
import json
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from pydicom.dataset import Dataset

from ...dicom import CTSlice, derive_slice
from ...image_processor import CTImageProcessor, HUSlice, hu_with_air_padding
from ...method.provenance import ID_DIGITS, Derivation, constants_of, model_id, pixel_constants, stamp_pixel_hashes
from ...method.sampled import require_plausible
from ...method.step import Step, Target
from ...utils.seeds import derive_seed
from ...utils.version import __version__
from .diffusionct import DiffusionCT
from .protocol import System


@dataclass(frozen=True)
class SystemDerivation(Derivation):
    """Description of how a system of the comparison made its images."""

    def derive(self, hu: np.ndarray, source: CTSlice, seed: int) -> Dataset:
        """Build the derived CT image from standardized HU (H, W) of a slice that were made with a noise seed."""
        derived = derive_slice(
            source, hu, target_name=self.target_name, model_id=self.model_id, options={"seed": seed},
            series_description_suffix=f" {self.system}", system=self.system,
        )  # fmt: skip
        stamp_pixel_hashes(derived, source)
        return derived


class SystemPipeline:
    """A system of the comparison with the interface of a pipeline that `standardize_folder` needs, see `Standardizer`.

    Args:
        name: Name of the system.
        system: The system, loaded.
        folder: Where it was loaded from; its files are hashed. None for a system without files.
        device: Where networks run.
    """

    config = SimpleNamespace(default_num_inference_steps=None)
    image_processor = CTImageProcessor()

    def __init__(self, name: str, system: System, folder: str | Path | None, device: torch.device):
        self.name, self.system, self.folder, self.device = name, system, folder, device
        if isinstance(system, torch.nn.Module):
            system.to(device)

    def check_inputs(
        self,
        num_inference_steps: int | None,
        generator: torch.Generator | list[torch.Generator] | None,
        batch_size: int | None,
        output_type: str,
        callback_on_step_end_tensor_inputs: Sequence[str],
        num_samples: int = 1,
    ) -> None:
        """Refuse options that a system cannot honour.

        Raises:
            ValueError: for denoising steps or several samples.
        """
        if num_inference_steps is not None or num_samples != 1:
            raise ValueError(
                "with `system`, `num_inference_steps` must be None and `num_samples` must be 1, got "
                f"{num_inference_steps} and {num_samples}."
            )

    def resolve_target(
        self, target: str | None = None, references: Sequence[HUSlice] = (), batch_size: int | None = None
    ) -> None:
        """Return None: the only target is the system's own.

        Raises:
            ValueError: if a target or references are given.
        """
        if references or target is not None:
            raise ValueError("`target` and `reference` have no effect with `system`; leave them out.")

    def require_no_target(self, target: str | None, noise: str | float, source: object) -> None:
        """Refuse options that have no effect.

        Raises:
            ValueError: naming the option.
        """
        if noise != "keep" or source is not None:
            raise ValueError("`noise` and `source` have no effect with `system`; leave them out.")

    def derivation(self, num_inference_steps: int, target: Target | None = None) -> SystemDerivation:
        """Return what derived images say of how they were made."""
        name = self.system.target_kernel or "reference"
        return SystemDerivation(system_id(self.name, self.folder, self.system), name, 0, "standard", system=self.name)

    def batches(self, slices: Sequence[HUSlice], batch_size: int | None) -> list[list[int]]:
        """Return one batch for each slice."""
        return [[number] for number in range(len(slices))]

    def noise_seeds(self, slices: Sequence[HUSlice], generator: torch.Generator) -> list[int]:
        """Return one seed for each slice, the same within a series."""
        return [derive_seed(generator.initial_seed(), item.series_uid) for item in slices]

    def encode_batch(self, slices: Sequence[HUSlice]) -> None:
        """Do nothing: there is only one sample."""

    def standardize_batch(
        self,
        slices: Sequence[HUSlice],
        seeds: Sequence[int],
        num_inference_steps: int | None = None,
        step: Step | None = None,
        *,
        encoded: Any = None,
    ) -> list[np.ndarray]:
        """Standardize slices to (H, W) float32 HU each. Unmeasured pixels are air to the system, and keep their value."""
        results = []
        for item, seed in zip(slices, seeds):
            measured = hu_with_air_padding(item)
            place = (item.position_mm, item.thickness_mm)
            hu = self.system.standardize_slice(measured, item.spacing_mm, *place, seed)
            results.append(np.where(item.padding, item.hu, hu))
        require_plausible(results, slices, self.name)
        return results


def system_id(name: str, folder: str | Path | None, system: System | None = None) -> str:
    """Return the name of a system and a hash of everything that its pixels depend on: its files, or the checkpoint of a
    system without files, the constants of the code, and the version.
    """
    package = importlib.import_module(__name__.rpartition(".")[0])
    found = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    modules = [importlib.import_module(module.name) for module in found]
    settings = {"version": __version__, "constants": pixel_constants() | constants_of(modules)}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    if folder is not None:
        for path in sorted(Path(folder).rglob("*")):
            is_weights = path.suffix in (".json", ".safetensors") and path.name != "metrics.json"
            if is_weights and "checkpoints" not in path.parts:
                digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    elif isinstance(system, DiffusionCT):
        digest.update(model_id(system.pipe.components).encode())
    return f"{name} {digest.hexdigest()[:ID_DIGITS]}"
