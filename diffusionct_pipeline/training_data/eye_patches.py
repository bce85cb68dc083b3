"""What a learnt eye learns from: patches of real series and of simulated scans, filtered to known MTFs on the fly.

Every patch has the log T of its kernel: simulated ones that of the scan, real ones that of the series' skin and noise.
A filter adds its logarithm to that, exactly. Noise of filtered backprojection, coarser pixels and smoothing come on top
and leave it as it is: edges keep it, and they are what the eye must learn to believe when noise says something else.
Shapes with perfect edges, blurred by T alone, lie on some: the sharpest edge tells T, however soft the rest is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.fft import irfft2, rfft2
from scipy.special import ndtr

from ..dicom import read_slice, scan_folder
from ..estimation import KernelEstimate, estimate_kernel_of_series
from ..estimation.eye import BELOW_NYQUIST
from ..estimation.law import log_mtf
from ..estimation.patches import cut_patch, patch_centres, resample
from ..evaluation.regions import spread
from ..image_processor import UNMEASURED_HU, from_dicom, to_model
from ..simulation.degradation import TRAINING_SMOOTHERS, smooth
from .scans import EVERY_NTH_OF_OBJECTS, read_scan, scan_path
from .splits import SCANS

MARGIN = 24  # pixels around a patch while it is filtered: filters wrap around
STORED_HU = 0.125  # step of stored patches
STEP_LP_CM = 0.05  # of curves
LOWEST_LOG_MTF, LOWEST_BASE = -4.5, -11.5  # what the eye is asked to say at least; below the other, rounding rules
PATCHES_OF_SERIES, SLICES_OF_SERIES = 160, 40
PLACES_OF_SLICE = 2  # of a simulated slice
SUREST_LEVEL = 0.35  # standard deviation of the level of log power: less sure series teach differences only
REAL_SHARE = 0.6  # of pairs
UNFILTERED_SHARE = 0.3
MTF50, RATIO, BOOST, PEAK = (2.0, 11.0), (1.25, 2.0), (0.0, 0.5), (0.35, 0.85)  # lp/cm, of MTF50, -, of MTF50
BOOSTED_SHARE = 0.5
LOG_GAIN, JUDGED_LP_CM = (-4.0, 3.0), 5.0  # of filters, at this frequency or where the pixels end
NOISELESS_SHARE, NOISE_HU = 0.35, (2.0, 80.0)
WHITENING, TILT = (0.01, 0.08), 0.12  # cm^2, and deviation of log amplitude from its law
CONTRAST = 0.5  # log
COARSER_SHARE, COARSEST_MM = 0.5, 1.0
SHAPES_SHARE, MOST_SHAPES, RADIUS_MM, SHAPE_HU = 0.4, 4, (3.0, 30.0), (30.0, 1000.0)
DRAWN_MM = 0.5  # deviation of the Gaussian edges with which shapes are drawn; divided out again
SMOOTHED_SHARE, STRENGTH, THRESHOLD = 0.3, (0.3, 1.0), (0.6, 1.5)


@dataclass(frozen=True, eq=False)
class PatchSource:
    """Patches of one series, or of one simulated scan under each of its kernels.

    Attributes:
        hu: int16 (patches, kernels, S, S) in units of `STORED_HU`, with a margin of `MARGIN` on every side.
        log_mtf: (kernels, curve) log T every `STEP_LP_CM`.
        spacing_mm: Side of a pixel of the scan.
        trusted: Whether log T itself is known, not only its differences between kernels and filters.
    """

    hu: np.ndarray
    log_mtf: np.ndarray
    spacing_mm: float
    trusted: bool


@dataclass(frozen=True, eq=False)
class Version:
    """What is done to patches.

    Attributes:
        log_gain, log_mtf: (curve,) of the filter, and of what comes out.
        noise_hu: Standard deviation of added noise.
        whitening: K in cm^2, its power is f T^2 exp(K f^2).
        tilt: (2,) by how much its log amplitude leaves that law.
        contrast: Factor of HU.
        spacing_mm: Side of the pixels that the scan has then.
        shapes_hu: (S, S) of `draw_shapes`, before any blur; None for none.
        smoother: Family, strength and threshold of `simulation.degradation.smooth`; None for none.
    """

    log_gain: np.ndarray
    log_mtf: np.ndarray
    noise_hu: float
    whitening: float
    tilt: np.ndarray
    contrast: float
    spacing_mm: float
    shapes_hu: np.ndarray | None
    smoother: tuple[str, float, float] | None


@dataclass(frozen=True, eq=False)
class EyeBatch:
    """Pairs: items 2k and 2k + 1 show one place under two kernels.

    Attributes:
        sample: (B, 1, P, P) model range.
        nyquist: (B,) lp/cm of the scan's pixels.
        log_mtf: (B, frequencies).
        told: (B, frequencies) bool, False beyond the Nyquist frequency.
        trusted: (B,) bool, see `PatchSource`.
    """

    sample: torch.Tensor
    nyquist: torch.Tensor
    log_mtf: torch.Tensor
    told: torch.Tensor
    trusted: torch.Tensor


class EyePatches:
    """Draws pairs of patches.

    Args:
        real: Of real series.
        simulated: Of simulated scans.
        frequencies, pixel_mm, patch_pixels: As of `KernelEye`.

    Raises:
        ValueError: if there is neither.
    """

    def __init__(
        self,
        real: Sequence[PatchSource],
        simulated: Sequence[PatchSource],
        frequencies: int = 7,
        pixel_mm: float = 0.7,
        patch_pixels: int = 96,
    ):
        if not real and not simulated:
            raise ValueError("`real` and `simulated` are both empty: there is nothing to learn from")
        self.kinds = [kind for kind in (real, simulated) if kind]
        self.frequency = np.arange(1.0, frequencies + 1)
        self.pixel_mm, self.patch_pixels = pixel_mm, patch_pixels

    def batch(self, pairs: int, generator: torch.Generator) -> EyeBatch:
        """Draw pairs of one place each under two versions."""
        rng = np.random.default_rng(torch.randint(2**62, (1,), generator=generator, device=generator.device).item())
        patches, versions, trusted = [], [], []
        for _ in range(pairs):
            kind = self.kinds[0] if rng.random() < REAL_SHARE else self.kinds[-1]
            source = kind[rng.integers(len(kind))]
            place = source.hu[rng.integers(len(source.hu))]  # [kernels,S,S]
            turns, mirrored = rng.integers(4), rng.random() < 0.5
            shapes_hu = None
            if source.trusted and rng.random() < SHAPES_SHARE:
                shapes_hu = draw_shapes(place.shape[-1], self.pixel_mm, place[0].mean() * STORED_HU, rng)
            first = None
            for _ in range(2):
                kernel = rng.integers(len(place))
                version = replace(draw_version(source, kernel, rng), shapes_hu=shapes_hu)
                if first is not None:
                    version = replace(version, contrast=first.contrast, spacing_mm=first.spacing_mm)
                first = version
                image = np.rot90(place[kernel], turns)
                image = (image[:, ::-1] if mirrored else image) * np.float32(STORED_HU)
                patches.append(self.render(image, version, rng))
                versions.append(version)
                trusted.append(source.trusted)
        return self.as_batch(patches, versions, trusted)

    def series(self, source: PatchSource, patches: int, rng: np.random.Generator, plain: bool) -> EyeBatch:
        """Return evenly chosen patches of a source under one version; `plain` changes nothing."""
        kernel = rng.integers(len(source.log_mtf))
        version = unchanged(source, kernel) if plain else draw_version(source, kernel, rng)
        places = spread(source.hu, patches)
        seen = [self.render(place[kernel] * np.float32(STORED_HU), version, rng) for place in places]
        return self.as_batch(seen, [version] * len(seen), [source.trusted] * len(seen))

    def as_batch(self, patches: Sequence[np.ndarray], versions: Sequence[Version], trusted: Sequence[bool]) -> EyeBatch:
        """Stack HU patches (P, P) with what is known of them."""
        nyquist = np.array([5 / version.spacing_mm for version in versions], np.float32)
        curves = [np.interp(self.frequency, _grid(len(v.log_mtf)), v.log_mtf) for v in versions]
        return EyeBatch(
            to_model(torch.from_numpy(np.stack(patches)))[:, None],
            torch.from_numpy(nyquist),
            torch.from_numpy(np.stack(curves)).float().clamp(min=LOWEST_LOG_MTF),
            torch.from_numpy(self.frequency[None] < BELOW_NYQUIST * nyquist[:, None]),
            torch.tensor(trusted),
        )

    def render(self, hu: np.ndarray, version: Version, rng: np.random.Generator) -> np.ndarray:
        """Return (P, P) float32 HU: a patch with its margin (S, S), filtered, with noise, on coarser pixels, smoothed."""
        side = len(hu)
        frequency = _radial_frequency(side, self.pixel_mm)
        place = np.round(frequency / STEP_LP_CM).astype(int).clip(0, len(version.log_gain) - 1)
        spectrum = rfft2(hu * np.float32(version.contrast)) * np.exp(version.log_gain)[place]
        if version.shapes_hu is not None:
            drawn = 2 * (np.pi * DRAWN_MM / 10 * frequency.clip(max=5 / self.pixel_mm)) ** 2
            spectrum += rfft2(version.shapes_hu) * np.exp(version.log_mtf[place] + drawn)
        if version.noise_hu:
            tilt = version.tilt[0] * np.log(frequency.clip(0.3) / 3) + version.tilt[1] * np.sin(0.8 * frequency)
            log_amplitude = version.log_mtf[place] + 0.5 * version.whitening * frequency.clip(max=7.5) ** 2 + tilt
            noise = rfft2(rng.standard_normal((side, side), np.float32)) * np.sqrt(frequency) * np.exp(log_amplitude)
            squares = np.abs(noise) ** 2
            squares[:, 1:-1] *= 2  # rfft2 leaves out the conjugates of these
            spectrum += noise * (version.noise_hu * side**2 / np.sqrt(squares.sum()).clip(1e-9))
        image = irfft2(spectrum, s=hu.shape).astype(np.float32)
        coarser = version.spacing_mm > self.pixel_mm * 1.01
        if coarser:  # sampled as a reconstruction is: what is faster than the pixels is aliased
            pixels = int(side * self.pixel_mm / version.spacing_mm)
            image = resample(image, self.pixel_mm, version.spacing_mm, pixels, keep_all=True)
        image = np.round(image)
        if version.smoother is not None:
            image = smooth(torch.from_numpy(image), *version.smoother).numpy()
        return resample(image, version.spacing_mm if coarser else self.pixel_mm, self.pixel_mm, self.patch_pixels)


def unchanged(source: PatchSource, kernel: int) -> Version:
    """The version that leaves patches as they are."""
    curve = source.log_mtf[kernel]
    return Version(np.zeros_like(curve), curve, 0.0, 0.0, np.zeros(2), 1.0, source.spacing_mm, None, None)


def draw_version(source: PatchSource, kernel: int, rng: np.random.Generator) -> Version:
    """Draw a filter to some kernel of the law, noise, contrast, pixels and a smoother."""
    version = unchanged(source, kernel)
    if rng.random() < COARSER_SHARE and source.spacing_mm < COARSEST_MM:
        version = replace(version, spacing_mm=rng.uniform(source.spacing_mm, COARSEST_MM))
    if rng.random() >= UNFILTERED_SHARE:
        log_gain = _draw_log_gain(source.log_mtf[kernel], 5 / source.spacing_mm, rng)
        version = replace(version, log_gain=log_gain, log_mtf=source.log_mtf[kernel] + log_gain)
    noise_hu = np.exp(rng.uniform(*np.log(NOISE_HU))) if rng.random() >= NOISELESS_SHARE else 0.0
    smoother = None
    if rng.random() < SMOOTHED_SHARE:
        families = list(TRAINING_SMOOTHERS)
        smoother = (families[rng.integers(len(families))], rng.uniform(*STRENGTH), rng.uniform(*THRESHOLD))
    return replace(
        version,
        noise_hu=noise_hu,
        whitening=rng.uniform(*WHITENING),
        tilt=rng.normal(0, TILT, 2),
        contrast=np.exp(rng.uniform(-CONTRAST, CONTRAST)),
        smoother=smoother,
    )


def draw_shapes(side: int, pixel_mm: float, mean_hu: float, rng: np.random.Generator) -> np.ndarray:
    """Draw ellipses, (side, side) HU to be added to a patch of some mean HU; their edges are Gaussian, of `DRAWN_MM`."""
    axis = (np.arange(side) - (side - 1) / 2) * pixel_mm
    total = np.zeros((side, side), np.float32)
    for _ in range(rng.integers(1, MOST_SHAPES + 1)):
        angle, (first, second) = rng.uniform(0, np.pi), np.exp(rng.uniform(*np.log(RADIUS_MM), 2))
        y, x = (axis - rng.uniform(*axis[[MARGIN, -MARGIN - 1]]) for _ in range(2))
        along = (x[None] * np.cos(angle) + y[:, None] * np.sin(angle)) / first
        across = (y[:, None] * np.cos(angle) - x[None] * np.sin(angle)) / second
        level = np.hypot(along, across)
        # Distance from the outline, to first order.
        distance_mm = (level - 1) * level / np.hypot(along / first, across / second).clip(1e-6)
        height = np.exp(rng.uniform(*np.log(SHAPE_HU)))
        if rng.random() < 0.5:
            height = -min(height, max(mean_hu - UNMEASURED_HU, SHAPE_HU[0]))  # not darker than air
        total += height * ndtr(-distance_mm / DRAWN_MM)
    return total


def _draw_log_gain(base: np.ndarray, nyquist: float, rng: np.random.Generator) -> np.ndarray:
    """Log gain of a filter from one curve to a kernel of the law, within what noise and rounding bear."""
    frequency = _grid(len(base))
    judged = int(min(JUDGED_LP_CM, 0.9 * nyquist) / STEP_LP_CM)
    while True:
        mtf50 = np.exp(rng.uniform(*np.log(MTF50)))
        boost = rng.uniform(*BOOST) if rng.random() < BOOSTED_SHARE else 0.0
        law = log_mtf(frequency.clip(1e-3), mtf50, mtf50 * rng.uniform(*RATIO), boost, mtf50 * rng.uniform(*PEAK))
        log_gain = law.clip(LOWEST_BASE) - base
        if LOG_GAIN[0] <= log_gain[judged] and log_gain[: judged + 1].max() <= LOG_GAIN[1]:
            return log_gain.clip(max=LOG_GAIN[1])


def series_source(
    folder: str | Path, pixel_mm: float = 0.7, patch_pixels: int = 96
) -> tuple[PatchSource, KernelEstimate] | None:
    """Cut patches of a series of DICOM files; None where nothing tells its kernel, or no patch lies within the body."""
    series = scan_folder(folder).require_one_series()
    estimate = estimate_kernel_of_series(series)
    if estimate is None:
        return None
    paths, patches = spread(series.paths, SLICES_OF_SERIES), []
    for item in (from_dicom(read_slice(path)) for path in paths):
        centres = spread(
            patch_centres(item.hu, item.spacing_mm, item.padding, pixel_mm * patch_pixels),
            -(-PATCHES_OF_SERIES // len(paths)),
        )
        patches += [_stored(item.hu, item.spacing_mm, at, pixel_mm, patch_pixels, item.padding) for at in centres]
    if not patches:
        return None
    trusted = "skin" in estimate.witnesses and estimate.level_deviation <= SUREST_LEVEL
    source = PatchSource(np.stack(patches)[:, None], _curves([estimate.law], pixel_mm), series.spacing_mm, trusted)
    return source, estimate


def scan_sources(
    folder: str | Path, seeds: Sequence[int], pixel_mm: float = 0.7, patch_pixels: int = 96
) -> list[PatchSource]:
    """Cut patches of simulated scans, those whose kernels are known; a source for every scan.

    Scans of real slices have the blur of these slices, too: they are not trusted. Every third group may be of such.
    """
    sources = []
    for seed in seeds:
        scan = read_scan(scan_path(folder, seed))
        if not len(scan.kernels):
            continue
        places = []
        for kernels_hu in scan.hu:  # [kernels,H,W]
            centres = patch_centres(kernels_hu[0].astype(np.float32), scan.spacing_mm, None, pixel_mm * patch_pixels)
            places += [
                np.stack([_stored(hu, scan.spacing_mm, centre, pixel_mm, patch_pixels) for hu in kernels_hu])
                for centre in spread(centres, PLACES_OF_SLICE)
            ]
        if places:
            trusted = (seed - SCANS[0]) // 2 % EVERY_NTH_OF_OBJECTS > 0
            sources.append(PatchSource(np.stack(places), _curves(scan.kernels, pixel_mm), scan.spacing_mm, trusted))
    return sources


def _stored(
    hu: np.ndarray,
    spacing_mm: float,
    centre: tuple[int, int],
    pixel_mm: float,
    patch_pixels: int,
    padding: np.ndarray | None = None,
) -> np.ndarray:
    """A patch with its margin (S, S) as it is stored."""
    patch = cut_patch(hu, spacing_mm, centre, pixel_mm, patch_pixels + 2 * MARGIN, padding)
    return np.round(patch / STORED_HU).clip(-32768, 32767).astype(np.int16)


def _curves(laws: Sequence[Sequence[float]], pixel_mm: float) -> np.ndarray:
    """(kernels, curve) log T up to the corner of the frequency plane."""
    frequency = np.arange(0, 5 / pixel_mm * np.sqrt(2) + STEP_LP_CM, STEP_LP_CM).clip(1e-3)
    return np.stack([log_mtf(frequency, *law) for law in laws]).clip(LOWEST_BASE)


def _grid(count: int) -> np.ndarray:
    return np.arange(count) * STEP_LP_CM


def _radial_frequency(side: int, pixel_mm: float) -> np.ndarray:
    """(side, side // 2 + 1) lp/cm."""
    return 10 * np.hypot(np.fft.fftfreq(side, pixel_mm)[:, None], np.fft.rfftfreq(side, pixel_mm)[None])
