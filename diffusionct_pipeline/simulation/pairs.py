"""Simulate pairs of images that differ only in the kernel: both are reconstructed from one noisy sinogram."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from ..physics.kernels import Kernel, get_kernel, mtf
from .degradation import smooth_like_iterative
from .phantom import ChestPhantom
from .scanner import DETECTOR_MM, LOWEST_STORED_HU, Scanner, hu_to_mu, quantize
from .shapes import AIR_HU

FADE_MM = 12.0  # a cut-off couch or arm would ring round the whole field of view
MAX_GAIN = 1 / 0.35  # when a source kernel is divided out: a higher gain would mostly amplify noise
GAIN_LIMIT_LP_CM = 8.0  # beyond this frequency nothing is amplified


@dataclass(frozen=True)
class ScanOptions:
    """Describe how a slice is scanned and reconstructed.

    Attributes:
        kernels: Names from `KERNELS` or `Kernel` objects, with different names.
        thickness_mm: Slice thickness, above 0 to 10.
        mas: Tube load per turn; None for no noise.
        size, spacing_mm, centre_mm: Image grid; pixel (size // 2, size // 2) lies at `centre_mm` (x, y).
        beam_hardening: Residual bone hardening, 0 for none; .01 is visible.
        smoothing: Strength 0 to 1 of edge-preserving smoothing by kernel name, for those that are smoothed.
        lowest_hu: Lowest value of the format; with values below -1024, noise in air and lung is not clipped.
        kernel_jitter: Each kernel's frequencies are scaled by a factor within this share of 1, drawn from the seed.

    Raises:
        ValueError: for values outside these ranges.
    """

    kernels: tuple[Kernel | str, ...] = ("Br40", "Bl64")
    thickness_mm: float = 1.0
    mas: float | None = 100.0
    size: int = 512
    spacing_mm: float = 0.7
    centre_mm: tuple[float, float] = (0.0, 0.0)
    beam_hardening: float = 0.0
    smoothing: Mapping[str, float] = field(default_factory=dict)
    lowest_hu: float = LOWEST_STORED_HU
    kernel_jitter: float = 0.0

    def __post_init__(self) -> None:
        names = [get_kernel(kernel).name for kernel in self.kernels]
        checks = [
            ("kernels", names, "at least one, all different", 0 < len(names) == len(set(names))),
            ("thickness_mm", self.thickness_mm, "above 0 to 10", 0 < self.thickness_mm <= 10),
            ("mas", self.mas, "above 0, or None for no noise", self.mas is None or self.mas > 0),
            ("size", self.size, "at least 32", self.size >= 32),
            ("spacing_mm", self.spacing_mm, "above 0 to 2", 0 < self.spacing_mm <= 2),
            ("beam_hardening", self.beam_hardening, "0 to 0.1", 0 <= self.beam_hardening <= 0.1),
            ("smoothing", dict(self.smoothing), f"kernels among {names}", set(self.smoothing) <= set(names)),
            ("smoothing", dict(self.smoothing), "0 to 1 each", all(0 <= s <= 1 for s in self.smoothing.values())),
            ("lowest_hu", self.lowest_hu, "-32768 to -1024", -32768 <= self.lowest_hu <= LOWEST_STORED_HU),
            ("kernel_jitter", self.kernel_jitter, "0 to below 1", 0 <= self.kernel_jitter < 1),
        ]
        for name, value, allowed, holds in checks:
            if not holds:
                raise ValueError(f"`{name}` must be {allowed}, got {value}")

    @property
    def kernel_objects(self) -> tuple[Kernel, ...]:
        """Return the kernels, looked up where they are given by name."""
        return tuple(get_kernel(kernel) for kernel in self.kernels)

    def with_drawn_kernels(self, generator: torch.Generator) -> ScanOptions:
        """Return the same options with `Kernel` objects instead of names, jittered if requested."""
        kernels = tuple(get_kernel(kernel).jittered(self.kernel_jitter, generator) for kernel in self.kernels)
        return replace(self, kernels=kernels, kernel_jitter=0.0)


@dataclass(frozen=True)
class SimulatedPair:
    """Hold one slice with several kernels.

    Attributes:
        hu: Kernel name -> float32 (H, W), whole HU in [`options.lowest_hu`, 3071].
        mask: uint8 (H, W), 0 or the label of the tumour; all 0 if the object's tumours are not known.
        kernels: Kernel name -> `Kernel` as used, after jitter.
        spacing_mm, centre_mm, thickness_mm, z_mm: Geometry; rows go to posterior, columns to the patient's left.
        mas: Tube load, None without noise.
        seed: Seed of the noise (and of the jitter).
        options: The options of the simulation.
    """

    hu: dict[str, np.ndarray]
    mask: np.ndarray
    kernels: dict[str, Kernel]
    z_mm: float
    seed: int
    options: ScanOptions

    @property
    def spacing_mm(self) -> float:
        """Return the side of a pixel."""
        return self.options.spacing_mm

    @property
    def centre_mm(self) -> tuple[float, float]:
        """Return (x, y) of the centre of pixel (H // 2, W // 2)."""
        return self.options.centre_mm

    @property
    def thickness_mm(self) -> float:
        """Return the thickness of the slice."""
        return self.options.thickness_mm

    @property
    def mas(self) -> float | None:
        """Return the tube load in mAs; None without noise."""
        return self.options.mas


def simulate_pair(
    phantom: ChestPhantom,
    z_mm: float,
    options: ScanOptions | None = None,
    *,
    seed: int = 0,
    scanner: Scanner | None = None,
) -> SimulatedPair:
    """Scan one slice of a phantom and reconstruct it with every kernel.

    Args:
        phantom: A `ChestPhantom`.
        z_mm: Height of the slice's middle.
        options: `ScanOptions`; None for the defaults.
        seed: Seed of noise and jitter. The same seed and options give the same images.
        scanner: A `Scanner`; None creates one on the phantom's device. Pass one to reuse its tables.

    Returns:
        SimulatedPair.
    """
    options = options or ScanOptions()
    scanner = scanner or Scanner(phantom.device)
    slab = phantom.slab_hu(z_mm, options.thickness_mm)
    # A phantom's borders are ramps of one pixel, which no scanned body has.
    crisp = lambda frequency: 1 / torch.sinc(phantom.spacing_mm * frequency)  # noqa: E731
    hu, kernels = _scan(scanner, slab, phantom.spacing_mm, options, seed, crisp)
    mask = phantom.tumour_mask(
        z_mm, options.thickness_mm, spacing_mm=options.spacing_mm, size=options.size, centre_mm=options.centre_mm
    )
    return SimulatedPair(hu, mask.cpu().numpy(), kernels, float(z_mm), seed, options)


def rekernel_slice(
    hu: torch.Tensor | np.ndarray,
    spacing_mm: float,
    options: ScanOptions | None = None,
    *,
    seed: int = 0,
    scanner: Scanner | None = None,
    source_kernel: Kernel | str | None = None,
    mask: np.ndarray | None = None,
    z_mm: float = 0.0,
) -> SimulatedPair:
    """Scan a real slice as if it were the object: its anatomy and noise, with simulated kernels and more noise.

    Use slices of sharp kernels and high dose: what the source kernel removed cannot be restored.

    Args:
        hu: (H, W) HU, full field of view; values below air (padding) become air, the border fades to air.
        spacing_mm: Its pixel size.
        options, seed, scanner: As for `simulate_pair`; `options.thickness_mm` only sets the dose.
        source_kernel: If given, its blur is divided out within bounds, so that soft kernels do not blur twice.
        mask: Tumour labels (H, W) on the slice's grid, resampled (nearest) to the new one.

    Raises:
        ValueError: if `hu` is not a square finite slice or is wider than the scanner's field of view.
    """
    options = options or ScanOptions()
    scanner = scanner or Scanner()
    hu = torch.as_tensor(hu, dtype=torch.float32)
    if hu.ndim != 2 or hu.shape[0] != hu.shape[1] or not hu.isfinite().all():
        raise ValueError(f"`hu` must be one square slice (H, H) of finite HU, got shape {tuple(hu.shape)}")
    if mask is not None and tuple(np.shape(mask)) != tuple(hu.shape):
        raise ValueError(f"`mask` must have the shape of `hu`, {tuple(hu.shape)}, got {np.shape(mask)}")
    if spacing_mm <= 0:
        raise ValueError(f"`spacing_mm` must be above 0, got {spacing_mm}")
    needed = detectors_needed(hu, spacing_mm, scanner.detector_mm)
    if needed > scanner.n_detectors:
        raise ValueError(
            f"`hu` must lie within {scanner.radius_mm:.0f} mm of the centre, which this scanner covers, got "
            f"{needed // 2 * scanner.detector_mm:.0f} mm. Pass scanner=Scanner(n_detectors={needed})"
        )
    axis = _pixel_axis(hu, spacing_mm)
    edge = axis.abs().max() - torch.maximum(axis.abs()[:, None], axis.abs()[None, :])
    fade = 0.5 - 0.5 * torch.cos(torch.pi * (edge / FADE_MM).clamp(0, 1))
    slab = AIR_HU + (hu.clamp(min=AIR_HU) - AIR_HU) * fade
    sharpen = None
    if source_kernel is not None:
        source_kernel = get_kernel(source_kernel)

        def sharpen(frequency: torch.Tensor) -> torch.Tensor:
            lp_cm = 10 * frequency
            source = mtf(lp_cm, source_kernel) * scanner.blur(frequency)
            return torch.exp(-((lp_cm / GAIN_LIMIT_LP_CM) ** 6)) / source.clamp(min=1 / MAX_GAIN)

    images, kernels = _scan(scanner, slab, spacing_mm, options, seed, sharpen)
    labels = np.zeros((options.size, options.size), np.uint8)
    if mask is not None:
        labels = _resample_labels(np.asarray(mask), spacing_mm, options)
    return SimulatedPair(images, labels, kernels, float(z_mm), seed, options)


def detectors_needed(hu: torch.Tensor, spacing_mm: float, detector_mm: float = DETECTOR_MM) -> int:
    """Return the number of detectors (even) of a `Scanner` that covers the body on a slice (H, H); air cannot ring."""
    axis = _pixel_axis(hu, spacing_mm)
    radius = torch.sqrt(axis[:, None] ** 2 + axis[None, :] ** 2)
    body = hu > -700
    return 2 * int(float(radius[body].max()) / detector_mm + 1) if body.any() else 2


def _pixel_axis(hu: torch.Tensor, spacing_mm: float) -> torch.Tensor:
    """Return positions (H,) in mm of the rows and columns of a square slice (H, H), 0 at pixel H // 2."""
    return (torch.arange(hu.shape[0]) - hu.shape[0] // 2) * spacing_mm


def _scan(
    scanner: Scanner,
    slab_hu: torch.Tensor,
    slab_spacing_mm: float,
    options: ScanOptions,
    seed: int,
    object_transfer: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, Kernel]]:
    """Return {name: hu} and {name: kernel} of a noise-free slab."""
    generator = torch.Generator().manual_seed(seed)
    options = options.with_drawn_kernels(generator)
    # 1. One sinogram, with everything that the kernels share.
    mu = hu_to_mu(slab_hu.to(scanner.device))
    sinogram = scanner.project(mu, slab_spacing_mm, object_transfer)
    if options.beam_hardening:
        sinogram = scanner.harden(sinogram, mu, slab_spacing_mm, options.beam_hardening)
    if options.mas is not None:
        sinogram = scanner.add_noise(sinogram, options.mas, options.thickness_mm, generator)
    # 2. One image per kernel from it.
    images, kernels = {}, options.kernel_objects
    for kernel in kernels:
        hu = scanner.reconstruct(
            sinogram, kernel, size=options.size, spacing_mm=options.spacing_mm, centre_mm=options.centre_mm
        )
        hu = smooth_like_iterative(hu, options.smoothing.get(kernel.name, 0.0))
        images[kernel.name] = quantize(hu, options.lowest_hu).cpu().numpy()
    return images, {kernel.name: kernel for kernel in kernels}


def _resample_labels(mask: np.ndarray, spacing_mm: float, options: ScanOptions) -> np.ndarray:
    def index(offset_mm: float) -> np.ndarray:
        position = (np.arange(options.size) - options.size // 2) * options.spacing_mm + offset_mm
        return np.round(position / spacing_mm).astype(int) + mask.shape[0] // 2

    columns, rows = index(options.centre_mm[0]), index(options.centre_mm[1])
    padded = np.pad(mask.astype(np.uint8), 1)  # outside the source there is no tumour
    return padded[np.ix_(np.clip(rows + 1, 0, len(mask) + 1), np.clip(columns + 1, 0, len(mask) + 1))]
