"""Record in derived images how they were made: their UIDs change whenever the method can change their pixels, and they
carry hashes of the source's pixels and of their own."""

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
    """Describe how a run makes its pixels; the derived UIDs depend on every attribute unless it says otherwise.

    Attributes:
        model_id: See `model_id`.
        target_name: Kernel whose texture the result has, or "reference".
        num_inference_steps: Number of denoising steps.
        reference: Hash of the reference's pixels, name of the target kernel, or "standard".
        precision: Data type of the networks' weights.
        source: Hash of the `ScanEstimate`; "" where none is used.
        noise: "keep", "target" or HU.
        label: Kernel that derived images name; "" for `target_name`. It follows from the results, and no UID depends on it.
        measured: What was measured on the results, in words; "" where nothing was.
        system: Name of the system of the comparison that made the images; "" for DiffusionCT.
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

    def of_source(self, source: ScanEstimate, noise: str | float, num_inference_steps: int) -> Derivation:
        """Return a copy for one scan, described by its estimate, a noise level and the denoising steps that it took."""
        level = noise if isinstance(noise, str) else f"{noise:g} HU"
        return replace(self, source=source.digest(), noise=level, num_inference_steps=num_inference_steps)

    def named(self, reached: Reached) -> Derivation:
        """Return a copy that names the kernel measured on the results."""
        return replace(self, label=reached.label, measured=reached.in_words())

    def digest(self) -> str:
        """Return a hash of everything that the pixels of a scan depend on, except the seed."""
        text = json.dumps([self.model_id, self.target_name, self.options(0)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:ID_DIGITS]

    def derive(self, hu: np.ndarray, source: CTSlice, seed: int) -> Dataset:
        """Return the derived CT image for standardized HU (H, W) of a slice that were made with a noise seed."""
        options = self.options(seed)
        derived = derive_slice(
            source, hu, target_name=self.target_name, model_id=self.model_id, options=options, label=self.label,
            measured=self.measured,
        )  # fmt: skip
        stamp_pixel_hashes(derived, source)
        return derived

    def options(self, seed: int) -> dict[str, Any]:
        """Return what changes the result besides the model, for a noise seed."""
        options: dict[str, Any] = {
            "num_inference_steps": self.num_inference_steps,
            "reference": self.reference,
            "seed": seed,
        }
        if self.source:
            options |= {"source": self.source, "noise": self.noise}
        if self.precision != FULL_PRECISION:  # named only then, so that images in full precision keep their UIDs
            options["precision"] = self.precision
        return options

    def derive_volume(
        self, slices_hu: Sequence[np.ndarray], slices: Sequence[HUSlice], seeds: Sequence[int]
    ) -> CTVolume:
        """Return the derived volume for standardized HU (H, W) of all slices of a volume, each with its noise seed."""
        derived = volume_of(slices).derived(slices_hu)
        return replace(derived, description=self.describe_volume(derived, slices, seeds))

    def describe_volume(self, derived: CTVolume, slices: Sequence[HUSlice], seeds: Sequence[int]) -> str:
        """Return the description of a derived volume in the 80 characters that NIfTI has: target and model, or system, and a hash.

        The hash covers its HU, those of its source and everything that they were made with, so that a volume that was
        changed later is not mistaken for one that a run would write.
        """
        places = [[item.position_mm, item.thickness_mm, item.spacing_mm] for item in slices]
        made_with = [self.model_id, self.target_name, [self.options(seed) for seed in seeds], places]
        digest = hashlib.sha256(json.dumps(made_with, sort_keys=True).encode())
        digest.update(f"{volume_of(slices).uid} {derived.uid}".encode())
        run = f"run {digest.hexdigest()[:ID_DIGITS]}"
        if self.system:
            return f"{MADE_BY}'s {self.system}; {run}"
        kernel, model = synthetic_kernel_name(self.label or self.target_name), self.model_id.split()[-1]
        return f"{MADE_BY} {kernel}; model {model}; {run}"


def volume_of(slices: Sequence[HUSlice]) -> CTVolume:
    """Return the volume that slices belong to; slices of another kind have none."""
    volume = slices[0].volume
    assert volume is not None, "slices of a volume"
    return volume


def stamp_pixel_hashes(derived: Dataset, source: CTSlice) -> None:
    """Write hashes of the source's pixels and of its own into a derived image, replacing earlier ones.

    They distinguish a file of an earlier run from a damaged one, and from one whose source has changed since but kept its
    UID.
    """
    ours = derived.ContributingEquipmentSequence[-1]
    made_from = pixels_id([source.hu], [source.spacing_mm])
    result = hashlib.sha256(derived.PixelData).hexdigest()[:ID_DIGITS]
    text = ours.ContributionDescription.partition(SEAL)[0]
    ours.ContributionDescription = f"{text}{SEAL}source {made_from}, result {result}"


def model_id(components: Mapping[str, Any]) -> str:
    """Return "DiffusionCT" and a hash of everything that pixels depend on except the input, the same on every machine.

    Args:
        components: Name -> model, scheduler or None, as in `DiffusionPipeline.components`. Their classes, registered
            configs and weights are hashed, with the constants of the code (`pixel_constants`) and the package version.
    """
    settings: dict[str, Any] = {name: describe(component) for name, component in components.items()}
    settings |= {"version": __version__, "constants": pixel_constants()}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name, component in sorted(components.items()):
        if isinstance(component, torch.nn.Module):
            for key, weight in sorted(component.state_dict().items()):
                digest.update(f"{name}.{key}".encode())
                digest.update(weight.float().cpu().numpy().tobytes())
    return f"DiffusionCT {digest.hexdigest()[:ID_DIGITS]}"


def describe(component: Any) -> dict[str, Any] | None:
    """Return the class and registered config of a component, without the versions and paths that diffusers adds."""
    if component is None:
        return None
    config = {key: plain(value) for key, value in component.config.items() if not key.startswith("_")}
    return {"class": type(component).__name__, "config": config}


def pixel_constants() -> dict[str, list[Any]]:
    """Return the constants of the modules that pixels pass through, see `constants_of`."""
    modules = [hounsfield, image_processor, kernel_estimate, padding, scan_noise, step]
    for found in pkgutil.walk_packages(models.__path__, f"{models.__name__}."):
        modules.append(importlib.import_module(found.name))
    return constants_of(modules)


def constants_of(modules: Iterable[ModuleType]) -> dict[str, list[Any]]:
    """Return NAME -> sorted values of the numeric constants of that name in modules, whichever module they are in."""
    found: dict[str, set[str]] = {}
    for module in modules:
        for name, value in vars(module).items():
            if name.isupper() and is_numeric(value):
                found.setdefault(name, set()).add(json.dumps(value))
    return {name: [json.loads(value) for value in sorted(values)] for name, values in sorted(found.items())}


def is_numeric(value: Any) -> bool:
    """Return whether a value is a number or a tuple of numbers."""
    if isinstance(value, tuple):
        return all(is_numeric(item) for item in value)
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def plain(value: Any) -> Any:
    """Return a value as it comes back from JSON: tuples become lists, types that JSON lacks become text."""
    return json.loads(json.dumps(value, default=str))


def pixels_id(images: Sequence[np.ndarray], spacings_mm: Sequence[float]) -> str:
    """Return a hash of HU arrays (H, W) and their pixel spacings."""
    digest = hashlib.sha256()
    for hu, spacing_mm in zip(images, spacings_mm, strict=True):
        digest.update(hu.tobytes() + str(spacing_mm).encode())
    return digest.hexdigest()[:ID_DIGITS]
