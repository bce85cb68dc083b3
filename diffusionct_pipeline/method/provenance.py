"""What derived images say of how they were made: their UIDs change whenever the method can change their pixels, and the
hash of the source's pixels stands beside that of their own."""

from __future__ import annotations

import hashlib
import importlib
import json
import pkgutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np
import torch
from pydicom.dataset import Dataset

from .. import image_processor, models
from ..dicom import CTSlice, derive_slice, hounsfield
from ..dicom.deriving import synthetic_kernel_name
from ..estimation import kernel_estimate
from ..estimation.scan_estimate import ID_DIGITS, ScanEstimate
from ..image_processor import HUSlice
from ..physics import scan_noise
from ..utils import padding
from ..utils.version import __version__
from ..volumes import CTVolume
from ..volumes.files import MADE_BY
from . import step
from .reached import Reached

SEAL = "; SHA-256 of pixels: "
FULL_PRECISION = "float32"


@dataclass(frozen=True)
class Derivation:
    """How a run makes its pixels; the derived UIDs depend on every attribute.

    Attributes:
        model_id: See `model_id`.
        target_name: Kernel whose texture the result has, or "reference".
        num_inference_steps: Denoising steps.
        reference: Hash of the reference's pixels, name of the target kernel, or "standard".
        precision: Type of the networks' weights.
        source: Hash of what was known of the scan, see `ScanEstimate`; "" where nothing needs to be.
        noise: "keep", "target" or HU.
        label: Kernel that derived images name; "" for `target_name`. It follows from the results, and no UID depends on it.
        measured: What results were measured to show, in words; "" where nothing was.
        system: Name of the system of the comparison that made them; "" for DiffusionCT.
    """

    model_id: str
    target_name: str
    num_inference_steps: int
    reference: str
    precision: str = FULL_PRECISION
    source: str = ""
    noise: str = "keep"
    label: str = ""
    measured: str = ""
    system: str = ""

    def of_source(self, source: ScanEstimate, noise: str | float) -> Derivation:
        """The same for one scan, as it was estimated, to a noise level."""
        return replace(self, source=source.digest(), noise=noise if isinstance(noise, str) else f"{noise:g} HU")

    def named(self, reached: Reached) -> Derivation:
        """The same with the kernel that results were measured to have."""
        return replace(self, label=reached.label, measured=reached.in_words())

    def digest(self) -> str:
        """Hash of all that the pixels of a scan depend on, but the seed."""
        text = json.dumps([self.model_id, self.target_name, self.options(0)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:ID_DIGITS]

    def derive(self, hu: np.ndarray, source: CTSlice, seed: int) -> Dataset:
        """Standardized HU (H, W) of a slice, made with a noise seed -> derived CT image."""
        options = self.options(seed)
        derived = derive_slice(
            source, hu, target_name=self.target_name, model_id=self.model_id, options=options, label=self.label,
            measured=self.measured,
        )  # fmt: skip
        seal(derived, source)
        return derived

    def options(self, seed: int) -> dict[str, Any]:
        """What changes the result besides the model, with a noise seed."""
        options = {"num_inference_steps": self.num_inference_steps, "reference": self.reference, "seed": seed}
        if self.source:
            options |= {"source": self.source, "noise": self.noise}
        if self.precision != FULL_PRECISION:  # named only then: images of a full one keep the UIDs that they always had
            options["precision"] = self.precision
        return options

    def derive_volume(
        self, slices_hu: Sequence[np.ndarray], slices: Sequence[HUSlice], seeds: Sequence[int]
    ) -> CTVolume:
        """Standardized HU (H, W) of all slices of a volume, each with its noise seed -> derived volume."""
        derived = slices[0].volume.derived(slices_hu)
        return replace(derived, description=self.describe_volume(derived, slices, seeds))

    def describe_volume(self, derived: CTVolume, slices: Sequence[HUSlice], seeds: Sequence[int]) -> str:
        """What a derived volume says of itself in the 80 characters that NIfTI has: target and model, or system, and a hash.

        The hash is of its HU, those of its source and all that they were made with, so that a volume that was changed
        since does not pass for what a run would write.
        """
        places = [[item.position_mm, item.thickness_mm, item.spacing_mm] for item in slices]
        made_with = [self.model_id, self.target_name, [self.options(seed) for seed in seeds], places]
        digest = hashlib.sha256(json.dumps(made_with, sort_keys=True).encode())
        digest.update(f"{slices[0].volume.uid} {derived.uid}".encode())
        run = f"run {digest.hexdigest()[:ID_DIGITS]}"
        if self.system:
            return f"{MADE_BY}'s {self.system}; {run}"
        kernel, model = synthetic_kernel_name(self.label or self.target_name), self.model_id.split()[-1]
        return f"{MADE_BY} {kernel}; model {model}; {run}"


def seal(derived: Dataset, source: CTSlice) -> None:
    """Write hashes of the source's pixels and of its own into a derived image, in place of earlier ones.

    A file that an earlier run wrote can so be told from a damaged one, and from one of a source that has changed since
    and kept its UID.
    """
    ours = derived.ContributingEquipmentSequence[-1]
    made_from = pixels_id([source.hu], [source.spacing_mm])
    result = hashlib.sha256(derived.PixelData).hexdigest()[:ID_DIGITS]
    text = ours.ContributionDescription.partition(SEAL)[0]
    ours.ContributionDescription = f"{text}{SEAL}source {made_from}, result {result}"


def model_id(components: Mapping[str, Any]) -> str:
    """ "DiffusionCT" and a hash of all that pixels depend on but the input, the same on every machine.

    Args:
        components: Name -> model, scheduler or None, as `DiffusionPipeline.components`. Their classes, registered
            configs and weights are hashed, with the constants of the code (`pixel_constants`) and the package version.
    """
    settings = {name: describe(component) for name, component in components.items()}
    settings |= {"version": __version__, "constants": pixel_constants()}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name, component in sorted(components.items()):
        if isinstance(component, torch.nn.Module):
            for key, weight in sorted(component.state_dict().items()):
                digest.update(f"{name}.{key}".encode())
                digest.update(weight.float().cpu().numpy().tobytes())
    return f"DiffusionCT {digest.hexdigest()[:ID_DIGITS]}"


def describe(component: Any) -> dict[str, Any] | None:
    """Class and registered config of a component, without what diffusers notes about versions and places."""
    if component is None:
        return None
    config = {key: plain(value) for key, value in component.config.items() if not key.startswith("_")}
    return {"class": type(component).__name__, "config": config}


def pixel_constants() -> dict[str, list[Any]]:
    """Constants of the modules that pixels pass through, see `constants_of`."""
    modules = [hounsfield, image_processor, kernel_estimate, padding, scan_noise, step]
    for found in pkgutil.walk_packages(models.__path__, f"{models.__name__}."):
        modules.append(importlib.import_module(found.name))
    return constants_of(modules)


def constants_of(modules: Iterable[ModuleType]) -> dict[str, list[Any]]:
    """NAME -> values, in order, that numeric constants of that name have in modules: which module does not count."""
    found: dict[str, set[str]] = {}
    for module in modules:
        for name, value in vars(module).items():
            if name.isupper() and is_numeric(value):
                found.setdefault(name, set()).add(json.dumps(value))
    return {name: [json.loads(value) for value in sorted(values)] for name, values in sorted(found.items())}


def is_numeric(value: Any) -> bool:
    """Whether a value is a number or a tuple of numbers."""
    if isinstance(value, tuple):
        return all(is_numeric(item) for item in value)
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def plain(value: Any) -> Any:
    """A value as JSON gives it back: tuples become lists, whatever JSON does not know text."""
    return json.loads(json.dumps(value, default=str))


def pixels_id(images: Sequence[np.ndarray], spacings_mm: Sequence[float]) -> str:
    """Hash of HU arrays (H, W) and their pixel spacings."""
    digest = hashlib.sha256()
    for hu, spacing_mm in zip(images, spacings_mm, strict=True):
        digest.update(hu.tobytes() + str(spacing_mm).encode())
    return digest.hexdigest()[:ID_DIGITS]
