"""Pairs of latents from stored scans: one slice under two kernels, smoothed or not, and the target's texture of another scan."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from ...estimation.kernel_fit import TISSUES
from ...estimation.noise import find_squares, noise_of_squares
from ...image_processor import HIGHEST_SEEN_HU, to_hu, to_model
from ...models import TextureAutoencoder
from ...models.texture.channels import SPACING_UNIT, TYPICAL_SPACING_MM, patient_mean, patient_weight
from ...models.texture.power_shift import fit_level_and_tilt, level_weights, noise_share, tail_features, whitening
from ...simulation import Kernel, mtf
from ...simulation.degradation import TRAINING_SMOOTHERS, smooth
from ...simulation.scanner import SMALLEST_BLUR, Scanner
from ...utils.files import whole_file
from .filtered_scans import gain
from .scans import KERNELS_OF_SCAN, SLICES, UNCUT_HU, StoredScan, read_scan, scan_path, stored_groups

SMOOTHED_KERNELS = (1, 1, 2, 2, 3, 3, 3, 3, 3, 3, 4, 4)  # of a scan: all but the standard, and most often the soft one
CUT_HU = (-1024.0, UNCUT_HU)  # lowest HU, by vendor
LOWEST_STRENGTH, LOWEST_THRESHOLD, HIGHEST_THRESHOLD = 0.2, 0.6, 2.2
TWICE_SMOOTHED_SHARE = 0.3
PLAIN_SHARE = 0.5  # of the sources: with more smoothed ones, a network takes too many sources for smoothed
FILTERED_SHARE = 0.5  # of the pairs whose target is not the standard, which are of real scans
LARGEST_CURVE = 0.7  # at 12 lp/cm, of the random curves that are added to log power
CURVED_SHARE = 0.5  # of the pairs
LEANING_SHARE, LEAN = 0.6, 0.8  # of the pairs; deviation of a lean, in log weight per deviation of a channel
CROPPED_SHARE, SMALLEST_CROP = 0.5, 4  # of the batches; positions along a side, of 32 pixels
LEANED_CHANNELS = (1, 3, 4)  # of the latent: local mean and the two lowest frequencies, which reveal anatomy
# Errors of an estimate: the level of the power shift, its shape at the last ring, and 2 log T there.
LEVEL_ERROR, SHAPE_ERROR, MTF_ERROR = 0.15, 0.2, 0.5
# Fall of the log noise power up to the last ring, the range of frequencies (shares of that ring's) where it starts, and the
# share of the pairs.
LARGEST_FALL, FALLS_FROM, FALLING_SHARE = 5.0, (0.3, 0.6), 0.7
TAIL_ERROR = 0.06  # of the excess kurtosis of noise
# Deviations, in log power, of each mode in which noise varies over a slice, and of its additional part at the last ring: they
# stand for bowtie filters, tube current modulation and blur off the centre, none of which are simulated.
SPREAD, SPREAD_OF_SHAPE = 0.35, 0.25
KERNEL_UNKNOWN_SHARE = 0.1  # of the pairs, whose whitening and tails are not known
KERNEL_OF_VARIANT = (*range(KERNELS_OF_SCAN), *SMOOTHED_KERNELS)
Smoothing: TypeAlias = tuple[str, float, float]  # family, strength, threshold
STORED = ("stored", "uncut", "pairs", "phase_agreement", "log_mtf_power", "log_noise_gain", "tails")


@dataclass(frozen=True)
class TextureBatch:
    """B pairs.

    Attributes:
        latent_a, latent_b: (B, C, L), not normalized; B without the clipping of its file.
        tokens: (B, T, C) positions of another scan with B's texture, at its own dose, as stored in its file.
        to_standard: (B,) bool, whether B has the standard kernel: the checkpoint's own tokens then replace `tokens`.
        to_plain: (B,) bool, whether B is not smoothed: its texture differs from the standard's only by kernel and dose.
        shift: (B, rings) log power between A and B as estimated: without what smoothing removed at the frequencies where
            the level is measured.
        whitening: (B, rings) of A, see `power_shift.whitening`; 0 where the kernel is not known.
        tails: (B, 3) of the scan of A, see `power_shift.tail_features`.
        phase_agreement: (B, rings, L) of A and B.
    """

    latent_a: torch.Tensor
    latent_b: torch.Tensor
    tokens: torch.Tensor
    to_standard: torch.Tensor
    to_plain: torch.Tensor
    shift: torch.Tensor
    whitening: torch.Tensor
    tails: torch.Tensor
    phase_agreement: torch.Tensor


@dataclass(frozen=True)
class TexturePairs:
    """N slices in V variants (kernel and smoothing), and P pairs of variants of each.

    Slices 4k to 4k + 3 are of one scan, and 8k to 8k + 7 of one group, which share their variants. Variant 0 is the plain
    standard; it is never a target in scans without one.

    Attributes:
        stored: (N, V, C, L) float16 latents of the files.
        uncut: The same without the clipping of the files.
        pairs: (N, P, 2) variants a and b.
        phase_agreement: (N, P, rings, L) float16, of a as stored and b uncut.
        log_mtf_power: (N, kernels, rings) 2 log T of the kernel of each; NaN where it is not known.
        log_noise_gain: (N, rings) of the scanner, see `Scanner.log_noise_gain`; NaN where it is not known.
        tails: (N, V, 2) of noise, see `TissueNoise`, of the file; NaN where no homogeneous tissue is in view.
        max_lp_cm: Frequency of the last ring.
    """

    stored: torch.Tensor
    uncut: torch.Tensor
    pairs: torch.Tensor
    phase_agreement: torch.Tensor
    log_mtf_power: torch.Tensor
    log_noise_gain: torch.Tensor
    tails: torch.Tensor
    max_lp_cm: float

    def __len__(self) -> int:
        return len(self.stored)

    def draw(
        self, count: int, standard_share: float, tokens: int, generator: torch.Generator, same_share: float = 0.0
    ) -> TextureBatch:
        """Draw `count` pairs, `standard_share` of them to the standard, with `tokens` reference positions each.

        Pairs are mirrored at random, half of the batches are cropped to a square of the slice, and half of the pairs get kernels
        that were never simulated: a smooth curve is added to the log power of A, and another to that of B and its tokens. In
        `same_share` of the pairs to a reference, A and B are one variant under two curves.
        """
        device = generator.device
        rand = lambda *shape: torch.rand(shape, generator=generator, device=device)  # noqa: E731
        # 1. Slices, and one pair of each; filtered scans have no standard.
        is_standard = self.pairs[..., 1] == 0  # [N,P]
        with_standard = is_standard.any(1).nonzero()[:, 0]  # [M]
        wish = (
            rand(count) < standard_share if len(with_standard) else torch.zeros(count, dtype=torch.bool, device=device)
        )
        index = (rand(count) * len(self)).long()
        filtered = self.log_noise_gain[:, 0].isnan().nonzero()[:, 0]
        if len(filtered):
            of_filtered = filtered[(rand(count) * len(filtered)).long()]
            index = torch.where(rand(count) < FILTERED_SHARE, of_filtered, index)
        if len(with_standard):
            index = torch.where(wish, with_standard[(rand(count) * len(with_standard)).long()], index)
        fits, is_plain = is_standard[index] == wish[:, None], self.pairs[index, :, 0] < KERNELS_OF_SCAN  # [B,P]
        plain, smoothed = ((fits & each).float() for each in (is_plain, ~is_plain))
        of_plain = PLAIN_SHARE * plain / plain.sum(1, keepdim=True).clamp(min=1)
        of_smoothed = (1 - PLAIN_SHARE) * smoothed / smoothed.sum(1, keepdim=True).clamp(min=1)
        pair = torch.multinomial(of_plain + of_smoothed, 1, generator=generator)[:, 0]
        a, b = self.pairs[index, pair].unbind(1)
        same = (rand(count) < same_share) & ~wish
        b = torch.where(same, a, b)
        latent_a, latent_b = self.stored[index, a].float(), self.uncut[index, b].float()
        phase = torch.where(same[:, None, None], 1.0, self.phase_agreement[index, pair].float())
        # 2. The target's texture is that of slices of the other scan of the group, which has the same kernels, but another dose
        #    and, where positions are biased, other anatomy. For filtered scans it is that of other slices of the same scan.
        own, first = index % SLICES, index - index % (2 * SLICES)
        other_scan = (index // SLICES + 1) % 2 * SLICES + first
        other_slices = (own[:, None] + 1 + (rand(count, 2) * (SLICES - 1)).long()) % SLICES
        simulated = self.log_noise_gain[index, 0].isfinite()
        others = other_slices + torch.where(simulated, other_scan, index - own)[:, None]
        seen = self.stored[others, b[:, None]].float().transpose(1, 2).flatten(2)  # [B,C,2L]
        weight = (patient_weight(seen)[:, 0] + 1e-6) * _leaning(seen, generator)
        positions = torch.multinomial(weight, tokens, replacement=True, generator=generator)  # [B,T]
        of_target = seen.transpose(1, 2).gather(1, positions[..., None].expand(-1, -1, seen.shape[1]))
        # 3. The change by kernels and doses alone: the same pair without its smoothing.
        kernel = torch.tensor(KERNEL_OF_VARIANT, device=device)
        plain = patient_mean(self.uncut[index, kernel[b]].float() - self.stored[index, kernel[a]].float(), latent_a)
        # 4. Mirror.
        side = round(latent_a.shape[-1] ** 0.5)
        for dim in (2, 3):
            flip = (rand(count) < 0.5).view(-1, 1, 1, 1)
            latent_a, latent_b, phase = (
                torch.where(flip, (grid := x.unflatten(2, (side, side))).flip(dim), grid).flatten(2)
                for x in (latent_a, latent_b, phase)
            )
        # 5. Scanners whose noise varies differently over the slice, in A and B alike.
        rings = phase.shape[1]
        spread = _spread(count, rings, side, generator) * noise_share(rings, self.max_lp_cm).to(device)[:, None]
        latent_a[:, -rings:] += spread
        latent_b[:, -rings:] += spread
        # 6. Fields of view of any size, one for the batch, around positions in the patient.
        if side > SMALLEST_CROP and rand(1).item() < CROPPED_SHARE:
            size = SMALLEST_CROP + int(rand(1).item() * (side - SMALLEST_CROP))
            latent_a, latent_b, phase = _cropped(
                (latent_a, latent_b, phase), patient_weight(latent_a)[:, 0], size, generator
            )
        # 7. Kernels of any other shape.
        curved = (same | (rand(count) < CURVED_SHARE)).float()[:, None, None]
        curve_a, curve_b = (curved * _curves(count, rings, generator) for _ in range(2))
        curve_b = curve_b * (~wish).float()[:, None, None]  # the standard does not change
        latent_a[:, -rings:] += curve_a
        latent_b[:, -rings:] += curve_b
        of_target[..., -rings:] += curve_b.transpose(1, 2)
        # 8. Scanners that correct less of their blur: noise falls beyond some frequency, which the MTF does not show.
        falls = LARGEST_FALL * rand(count, 1, 1) * (rand(count, 1, 1) < FALLING_SHARE)
        start = FALLS_FROM[0] + (FALLS_FROM[1] - FALLS_FROM[0]) * rand(count, 1, 1)
        f = torch.linspace(0, 1, rings, device=device).view(1, -1, 1)
        fall = falls * ((f - start) / (1 - start)).clamp(min=0)
        latent_a[:, -rings:] -= fall
        latent_b[:, -rings:] -= fall
        # 9. The estimate of the pair.
        plain = plain[:, -rings:] + (curve_b - curve_a)[..., 0]
        log_mtf_power = self.log_mtf_power[index, kernel[a]] + curve_a[..., 0]
        shift, white = self._estimated(latent_a, latent_b, plain, log_mtf_power, generator)
        # 10. Tails of the noise over all slices of the scan, as estimated.
        scan = (index - own)[:, None] + torch.arange(SLICES, device=device)  # [B,slices]
        tails = self.tails[scan, a[:, None]].nanmean(1)
        tails = tails + TAIL_ERROR * torch.randn(count, 2, generator=generator, device=device)
        tails[rand(count) < KERNEL_UNKNOWN_SHARE] = torch.nan
        return TextureBatch(
            latent_a, latent_b, of_target, wish, b < KERNELS_OF_SCAN, shift, white, tail_features(tails), phase
        )

    def _estimated(
        self,
        latent_a: torch.Tensor,
        latent_b: torch.Tensor,
        plain: torch.Tensor,
        log_mtf_power: torch.Tensor,
        generator: torch.Generator,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return shift and whitening (B, rings) as estimated, with the errors of an estimate."""
        count, rings = plain.shape
        error = lambda size: size * torch.randn(count, 1, generator=generator, device=generator.device)  # noqa: E731
        f = torch.linspace(0, 1, rings, device=plain.device)
        mean = patient_mean(latent_b - latent_a, latent_a)[:, -rings:]
        nyquist = 5 / (TYPICAL_SPACING_MM * torch.exp(latent_a[:, 0, :1] * SPACING_UNIT))
        known = log_mtf_power.isfinite().all(1, keepdim=True)
        log_mtf_power = torch.where(known, log_mtf_power, 0)
        weights = level_weights(log_mtf_power, self.max_lp_cm, nyquist)
        removed = fit_level_and_tilt(mean - plain, weights, self.max_lp_cm)[2]
        shift = mean - removed + error(LEVEL_ERROR) + error(SHAPE_ERROR) * f**2
        shift = shift * noise_share(rings, self.max_lp_cm).to(shift.device)
        power = patient_mean(latent_a)[:, -rings:]
        white = whitening(power, log_mtf_power + error(MTF_ERROR) * f**2, weights, self.max_lp_cm)
        known &= torch.rand(count, 1, generator=generator, device=generator.device) >= KERNEL_UNKNOWN_SHARE
        return shift, white * known

    def to(self, device: torch.device | str) -> TexturePairs:
        """Copy the pairs to another device."""
        moved = {name: getattr(self, name).to(device) for name in STORED}
        return TexturePairs(**moved, max_lp_cm=self.max_lp_cm)


def load_texture_pairs(
    folder: str | Path,
    autoencoder: TextureAutoencoder,
    groups: int = 0,
    progress: Callable[[int], None] = lambda group: None,
) -> TexturePairs:
    """Encode the scans of a folder, or read groups that were encoded before with the same settings.

    Args:
        folder: Folder of scans, see scans.py; encoded groups are written beside them.
        autoencoder: Measures the latents.
        groups: Number of groups to use; 0 for all.
        progress: Called with the seed of each finished group.
    """
    config = autoencoder.config
    settings = {name: config[name] for name in ("rings", "max_lp_cm", "power_floor")}
    settings |= {"smoothed": SMOOTHED_KERNELS, "families": list(TRAINING_SMOOTHERS), "highest": HIGHEST_THRESHOLD}
    made_with = json.dumps(settings)
    parts = []
    for seeds in stored_groups(folder)[: groups or None]:
        path = Path(folder) / f"texture_{seeds[0]:05d}.safetensors"
        part = _read(path, made_with)
        if part is None:
            part = _encode_group([read_scan(scan_path(folder, seed)) for seed in seeds], seeds[0], autoencoder)
            with whole_file(path) as whole:
                save_file(part, whole, {"made_with": made_with})
        parts.append(part)
        progress(seeds[0])
    joined = {name: torch.cat([part.pop(name) for part in parts]) for name in STORED}
    return TexturePairs(**joined, max_lp_cm=config["max_lp_cm"])


def _read(path: Path, made_with: str) -> dict[str, torch.Tensor] | None:
    if not path.exists():
        return None
    with safe_open(path, "pt") as file:
        if file.metadata().get("made_with") != made_with:
            return None
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict


@torch.no_grad()
def _encode_group(scans: Sequence[StoredScan], seed: int, autoencoder: TextureAutoencoder) -> dict[str, torch.Tensor]:
    """Encode every slice in every variant, as stored and uncut, with pairs to the standard and one other pair per variant."""
    draw = np.random.default_rng(seed)
    lowest = CUT_HU[draw.integers(2)]
    variants: list[tuple[int, list[Smoothing]]] = [(kernel, []) for kernel in range(scans[0].hu.shape[1])]
    variants += [(kernel, _random_smoothing(draw)) for kernel in SMOOTHED_KERNELS]
    count = len(variants)
    made: dict[str, list[torch.Tensor]] = {name: [] for name in STORED}
    for scan in scans:
        spacing = torch.tensor([scan.spacing_mm])
        log_mtf_power, log_noise_gain = _known_of(scan, autoencoder.config["rings"], autoencoder.config["max_lp_cm"])
        for slice_hu in scan.hu:
            images = [_smoothed(torch.from_numpy(slice_hu[kernel]).float(), steps) for kernel, steps in variants]
            samples = {
                name: [to_model(hu.round().clamp(low, HIGHEST_SEEN_HU))[None, None] for hu in images]
                for name, low in (("stored", lowest), ("uncut", UNCUT_HU))
            }
            for name, kind in samples.items():
                latents = [autoencoder.encode(sample, spacing)[0] for sample in kind]
                made[name].append(torch.cat(latents)[None].half())
            other = lambda a: int(draw.choice([b for b in range(1, count) if b != a]))  # noqa: E731
            pairs = [(a, 0 if scan.has_standard else other(a)) for a in range(1, count)]
            pairs += [(a, other(a)) for a in range(count)]
            phases = [
                autoencoder.spectrum.phase_agreement(samples["stored"][a], samples["uncut"][b], spacing).flatten(2)
                for a, b in pairs
            ]
            made["pairs"].append(torch.tensor([pairs]))
            made["log_mtf_power"].append(log_mtf_power[None])
            made["log_noise_gain"].append(log_noise_gain[None])
            stored = [sample[0, 0].numpy() for sample in map(to_hu, samples["stored"])]
            made["tails"].append(_tails(stored, scan.spacing_mm)[None])
            made["phase_agreement"].append(torch.cat(phases)[None].half())
    return {name: torch.cat(values).contiguous() for name, values in made.items()}


def _known_of(scan: StoredScan, rings: int, max_lp_cm: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what is known of the kernels and the scanner of a scan.

    Returns:
        2 log T of the kernels, (kernels, rings), including filters and uncorrected blur of the scanner; and the gain of the
        noise by the scanner, (rings,). NaN where they are not known.
    """
    lp_cm, unknown = torch.linspace(0, max_lp_cm, rings), torch.full((rings,), torch.nan)
    if not len(scan.kernels):
        return unknown.expand(KERNELS_OF_SCAN, -1), unknown
    if len(scan.filters):
        rows = [
            mtf(lp_cm, _kernel(law)) * gain(lp_cm, *map(float, one)) for law, one in zip(scan.kernels, scan.filters)
        ]
        return 2 * torch.log(torch.stack(rows).clamp(min=1e-4)), unknown
    scanner = Scanner(aperture_mm=float(scan.blur_mm[0]), focal_mm=float(scan.blur_mm[1]))
    blur = scanner.blur(lp_cm / 10)
    left = (blur / blur.clamp(min=SMALLEST_BLUR)).clamp(min=1e-3)
    rows = [mtf(lp_cm, _kernel(law)) * left for law in scan.kernels]
    return 2 * torch.log(torch.stack(rows).clamp(min=1e-4)), scanner.log_noise_gain(lp_cm / 10)


def _kernel(law: np.ndarray) -> Kernel:
    mtf50, mtf10, boost, boost_peak = map(float, law)
    return Kernel("of a scan", mtf50, mtf10, boost, boost_peak)


def _tails(variants: Sequence[np.ndarray], spacing_mm: float) -> torch.Tensor:
    """Measure the tails of the noise, (variants, 2), of variants of a slice, HU (H, W) each."""
    squares, found = find_squares(variants[0], spacing_mm, tissues=TISSUES), []
    for hu in variants:
        noise = noise_of_squares([hu], [squares], spacing_mm)
        found.append(next((noise[name].tails for name in TISSUES if name in noise), (np.nan, np.nan)))
    return torch.tensor(found)


def _random_smoothing(draw: np.random.Generator) -> list[Smoothing]:
    """Draw one smoothing, or two in sequence."""
    steps: list[Smoothing] = []
    for _ in range(1 + (draw.random() < TWICE_SMOOTHED_SHARE)):
        family = list(TRAINING_SMOOTHERS)[draw.integers(len(TRAINING_SMOOTHERS))]
        threshold = LOWEST_THRESHOLD * (HIGHEST_THRESHOLD / LOWEST_THRESHOLD) ** draw.random()
        steps.append((family, draw.uniform(LOWEST_STRENGTH, 1), threshold))
    return steps


def _smoothed(hu: torch.Tensor, steps: list[Smoothing]) -> torch.Tensor:
    for family, strength, threshold in steps:
        hu = smooth(hu, family, strength, threshold)
    return hu


def _cropped(
    maps: Sequence[torch.Tensor], weight: torch.Tensor, size: int, generator: torch.Generator
) -> list[torch.Tensor]:
    """Crop maps (B, *, L) to squares with sides of `size` positions, about positions drawn with a weight (B, L)."""
    side = round(weight.shape[1] ** 0.5)
    centre = torch.multinomial(weight + 1e-6, 1, generator=generator)  # [B,1]
    top, left = ((edge - size // 2).clamp(0, side - size) for edge in (centre // side, centre % side))
    axis = torch.arange(size, device=weight.device)
    index = ((top + axis)[:, :, None] * side + (left + axis)[:, None]).flatten(1)  # [B,size*size]
    return [each.gather(2, index[:, None].expand(-1, each.shape[1], -1)) for each in maps]


def _leaning(seen: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Draw weights (B, L) that prefer some anatomy, as a real reference may show more bone, lung or air than the slice."""
    context = seen[:, list(LEANED_CHANNELS)]  # [B,3,L]
    context = (context - context.mean(2, keepdim=True)) / context.std(2, keepdim=True).clamp(min=1e-3)
    count, channels, _ = context.shape
    lean = torch.randn(count, channels, 1, generator=generator, device=generator.device) * LEAN
    lean *= (torch.rand(count, 1, 1, generator=generator, device=generator.device) < LEANING_SHARE).float()
    return torch.exp((lean * context.clamp(-3, 3)).sum(1))


def _spread(count: int, rings: int, side: int, generator: torch.Generator) -> torch.Tensor:
    """Draw smooth fields (count, rings, side * side): polynomials of degree 2 in x and y, plus others that grow with f."""
    axis = torch.linspace(-1, 1, side, device=generator.device)
    y, x = (each.flatten() for each in torch.meshgrid(axis, axis, indexing="ij"))
    ways = torch.stack([x, y, x * y, x**2 - 1 / 3, y**2 - 1 / 3])  # [5,L]
    of_all, of_shape = torch.randn(2, count, len(ways), generator=generator, device=generator.device)
    f = torch.linspace(0, 1, rings, device=generator.device)[:, None]
    return SPREAD * (of_all @ ways)[:, None] + SPREAD_OF_SHAPE * f * (of_shape @ ways)[:, None]


def _curves(count: int, rings: int, generator: torch.Generator) -> torch.Tensor:
    """Draw smooth curves over frequency, (count, rings, 1), 0 at 0: three waves of random size that grow with frequency."""
    f = torch.linspace(0, 1, rings, device=generator.device)
    curve = torch.zeros(count, rings, device=generator.device)
    for waves in (0.25, 0.5, 1.0):
        size = torch.randn(count, 1, generator=generator, device=generator.device) * LARGEST_CURVE
        curve = curve + size * torch.sin(2 * torch.pi * waves * f) * f.sqrt()
    return curve[..., None]
