"""Adapt a checkpoint to a site: its target becomes the standard, and pairs correct what is sampled.

Nothing is trained. For each ring of the latent, pairs determine the mean change of power and how much weight the sampled
local change deserves. One pair is therefore enough, adaptation takes seconds, and the networks remain those that were tested.
Not in Selim et al. 2023.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ..image_processor import GRID, HUSlice, hu_with_air_padding
from ..method.step import Step
from ..metrics.agreement import REPRODUCIBLE, relative_error
from ..metrics.regions import TUMOUR_PIXELS, spread, tumour_sized_squares
from ..metrics.texture import TextureAgreement, texture_agreement
from ..models import ReferenceUNet1DModel
from ..models.texture.channels import patient_weight
from ..pipeline import DiffusionCTPipeline

FOLDS = 4  # of the cross-validation
MOST_REFERENCES = 16  # slices of the target whose texture is used
DOUBT = 30.0  # positions that the prior for the network's own local change counts as
SCATTER = 0.1  # normalized deviation of these
SEED = 0  # of the noise
CALIBRATION = ("shift", "residual", "weight")  # of the denoiser
RESAMPLES = 1000
SAME_SPACING = 1e-3  # relative; headers round spacings to 3 to 6 digits


@dataclass(frozen=True, eq=False)
class SlicePair:
    """One slice of a scan under both protocols of a site.

    Attributes:
        source, target: The slice, on the same pixels.
        rows: First and one past the last row that count; None is the end.

    Raises:
        ValueError: if their sizes or pixel spacings differ.
    """

    source: HUSlice
    target: HUSlice
    rows: tuple[int, int | None] = (0, None)

    def __post_init__(self) -> None:
        a, b = self.source, self.target
        if a.hu.shape != b.hu.shape or not math.isclose(a.spacing_mm, b.spacing_mm, rel_tol=SAME_SPACING):
            raise ValueError(
                "`source` and `target` must have the same pixels, got "
                f"{a.hu.shape} pixels of {a.spacing_mm:g} mm and {b.hu.shape} of {b.spacing_mm:g} mm."
            )


@dataclass(frozen=True, eq=False)
class Adaptation:
    """Result of an adaptation.

    Attributes:
        pipe: The adapted pipeline, corrected by all pairs.
        scores: "input", "before" and "adapted" -> agreement with the target over squares of the pairs, by cross-validation;
            "before" is the checkpoint with the target's texture as a reference. Empty without pairs.
        squares: Number of these squares in each slice, or in each half of a single pair.
        used, found: Pairs of slices (unpaired: slices of the target) that were used, and that the folders hold.
    """

    pipe: DiffusionCTPipeline
    scores: dict[str, TextureAgreement]
    squares: Sequence[int] = ()
    used: int = 0
    found: int = 0

    def worse_than(self) -> str:
        """Return "before" or "input" if the adapted pipeline is significantly worse (95 %, bootstrap), else ""."""
        for name in ("before", "input"):
            if self.scores and self._is_worse(name):
                return name
        return ""

    def _is_worse(self, name: str) -> bool:
        """Return whether significantly fewer figures of the same squares are within 15 %.

        Squares of one slice share its dose: whole slices are resampled where there are several, otherwise squares.
        """
        within = {
            row: (relative_error(self.scores[row].output, self.scores[row].target) < REPRODUCIBLE).mean(1)
            for row in ("adapted", name)
        }
        gain = within["adapted"] - within[name]  # [squares]
        if len(self.squares) > 2:
            ends = np.cumsum(self.squares)
            gain = np.array([part.mean() for part in np.split(gain, ends[:-1]) if len(part)])
        resampled = np.random.default_rng(0).choice(gain, (RESAMPLES, len(gain))).mean(1)
        return bool(np.quantile(resampled, 0.95) < 0)


@torch.no_grad()
def adapt(
    pipe: DiffusionCTPipeline, pairs: Sequence[SlicePair], targets: Sequence[HUSlice] = (), standard_name: str = ""
) -> Adaptation:
    """Make a site's target the standard of a checkpoint.

    Pairs score the adaptation by cross-validation in four folds, or two halves of a single pair; then all pairs are used.
    Without pairs, the target's texture becomes the standard, and nothing is corrected or scored.

    Args:
        pipe: A checkpoint that sees references; it is not changed.
        pairs: Slices under both protocols.
        targets: Further slices of the target's protocol, of any scan.
        standard_name: Kernel of the target, for derived images; "" takes it from the slices' headers.

    Raises:
        ValueError: if there is no target, or the checkpoint's target is fixed.
    """
    if not pipe.sees_reference:
        raise ValueError(
            "`pipe` must see references; a checkpoint with a fixed target, as in the paper, cannot be adapted."
        )
    seen = [*(pair.target for pair in pairs), *targets]
    if not seen:
        raise ValueError("`pairs` and `targets` must hold at least one slice of the target's protocol, got none.")
    name = standard_name or next((item.kernel for item in seen if item.kernel), "") or "reference"
    scores, squares = _cross_validated(pipe, pairs, targets, name) if pairs else ({}, [])
    return Adaptation(adapted_pipeline(pipe, pairs, targets, name), scores, squares)


def adapted_pipeline(
    pipe: DiffusionCTPipeline,
    pairs: Sequence[SlicePair],
    targets: Sequence[HUSlice] = (),
    standard_name: str = "reference",
) -> DiffusionCTPipeline:
    """Return the pipeline of `adapt` without scoring it; the arguments are the same."""
    seen = [*(pair.target for pair in pairs), *targets]
    adapted = _with_standard(pipe, seen, standard_name)
    return _calibrated(adapted, pairs) if pairs else adapted


def _folds(pairs: Sequence[SlicePair]) -> list[tuple[list[SlicePair], list[SlicePair]]]:
    """Split pairs into those of a trial adaptation and those that score it, for each fold."""
    if len(pairs) == 1:
        (pair,), half = pairs, len(pairs[0].source.hu) // 2
        upper, lower = replace(pair, rows=(0, half)), replace(pair, rows=(half, None))
        return [([upper], [lower]), ([lower], [upper])]
    folds = min(FOLDS, len(pairs))
    held_out = [pairs[k::folds] for k in range(folds)]
    return [([pair for pair in pairs if pair not in out], list(out)) for out in held_out]


def _with_standard(pipe: DiffusionCTPipeline, targets: Sequence[HUSlice], name: str) -> DiffusionCTPipeline:
    """Make the texture and the kernel of some slices the standard of the same networks, without calibration."""
    found = pipe.estimate(spread(targets, MOST_REFERENCES))
    tokens = pipe.autoencoder.normalize(found.tokens.float().T[None])[0].T
    law = None if found.kernel is None else list(found.kernel.law)
    changed = {"standard_tokens": len(tokens), **{f"calibrated_{part}": () for part in CALIBRATION}}
    return _with_denoiser(pipe, changed, pipe.denoiser.state_dict() | {"standard": tokens}, name, law)


def _with_calibration(pipe: DiffusionCTPipeline, *calibration: torch.Tensor) -> DiffusionCTPipeline:
    """Calibrate a pipeline by the (rings,) values of `CALIBRATION`."""
    settings = {f"calibrated_{part}": values.tolist() for part, values in zip(CALIBRATION, calibration)}
    name, mtf = pipe.config["standard_name"], pipe.config["standard_mtf"]
    return _with_denoiser(pipe, settings, pipe.denoiser.state_dict(), name, mtf)


def _with_denoiser(
    pipe: DiffusionCTPipeline,
    changed: dict[str, Any],
    weights: dict[str, torch.Tensor],
    name: str,
    standard_mtf: list[float] | None,
) -> DiffusionCTPipeline:
    """Return the pipeline with other settings and weights of the denoiser."""
    config = {key: value for key, value in pipe.denoiser.config.items() if not key.startswith("_")}
    denoiser = ReferenceUNet1DModel(**config | changed)
    denoiser.load_state_dict(weights)
    made = DiffusionCTPipeline(
        pipe.autoencoder, denoiser.to(pipe.denoiser.device).eval(), pipe.components["scheduler"],
        pipe.config["default_num_inference_steps"], name, standard_mtf,
    )  # fmt: skip
    made.set_progress_bar_config(disable=True)
    return made


def _calibrated(pipe: DiffusionCTPipeline, pairs: Sequence[SlicePair]) -> DiffusionCTPipeline:
    """Calibrate a pipeline by pairs: by the mean change of power, and by the weight of the sampled local change.

    The weight is the slope of the true on the sampled change within slices, which excludes differences in anatomy.
    """
    power, counted = pipe.denoiser.channels.power, []
    for pair in pairs:
        encoded = pipe.encode_batch([pair.source])
        true = (pipe.encode_batch([pair.target]).latent_a - encoded.latent_a)[0, power].cpu()  # [rings,L]
        grid = torch.zeros(encoded.shape[-2] // GRID, encoded.shape[-1] // GRID)
        grid[_positions(pair.rows)] = 1
        counted.append((true, patient_weight(encoded.latent_a)[0].cpu() * grid.flatten()))  # weight [1,L]
    weights = sum((weight.sum() for _, weight in counted), start=torch.zeros(())).clamp(min=1e-3)
    shift = sum((true * weight).sum(1) for true, weight in counted) / weights  # [rings]
    first = _with_calibration(pipe, shift, torch.zeros_like(shift), torch.ones_like(shift))
    mean = matched = squared = torch.zeros_like(shift)
    for pair, (true, weight) in zip(pairs, counted):
        sampled = _sampled_residual(first, pair.source)[power].cpu()
        mean_y, mean_x = (_weighted_mean(each, weight) for each in (true, sampled))
        mean = mean + (sampled * weight).sum(1) / weights
        matched = matched + (weight * (sampled - mean_x) * (true - mean_y)).sum(1)
        squared = squared + (weight * (sampled - mean_x) ** 2).sum(1)
    doubted = DOUBT * SCATTER**2
    return _with_calibration(pipe, shift, mean, ((matched + doubted) / (squared + doubted)).clamp(0, 1))


def _weighted_mean(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Average (rings, L) by weights (1, L); return (rings, 1)."""
    return (values * weight).sum(1, keepdim=True) / weight.sum().clamp(min=1e-3)


def _sampled_residual(pipe: DiffusionCTPipeline, item: HUSlice) -> torch.Tensor:
    """Sample the residual of a slice, (C, L), normalized, its mean included."""
    last: dict[str, torch.Tensor] = {}

    def on_step_end(step: int, timestep: torch.Tensor, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        last.update(tensors)
        return {}

    pipe.sample_batch([item], [SEED], pipe.config["default_num_inference_steps"], _step(pipe, item), on_step_end)
    return last["latents"][0] * pipe.denoiser.deviation[:, None]


def _standardized(pipe: DiffusionCTPipeline, item: HUSlice) -> np.ndarray:
    """Standardize one slice to the pipeline's standard and its noise level; (H, W) HU."""
    steps = pipe.config["default_num_inference_steps"]
    return pipe.standardize_batch([item], [SEED], steps, _step(pipe, item))[0]


def _step(pipe: DiffusionCTPipeline, item: HUSlice) -> Step:
    """Return the step of one slice to the pipeline's standard and its noise level."""
    target = pipe.resolve_target()
    assert target is not None  # the checkpoint sees references
    return pipe.step(pipe.estimate([item]), target, "target")


def _positions(rows: tuple[int, int | None]) -> slice:
    """Convert rows of pixels to rows of positions of the latent."""
    first, end = rows
    return slice(first // GRID, None if end is None else end // GRID)


def _cross_validated(
    pipe: DiffusionCTPipeline, pairs: Sequence[SlicePair], targets: Sequence[HUSlice], name: str
) -> tuple[dict[str, TextureAgreement], list[int]]:
    """Score by cross-validation: agreement over squares of all pairs, and the number of squares of each."""
    images: dict[str, list] = {"input": [], "before": [], "adapted": []}
    for kept, judged in _folds(pairs):
        before = _with_standard(pipe, [pair.target for pair in kept] + list(targets), name)
        trial = _calibrated(before, kept)
        for pair in judged:
            target, avoided = hu_with_air_padding(pair.target), np.ones(pair.target.hu.shape, bool)
            avoided[slice(*pair.rows)] = False
            masks = tumour_sized_squares(target, avoid=avoided | pair.source.padding)
            made = {row: _standardized(by, pair.source) for row, by in (("before", before), ("adapted", trial))}
            for row, output in ({"input": pair.source.hu} | made).items():
                images[row].append((output.round().clip(target.min()), target, masks))
    squares = [len(masks) for _, _, masks in images["input"]]
    if not any(squares):
        raise ValueError(
            f"`pairs` must show at least one square of {TUMOUR_PIXELS} pixels within the patient, got none."
        )
    return {row: texture_agreement(of_row) for row, of_row in images.items()}, squares
