"""Adapt a checkpoint to a site: its target becomes the standard, and pairs correct what is sampled.

Nothing is trained. Pairs tell, for each ring of the latent, by how much power changes on average, and how far the sampled
change is to be believed place by place. So one pair is enough, it takes seconds, and the networks stay those that were tested.
Not in Selim et al. 2023.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from .evaluation.agreement import REPRODUCIBLE, relative_error
from .evaluation.regions import TUMOUR_PIXELS, spread, tumour_sized_squares
from .evaluation.texture import TextureAgreement, texture_agreement
from .image_processor import GRID, HUSlice, measured_hu
from .models import ReferenceUNet1DModel
from .models.texture.channels import patient_weight
from .pipeline import DiffusionCTPipeline

FOLDS = 4  # of the cross-validation
MOST_REFERENCES = 16  # slices of the target whose texture is taken
DOUBT = 30.0  # positions whose worth of belief the network has as it is, place by place
SCATTER = 0.1  # normalized, of these
SEED = 0  # of the noise
# Where the edge of the skin tells a change of power. Slower, anatomy outweighs noise; faster, a soft kernel leaves no edge.
# On three real series whose kernels are recognized it differs from the checkpoint's curve by .1 at most, on four others by
# .8 and more.
EDGE_LP_CM = (4.0, 5.3)
RESAMPLES = 1000
SAME_SPACING = 1e-3  # relative; headers round spacings to 3 to 6 digits


@dataclass(frozen=True, eq=False)
class SlicePair:
    """One slice of a scan under both protocols of a site.

    Attributes:
        source, target: The slice, pixel on pixel.
        rows: First and one past the last that count; None is the end.

    Raises:
        ValueError: if they cannot lie on each other.
    """

    source: HUSlice
    target: HUSlice
    rows: tuple[int, int | None] = (0, None)

    def __post_init__(self) -> None:
        a, b = self.source, self.target
        if a.hu.shape != b.hu.shape or not math.isclose(a.spacing_mm, b.spacing_mm, rel_tol=SAME_SPACING):
            raise ValueError(
                f"`source` has {a.hu.shape} pixels of {a.spacing_mm:g} mm and `target` {b.hu.shape} of {b.spacing_mm:g} mm; "
                "legal are slices that lie on each other."
            )


@dataclass(frozen=True, eq=False)
class Adaptation:
    """What came of it.

    Attributes:
        pipe: The adapted pipeline, corrected by all pairs.
        scores: "input", "before" and "adapted" -> agreement with the target over squares of the pairs, each pair adapted to
            by others; "before" is the checkpoint given the target's texture as a reference. Empty without pairs.
        squares: How many of these squares are of each slice; of a single pair, of each half.
        used, found: Pairs of slices (unpaired: slices of the target) that it was made from, and that the folders hold.
    """

    pipe: DiffusionCTPipeline
    scores: dict[str, TextureAgreement]
    squares: Sequence[int] = ()
    used: int = 0
    found: int = 0

    def worse_than(self) -> str:
        """"before" or "input", where the adapted pipeline is worse beyond chance (95 %, bootstrap); else ""."""
        for name in ("before", "input"):
            if self.scores and self._is_worse(name):
                return name
        return ""

    def _is_worse(self, name: str) -> bool:
        """Whether fewer figures of the same squares are within 15 %, beyond chance.

        Squares of one slice share its dose: whole slices are resampled where there are several, else squares.
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

    Pairs judge by cross-validation: each quarter of them what the others tell, of a single pair each half what the other
    tells; then all are used. Without pairs the target's texture becomes the standard, and nothing is corrected or judged.

    Args:
        pipe: A checkpoint that sees references; it is left as it is.
        pairs: Slices under both protocols.
        targets: Further slices of the target's protocol, of any scan.
        standard_name: Kernel of the target, for derived images; "" takes it from the slices' headers.

    Raises:
        ValueError: without any target, or if the checkpoint's target is fixed.
    """
    if not pipe.sees_reference:
        raise ValueError("`pipe` has a fixed target, as in the paper; it cannot be adapted.")
    seen = [*(pair.target for pair in pairs), *targets]
    if not seen:
        raise ValueError("`pairs` and `targets` are empty; legal is at least one slice of the target's protocol.")
    name = standard_name or next((item.kernel for item in seen if item.kernel), "") or "reference"
    scores, squares = _cross_validated(pipe, pairs, targets, name) if pairs else ({}, [])
    return Adaptation(adapted_pipeline(pipe, pairs, targets, name), scores, squares)


def adapted_pipeline(
    pipe: DiffusionCTPipeline, pairs: Sequence[SlicePair], targets: Sequence[HUSlice] = (), standard_name: str = "reference"
) -> DiffusionCTPipeline:
    """What `adapt` makes, without judging it; arguments as there."""
    seen = [*(pair.target for pair in pairs), *targets]
    adapted = _with_standard(pipe, _tokens(pipe, seen), standard_name)
    return _corrected(adapted, pairs) if pairs else adapted


def with_standard_noise(pipe: DiffusionCTPipeline) -> DiffusionCTPipeline:
    """The checkpoint with its own standard as a reference: slices take over its noise level with its kernel.

    To the standard alone a checkpoint keeps a slice's dose, which it tells from the noise. Where a scan's noise is unlike
    all of its training, it takes a soft kernel for a sharp one at high dose, and results stay soft. A reference cannot be
    mistaken.

    Raises:
        ValueError: if the checkpoint's target is fixed, or adapted.
    """
    if not pipe.sees_reference or pipe.denoiser.config.adapted:
        raise ValueError("`standard_noise` is given, but the target of this checkpoint is fixed or adapted; leave it out.")
    return _with_standard(pipe, pipe.denoiser.standard.detach(), pipe.config.standard_name)


@torch.no_grad()
def adapted_by_edges(pipe: DiffusionCTPipeline, slices: Sequence[HUSlice], log_mtf_ratio: np.ndarray) -> DiffusionCTPipeline:
    """The checkpoint for one protocol whose kernel it does not recognize: the edge of the skin tells it, and the dose is kept.

    The shape of the change of mean power is that to the standard's tokens, whose dose is taken out at `EDGE_LP_CM`: two kernels
    of one scan change power by twice the logarithm of the ratio of their MTFs.

    Args:
        pipe: A checkpoint that sees references and is not adapted; it is left as it is.
        slices: Some of a series.
        log_mtf_ratio: (rings,) natural logarithm of the standard's MTF over that of the series, at the latent's frequencies.

    Raises:
        ValueError: if the checkpoint's target is fixed, or adapted.
    """
    site = with_standard_noise(pipe)
    denoiser, power = site.denoiser, site.denoiser.channels.power
    moved = sampled = weights = 0.0
    for item in slices:
        latent_a, latent_s, _ = _sampled(site, item)
        weight = patient_weight(latent_a)  # [1,1,L]
        weights = weights + weight.sum()
        moved = moved + ((denoiser.origin(latent_a) - latent_a) * weight)[0, power].sum(1)
        sampled = sampled + ((latent_s - latent_a) * weight)[0, power].sum(1)
    moved, sampled = moved / weights, sampled / weights  # [rings]
    wanted = 2 * torch.as_tensor(log_mtf_ratio).to(moved) / pipe.autoencoder.latent_std[power].flatten()
    lp_cm = torch.linspace(0, denoiser.config.max_lp_cm, len(moved))
    told = (lp_cm >= EDGE_LP_CM[0]) & (lp_cm <= EDGE_LP_CM[1])
    true = moved + (wanted - moved)[told].mean() * denoiser.noise_dominated.flatten()
    return _with_told(site, true, sampled, torch.ones_like(true))


def _folds(pairs: Sequence[SlicePair]) -> list[tuple[list[SlicePair], list[SlicePair]]]:
    """Those that a trial is made of, and those that judge it."""
    if len(pairs) == 1:
        (pair,), half = pairs, len(pairs[0].source.hu) // 2
        upper, lower = replace(pair, rows=(0, half)), replace(pair, rows=(half, None))
        return [([upper], [lower]), ([lower], [upper])]
    folds = min(FOLDS, len(pairs))
    held_out = [pairs[k::folds] for k in range(folds)]
    return [([pair for pair in pairs if pair not in out], list(out)) for out in held_out]


def _tokens(pipe: DiffusionCTPipeline, targets: Sequence[HUSlice]) -> torch.Tensor:
    """(T, C) positions of slices of the target."""
    return pipe.reference_tokens(spread(targets, MOST_REFERENCES))[0]


def _with_standard(pipe: DiffusionCTPipeline, tokens: torch.Tensor, name: str) -> DiffusionCTPipeline:
    """The same networks, the tokens being the standard; nothing is corrected."""
    uncorrected = {"adapted_true": (), "adapted_sampled": (), "adapted_trust": ()}
    changed = {"adapted": True, "standard_tokens": len(tokens), **uncorrected}
    return _with_denoiser(pipe, changed, pipe.denoiser.state_dict() | {"standard": tokens}, name)


def _corrected(pipe: DiffusionCTPipeline, pairs: Sequence[SlicePair]) -> DiffusionCTPipeline:
    """The same, what is sampled being corrected by what pairs tell."""
    return _with_told(pipe, *_told(pipe, pairs))


def _with_told(
    pipe: DiffusionCTPipeline, true: torch.Tensor, sampled: torch.Tensor, trust: torch.Tensor
) -> DiffusionCTPipeline:
    """The same, with what was told of its samples, (rings,) each, see `ReferenceUNet1DModel`."""
    told = {"adapted_true": true.tolist(), "adapted_sampled": sampled.tolist(), "adapted_trust": trust.tolist()}
    return _with_denoiser(pipe, told, pipe.denoiser.state_dict(), pipe.config.standard_name)


def _with_denoiser(
    pipe: DiffusionCTPipeline, changed: dict[str, Any], weights: dict[str, torch.Tensor], name: str
) -> DiffusionCTPipeline:
    """The same pipeline with other settings and weights of the denoiser."""
    config = {key: value for key, value in pipe.denoiser.config.items() if not key.startswith("_")}
    denoiser = ReferenceUNet1DModel(**config | changed)
    denoiser.load_state_dict(weights)
    steps = pipe.config.default_num_inference_steps
    made = DiffusionCTPipeline(
        pipe.autoencoder, denoiser.to(pipe.denoiser.device).eval(), pipe.scheduler, steps, name
    )
    made.set_progress_bar_config(disable=True)
    return made


def _told(pipe: DiffusionCTPipeline, pairs: Sequence[SlicePair]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """By ring, (rings,) each: true change of power in the patient, sampled change, means over all pairs; and trust.

    Trust is the slope of the true on the sampled change within slices, so that it is not that of their anatomy.
    """
    power = pipe.denoiser.channels.power
    weights = true = sampled = matched = squared = torch.zeros(power.stop - power.start)
    for pair in pairs:
        latent_a, latent_s, shape = _sampled(pipe, pair.source)
        latent_b = pipe.encode_batch([pair.target]).latent_a
        y, x = ((latent - latent_a)[0, power].cpu() for latent in (latent_b, latent_s))  # [rings,L]
        counts = torch.zeros(shape[-2] // GRID, shape[-1] // GRID)
        counts[_positions(pair.rows)] = 1
        weight = patient_weight(latent_a)[0].cpu() * counts.flatten()  # [1,L]
        mean_y, mean_x = ((each * weight).sum(1, keepdim=True) / weight.sum().clamp(min=1e-3) for each in (y, x))
        weights, true, sampled = weights + weight.sum(), true + (y * weight).sum(1), sampled + (x * weight).sum(1)
        matched = matched + (weight * (x - mean_x) * (y - mean_y)).sum(1)
        squared = squared + (weight * (x - mean_x) ** 2).sum(1)
    doubted = DOUBT * SCATTER**2
    trust = ((matched + doubted) / (squared + doubted)).clamp(0, 1)
    weights = weights.clamp(min=1e-3)
    return true / weights, sampled / weights, trust


def _sampled(pipe: DiffusionCTPipeline, item: HUSlice) -> tuple[torch.Tensor, torch.Tensor, Sequence[int]]:
    """Z_A of a slice and what is sampled for it, (1, C, L) each, and the shape of the padded slice."""
    latent_a, _, shape = encoded = pipe.encode_batch([item])
    steps = pipe.config.default_num_inference_steps
    (latent_s,) = pipe.standardize_batch([item], [SEED], steps, latents_only=True, encoded=encoded)
    return latent_a, latent_s[None], shape


def _positions(rows: tuple[int, int | None]) -> slice:
    """Rows of pixels -> rows of positions of the latent."""
    first, end = rows
    return slice(first // GRID, None if end is None else end // GRID)


def _cross_validated(
    pipe: DiffusionCTPipeline, pairs: Sequence[SlicePair], targets: Sequence[HUSlice], name: str
) -> tuple[dict[str, TextureAgreement], list[int]]:
    """Agreement over squares of every pair, adapted to by others; and how many squares each has."""
    images: dict[str, list] = {"input": [], "before": [], "adapted": []}
    for kept, judged in _folds(pairs):
        before = _with_standard(pipe, _tokens(pipe, [pair.target for pair in kept] + list(targets)), name)
        trial = _corrected(before, kept)
        for pair in judged:
            target, avoided = measured_hu(pair.target), np.ones(pair.target.hu.shape, bool)
            avoided[slice(*pair.rows)] = False
            masks = tumour_sized_squares(target, avoid=avoided | pair.source.padding)
            encoded, steps = pipe.encode_batch([pair.source]), pipe.config.default_num_inference_steps
            made = {
                row: by.standardize_batch([pair.source], [SEED], steps, encoded=encoded)[0]
                for row, by in (("before", before), ("adapted", trial))
            }
            for row, output in ({"input": pair.source.hu} | made).items():
                images[row].append((output.round().clip(target.min()), target, masks))
    squares = [len(masks) for _, _, masks in images["input"]]
    if not any(squares):
        raise ValueError(f"`pairs` show no square of {TUMOUR_PIXELS} pixels within the patient to be judged by.")
    return {row: texture_agreement(of_row) for row, of_row in images.items()}, squares
