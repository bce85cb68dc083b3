"""Paired CT series of phantoms on disk: `OUT/phantom_<seed>/<kernel>/*.dcm`, each as `write_series` writes it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ..seeds import derive_seed
from .ct_series import write_series
from .pairs import ScanOptions, SimulatedPair, simulate_pair
from .phantom import ChestPhantom
from .scanner import Scanner

TUMOUR_MARGIN_MM = 4.0  # slices beyond the tumours when they set the range

NumberOrRange = float | tuple[float, float]


@dataclass(frozen=True)
class SeriesOptions:
    """Which phantoms are scanned, and how.

    Attributes:
        kernels: Kernel names.
        thickness_mm: Slice thickness and distance.
        phantoms: How many; phantom i has seed `seed + i`, so ranges of seeds do not overlap.
        seed: First seed.
        slices: Slices per phantom, centred on its first tumour; None takes those that show all tumours.
        style: "human" or "lungman".
        mas, spacing_mm: A number, or (low, high) to draw one per phantom.
        size, kernel_jitter, beam_hardening, smoothing: As in `ScanOptions`; jitter is drawn once per phantom.

    Raises:
        ValueError: for values outside these ranges.
    """

    kernels: Sequence[str] = ("Br40", "Bl64")
    thickness_mm: float = 1.0
    phantoms: int = 3
    seed: int = 0
    slices: int | None = None
    style: str = "human"
    mas: NumberOrRange = 100.0
    spacing_mm: NumberOrRange = 0.7
    size: int = 512
    kernel_jitter: float = 0.0
    beam_hardening: float = 0.0
    smoothing: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.phantoms < 1:
            raise ValueError(f"phantoms is {self.phantoms}; legal is at least 1")
        if self.slices is not None and self.slices < 1:
            raise ValueError(f"slices is {self.slices}; legal is at least 1, or None for all that show tumours")
        for name in ("mas", "spacing_mm"):
            value = getattr(self, name)
            if isinstance(value, (tuple, list)) and not (len(value) == 2 and value[0] <= value[1]):
                raise ValueError(f"{name} is {value}; legal is a number or (low, high)")
        self.scan_options(self.seed)  # checks the others

    @property
    def seeds(self) -> range:
        """Seeds of the phantoms."""
        return range(self.seed, self.seed + self.phantoms)

    def scan_options(self, phantom_seed: int) -> ScanOptions:
        """What is constant within the series of a phantom, drawn from its seed."""
        generator = torch.Generator().manual_seed(derive_seed(phantom_seed, "scan"))
        options = ScanOptions(
            kernels=tuple(self.kernels),
            thickness_mm=self.thickness_mm,
            mas=_draw(self.mas, generator),
            size=self.size,
            spacing_mm=_draw(self.spacing_mm, generator),
            beam_hardening=self.beam_hardening,
            smoothing=self.smoothing,
            kernel_jitter=self.kernel_jitter,
        )
        return options.with_drawn_kernels(generator)


def simulate(
    out: str | Path,
    options: SeriesOptions | None = None,
    *,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Simulate paired CT series of phantoms, with tumour masks.

    Args:
        out: Folder to write to; phantoms that are already there are refused before any work is done.
        options: None takes the defaults.
        device: Where to compute.
        progress: Called as progress(done, total) after each slice, all phantoms together.

    Returns:
        Paths of the phantoms' folders.

    Raises:
        ValueError: if the slices do not fit into a phantom. FileExistsError: for a phantom that is already in `out`.
    """
    options = options or SeriesOptions()
    folders = [Path(out) / f"phantom_{seed:04d}" for seed in options.seeds]
    for folder in folders:
        if folder.exists():
            raise FileExistsError(f'"{folder}" exists already; choose a new folder or another seed')
    # 1. The phantoms, and where they are cut.
    phantoms = [ChestPhantom(seed, options.style, device=device) for seed in options.seeds]
    heights = [_heights(phantom, options.slices, options.thickness_mm) for phantom in phantoms]
    # 2. Scan and write slice by slice.
    scanner, done, total = Scanner(device), 0, sum(map(len, heights))

    def scan(phantom: ChestPhantom, positions: list[float]) -> Iterator[SimulatedPair]:
        nonlocal done
        scan_options = options.scan_options(phantom.seed)
        for index, z_mm in enumerate(positions):
            slice_seed = derive_seed(phantom.seed, f"slice {index}")
            yield simulate_pair(phantom, z_mm, scan_options, seed=slice_seed, scanner=scanner)
            done += 1
            if progress is not None:
                progress(done, total)

    for folder, phantom, positions in zip(folders, phantoms, heights):
        tumours = [
            {"label": t.label, "kind": t.kind, "centre_mm": t.centre_mm, "radius_mm": t.radius_mm}
            for t in phantom.tumours
        ]
        about = {"phantom_seed": phantom.seed, "style": options.style, "tumours": tumours}
        write_series(folder, scan(phantom, positions), about=about)
    return folders


def _draw(value: NumberOrRange, generator: torch.Generator) -> float:
    if isinstance(value, (tuple, list)):
        return value[0] + (value[1] - value[0]) * torch.rand(1, generator=generator).item()
    return value


def _heights(phantom: ChestPhantom, slices: int | None, thickness_mm: float) -> list[float]:
    """Heights of the slices: round the first tumour, or over all tumours, inside the phantom."""
    low_limit, high_limit = (z + s * thickness_mm / 2 for z, s in zip(phantom.z_range_mm, (1, -1)))
    if slices is None:
        low = min(t.centre_mm[2] - t.radius_mm for t in phantom.tumours) - TUMOUR_MARGIN_MM
        high = max(t.centre_mm[2] + t.radius_mm for t in phantom.tumours) + TUMOUR_MARGIN_MM
        slices = math.ceil((high - low) / thickness_mm) + 1
        middle = (low + high) / 2
    else:
        middle = phantom.tumours[0].centre_mm[2]
    if (slices - 1) * thickness_mm > high_limit - low_limit:
        most = int((high_limit - low_limit) / thickness_mm) + 1
        raise ValueError(f"slices is {slices}; at {thickness_mm} mm this phantom has room for {most}")
    start = middle - (slices - 1) / 2 * thickness_mm
    start = min(max(start, low_limit), high_limit - (slices - 1) * thickness_mm)
    start = round(start, 1)  # tidy positions in the headers
    start = min(max(start, low_limit), high_limit - (slices - 1) * thickness_mm)
    return [round(start + i * thickness_mm, 4) for i in range(slices)]
