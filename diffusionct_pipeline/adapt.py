"""Adapt a checkpoint to a site: its target becomes the standard, and pairs correct what is sampled.

Nothing is trained. From pairs two numbers for each ring of the latent follow by least squares: how far the sampled change of
power is believed, and a bias. So one pair is enough, it takes seconds, and the networks stay those that were tested. Not in
Selim et al. 2023.
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

EVERY = 4  # every fourth pair is held out
MOST_REFERENCES = 16  # slices of the target whose texture is taken
DOUBT = 30.0  # positions whose worth of belief the network has as it is: no bias, all of its scatter
SCATTER = 0.1  # normalized, of these
SEED = 0  # of the noise
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
        judged: Number of pairs that were held out of a trial, by which the scores are.
        scores: "input", "before" and "adapted" -> agreement with the target over squares of these; "before" is the
            checkpoint given the target's texture as a reference. Empty without pairs.
    """

    pipe: DiffusionCTPipeline
    judged: int
    scores: dict[str, TextureAgreement]

    def worse_than(self) -> str:
        """"before" or "input", where the adapted pipeline is worse beyond chance (95 %, bootstrap over squares); else ""."""
        for name in ("before", "input"):
            if self.scores and _is_worse(self.scores["adapted"], self.scores[name]):
                return name
        return ""


def _is_worse(ours: TextureAgreement, theirs: TextureAgreement) -> bool:
    """Whether fewer figures of the same squares are within 15 %, beyond chance."""
    ours_within, theirs_within = (relative_error(a.output, a.target) < REPRODUCIBLE for a in (ours, theirs))
    gain = ours_within.mean(1) - theirs_within.mean(1)  # [squares]
    resampled = np.random.default_rng(0).choice(gain, (RESAMPLES, len(gain))).mean(1)
    return bool(np.quantile(resampled, 0.95) < 0)


@torch.no_grad()
def adapt(
    pipe: DiffusionCTPipeline, pairs: Sequence[SlicePair], targets: Sequence[HUSlice] = (), standard_name: str = ""
) -> Adaptation:
    """Make a site's target the standard of a checkpoint.

    Every fourth pair, one at least, is held out of a trial, which is judged by it; then all are used. Of a single pair the
    upper half makes the trial and the lower half judges. Without pairs the target's texture becomes the standard, and nothing
    is corrected or judged.

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
    scores, judged = {}, []
    if pairs:
        kept, judged = _split(pairs)
        before = _with_standard(pipe, _tokens(pipe, [pair.target for pair in kept] + list(targets)), name)
        trial = _corrected(before, *_correction(before, kept))
        scores = _judge(pipe, before, trial, judged)
    adapted = _with_standard(pipe, _tokens(pipe, seen), name)
    if pairs:
        adapted = _corrected(adapted, *_correction(adapted, pairs))
    return Adaptation(adapted, len(judged), scores)


def _split(pairs: Sequence[SlicePair]) -> tuple[list[SlicePair], list[SlicePair]]:
    """Those of the trial, and those that judge it."""
    if len(pairs) == 1:
        (pair,), half = pairs, len(pairs[0].source.hu) // 2
        return [replace(pair, rows=(0, half))], [replace(pair, rows=(half, None))]
    is_out = [i % EVERY == min(EVERY, len(pairs)) - 1 for i in range(len(pairs))]
    return [pair for pair, out in zip(pairs, is_out) if not out], [pair for pair, out in zip(pairs, is_out) if out]


def _tokens(pipe: DiffusionCTPipeline, targets: Sequence[HUSlice]) -> torch.Tensor:
    """(T, C) positions of slices of the target."""
    return pipe.reference_tokens(spread(targets, MOST_REFERENCES))[0]


def _with_standard(pipe: DiffusionCTPipeline, tokens: torch.Tensor, name: str) -> DiffusionCTPipeline:
    """The same networks, the tokens being the standard; nothing is corrected."""
    rings = pipe.denoiser.config.rings
    uncorrected = {"adapted_bias": [0.0] * rings, "adapted_trust": [1.0] * rings, "standard_tokens": len(tokens)}
    return _with_denoiser(pipe, uncorrected, pipe.denoiser.state_dict() | {"standard": tokens}, name)


def _corrected(pipe: DiffusionCTPipeline, mean: list[float], trust: list[float]) -> DiffusionCTPipeline:
    """The same, what is sampled being corrected."""
    correction = {"adapted_bias": mean, "adapted_trust": trust}
    return _with_denoiser(pipe, correction, pipe.denoiser.state_dict(), pipe.config.standard_name)


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


def _correction(pipe: DiffusionCTPipeline, pairs: Sequence[SlicePair]) -> tuple[list[float], list[float]]:
    """Bias and trust by ring: the true change of power from the sampled one, over all positions in the patient.

    The slope is that within slices, so that it is not that of their anatomy; the bias is what it leaves over on average.
    """
    power = pipe.denoiser.channels.power
    weights = true = sampled = matched = squared = torch.zeros(power.stop - power.start)
    for pair in pairs:
        latent_a, _, shape = encoded = pipe.encode_batch([pair.source])
        latent_b = pipe.encode_batch([pair.target]).latent_a
        steps = pipe.config.default_num_inference_steps
        (latent_s,) = pipe.standardize_batch([pair.source], [SEED], steps, latents_only=True, encoded=encoded)
        origin = pipe.denoiser.origin(latent_a)
        y, x = ((latent - origin)[0, power].cpu() for latent in (latent_b, latent_s))  # [rings,L]
        counts = torch.zeros(shape[-2] // GRID, shape[-1] // GRID)
        counts[_positions(pair.rows)] = 1
        weight = patient_weight(latent_a)[0].cpu() * counts.flatten()  # [1,L]
        mean_y, mean_x = ((each * weight).sum(1, keepdim=True) / weight.sum().clamp(min=1e-3) for each in (y, x))
        weights, true, sampled = weights + weight.sum(), true + (y * weight).sum(1), sampled + (x * weight).sum(1)
        matched = matched + (weight * (x - mean_x) * (y - mean_y)).sum(1)
        squared = squared + (weight * (x - mean_x) ** 2).sum(1)
    doubted = DOUBT * SCATTER**2
    trust = ((matched + doubted) / (squared + doubted)).clamp(0, 1)
    return ((true - trust * sampled) / (weights + DOUBT)).tolist(), trust.tolist()


def _positions(rows: tuple[int, int | None]) -> slice:
    """Rows of pixels -> rows of positions of the latent."""
    first, end = rows
    return slice(first // GRID, None if end is None else end // GRID)


def _judge(
    pipe: DiffusionCTPipeline, before: DiffusionCTPipeline, trial: DiffusionCTPipeline, pairs: Sequence[SlicePair]
) -> dict[str, TextureAgreement]:
    """Agreement over squares of the rows that count."""
    images: dict[str, list] = {"input": [], "before": [], "adapted": []}
    tokens, steps = before.denoiser.standard[None], pipe.config.default_num_inference_steps
    for pair in pairs:
        target, avoided = measured_hu(pair.target), np.ones(pair.target.hu.shape, bool)
        avoided[slice(*pair.rows)] = False
        masks = tumour_sized_squares(target, avoid=avoided | pair.source.padding)
        encoded = pipe.encode_batch([pair.source])
        made = {
            name: by.standardize_batch([pair.source], [SEED], steps, reference, encoded=encoded)[0]
            for name, by, reference in (("before", pipe, tokens), ("adapted", trial, None))
        }
        outputs = {"input": pair.source.hu} | made
        for name, output in outputs.items():
            images[name].append((output.round().clip(target.min()), target, masks))
    if not any(masks for _, _, masks in images["input"]):
        raise ValueError(f"`pairs` show no square of {TUMOUR_PIXELS} pixels within the patient to be judged by.")
    return {name: texture_agreement(made) for name, made in images.items()}
