"""Compare two pipelines: components, settings, weights, and their results for a slice."""

from __future__ import annotations

import numpy as np
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from scipy.ndimage import gaussian_filter

from ..method.provenance import describe
from ..pipeline import DiffusionCTPipeline

SPACING_MM = 0.7


def require_same(expected: DiffusionCTPipeline, found: DiffusionPipeline, name: str) -> None:
    """Refuse a pipeline that is not bit for bit the expected one.

    Args:
        expected: The expected pipeline.
        found: The pipeline as it was loaded.
        name: Name of `found` in messages.

    Raises:
        ValueError: naming the first difference.
    """
    if type(found) is not type(expected):
        raise ValueError(f"{name} must be a {type(expected).__name__}, got a {type(found).__name__}.")
    for setting in ("default_num_inference_steps", "standard_name"):
        require_equal(f"{setting} of {name}", getattr(expected.config, setting), getattr(found.config, setting))
    for component, model in expected.components.items():
        other = found.components[component]
        require_equal(f"{component} of {name}", describe(model), describe(other))
        if isinstance(model, torch.nn.Module):
            weights = other.state_dict()
            for key, weight in model.state_dict().items():
                if not torch.equal(weight, weights[key]):
                    raise ValueError(f"weight {key!r} of the {component} of {name} differs from the checkpoint's.")
    difference = np.abs(standardized_probe(expected) - standardized_probe(found)).max()
    if difference != 0:
        raise ValueError(f"{name} standardizes a slice differently from the checkpoint, by up to {difference:.3g} HU.")


def require_equal(name: str, expected: object, found: object) -> None:
    """Refuse a value that differs from the expected one.

    Raises:
        ValueError: naming both.
    """
    if found != expected:
        raise ValueError(f"{name} must be {expected!r}, got {found!r}.")


def standardized_probe(pipeline: DiffusionCTPipeline) -> np.ndarray:
    """Standardize the probe slice; return HU (64, 64)."""
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(probe_slice(), pixel_spacing=SPACING_MM).images[0]


def probe_slice() -> np.ndarray:
    """Return a disc of soft tissue in lung with the noise of a soft kernel: float32 HU (64, 64), always the same."""
    rows, columns = np.mgrid[:64, :64] - 31.5
    anatomy = np.where(np.hypot(rows, columns) < 16, 40.0, -850.0)
    noise = gaussian_filter(np.random.default_rng(0).normal(0, 200, anatomy.shape), 1)
    return (gaussian_filter(anatomy, 1) + noise).astype(np.float32)
