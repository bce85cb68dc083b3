"""Measure how far a series lies from what a checkpoint was trained on, by its header and the latents of some slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
import torch
from pydicom.dataset import Dataset
from scipy.ndimage import binary_fill_holes, minimum_filter

from ..dicom.protocol import has_contrast_agent, is_elsewhere, iterative_level, lossy_compression
from ..image_processor import to_hu
from ..models import ReferenceUNet1DModel, TextureAutoencoder
from ..models.texture.channels import patient_mean
from ..pipeline import DiffusionCTPipeline

FROM_LP_CM = 1.5  # slower power is anatomy
FAR = 1.75  # standard deviations; plain series under kernels from B19f to FC51 reach 1.2
THICKEST_MM = 6.0  # training had 1 to 5 mm
PIXELS_MM = (0.4, 1.1)  # training had 0.5 to 0.9 mm
FEWEST_SLICES = 10  # to say that a series shows no lung
LUNG_HU = (-950.0, -600.0)  # local means (45 mm) of a lung
ENCLOSED_HU = -700.0  # local means below it that others enclose are a lung, whatever it is filled with


@dataclass(frozen=True, eq=False)
class SliceLatent:
    """Hold the part of a slice's latent that these measures need.

    Attributes:
        mean: (rings,) mean log power over the patient, in units of the training data.
        shows_lung: Whether a lung is in view.
    """

    mean: np.ndarray
    shows_lung: bool


@dataclass(frozen=True)
class Likeness:
    """Describe how a series differs from the training data.

    Attributes:
        deviations: Largest distance of its mean log power from that of training over frequency, signed, in standard
            deviations of training places.
        at_lp_cm: Where that is.
        shows_lung: Whether any slice shows a lung.
    """

    deviations: float
    at_lp_cm: float
    shows_lung: bool


def has_texture_latent(pipe: object) -> TypeGuard[DiffusionCTPipeline]:
    """Tell whether the latents of a pipeline are noise power, as `SliceLatent` needs it."""
    return (
        isinstance(pipe, DiffusionCTPipeline)
        and isinstance(pipe.autoencoder, TextureAutoencoder)
        and isinstance(pipe.denoiser, ReferenceUNet1DModel)
    )


@torch.no_grad()
def slice_latents(pipe: DiffusionCTPipeline, latent: torch.Tensor, row_length: int) -> list[SliceLatent]:
    """Condense the latents of a batch.

    Args:
        pipe: The checkpoint, with `has_texture_latent`.
        latent: (B, C, L), normalized, as `encode_batch` gives it.
        row_length: Positions in a row of the slice.
    """
    channels = pipe.autoencoder.channels
    means = patient_mean(latent)[:, channels.power].float().cpu().numpy()
    local_hu = to_hu(pipe.autoencoder.denormalize(latent)[:, channels.mean])[:, 0].float().cpu().numpy()
    # Copied: a view would keep the tensor's memory, and a thousand such splinter the heap by 60 MB.
    return [SliceLatent(mean.copy(), _shows_lung(hu.reshape(-1, row_length))) for mean, hu in zip(means, local_hu)]


def seen_rings(pipe: DiffusionCTPipeline, spacing_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the frequencies of the rings in lp/cm, (rings,), and which of them are noise and within reach of the pixels.

    Pixels so coarse that none is within reach leave the first one from `FROM_LP_CM` on, to which such latents repeat what
    lies below.
    """
    config: Any = pipe.autoencoder.config
    lp_cm = np.linspace(0, config.max_lp_cm, config.rings)
    first = lp_cm[lp_cm >= FROM_LP_CM][0]
    return lp_cm, (lp_cm >= first) & (lp_cm <= max(first, 5 / spacing_mm))


def likeness(pipe: DiffusionCTPipeline, latents: Sequence[SliceLatent], spacing_mm: float) -> Likeness:
    """Compare a series with the training data by the latents of at least one of its slices, all of one pixel spacing."""
    lp_cm, seen = seen_rings(pipe, spacing_mm)
    mean = np.median([latent.mean for latent in latents], axis=0)[seen]
    farthest = int(np.abs(mean).argmax())
    return Likeness(
        deviations=float(mean[farthest]),
        at_lp_cm=float(lp_cm[seen][farthest]),
        shows_lung=any(latent.shows_lung for latent in latents),
    )


def header_remarks(header: Dataset, thickness_mm: float | None, spacing_mm: float) -> list[str]:
    """Return, a sentence each, what the header of a slice says that no training scan had."""
    remarks = []
    if compression := lossy_compression(header):
        remarks.append(f"compressed with loss ({compression}): its noise is not that of the scan")
    if level := iterative_level(header):
        remarks.append(f"iterative reconstruction ({level}): training knew it as edge-preserving filters only")
    if has_contrast_agent(header):
        remarks.append("contrast agent (ContrastBolusAgent): training knew it from phantoms only")
    if is_elsewhere(header):
        remarks.append("another part of the body than the chest (BodyPartExamined), which is all that training knew")
    if thickness_mm is not None and thickness_mm > THICKEST_MM:
        remarks.append(f"slices of {thickness_mm:g} mm: training had 1 to 5 mm")
    if not PIXELS_MM[0] <= spacing_mm <= PIXELS_MM[1]:
        remarks.append(f"pixels of {spacing_mm:.3g} mm: training had 0.5 to 0.9 mm")
    return remarks


def latent_remarks(where: Likeness, slices: int) -> list[str]:
    """Return, a sentence each, what the latents of `slices` slices show that no training scan had."""
    remarks = []
    if abs(where.deviations) > FAR:
        more = "more noise, or a sharper kernel," if where.deviations > 0 else "less noise (denoised?)"
        remarks.append(
            f"{more} than training had: {abs(where.deviations):.1f} standard deviations of noise power at "
            f"{where.at_lp_cm:.1f} lp/cm"
        )
    if not where.shows_lung and slices >= FEWEST_SLICES:
        remarks.append("no lung in any slice: training knew chests only")
    return remarks


def _shows_lung(local_hu: np.ndarray) -> bool:
    """Tell whether local means (h, w) in HU hold a lung: air that is enclosed, or a place among places that are all lung."""
    low = local_hu < ENCLOSED_HU
    enclosed = binary_fill_holes(~low) & low
    is_lung = (local_hu > LUNG_HU[0]) & (local_hu < LUNG_HU[1])
    return bool(enclosed.any() or minimum_filter(is_lung, 3, mode="constant", cval=False).any())
