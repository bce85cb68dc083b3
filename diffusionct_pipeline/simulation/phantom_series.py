"""Write paired CT series of phantoms to disk: `OUT/phantom_<seed>/<kernel>/*.dcm`, each by `write_series`."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..utils.files import locked_folder
from ..utils.seeds import derive_seed
from .ct_series import is_written, write_series
from .pairs import ScanOptions, SimulatedPair, simulate_pair
from .phantom import ChestPhantom
from .scanner import Scanner

TUMOUR_MARGIN_MM = 4.0  # slices beyond the tumours when they set the range

NumberOrRange = float | tuple[float, float]


@dataclass(frozen=True)
class SeriesOptions:
    """Describe which phantoms are scanned, and how.

    Attributes:
        kernels: Kernel names.
        thickness_mm: Slice thickness and distance between slices.
        phantoms: Number of phantoms; phantom i has seed `seed + i`.
        seed: First seed.
        slices: Slices per phantom, centred on its first tumour; None for those that show all tumours.
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
            raise ValueError(f"`phantoms` must be at least 1, got {self.phantoms}")
        if self.slices is not None and self.slices < 1:
            raise ValueError(f"`slices` must be at least 1, or None for all that show tumours, got {self.slices}")
        for name in ("mas", "spacing_mm"):
            value = getattr(self, name)
            if isinstance(value, (tuple, list)) and not (len(value) == 2 and value[0] <= value[1]):
                raise ValueError(f"`{name}` must be a number or (low, high), got {value}")
        self.scan_options(self.seed)  # checks the others

    @property
    def seeds(self) -> range:
        """Return the seeds of the phantoms."""
        return range(self.seed, self.seed + self.phantoms)

    def scan_options(self, phantom_seed: int) -> ScanOptions:
        """Return the options that are constant within the series of a phantom, drawn from its seed."""
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

    An interrupted run is resumed: phantoms that an earlier run with the same options has finished are kept.

    Args:
        out: Folder to write to; an existing folder in the place of a phantom that is not of this run is refused first.
        options: None for the defaults.
        device: Device to compute on.
        progress: Called as progress(done, total) after each slice, counting all phantoms.

    Returns:
        Paths of the phantoms' folders.

    Raises:
        ValueError: if the slices do not fit into a phantom.
        FileExistsError: for a phantom of other options, or anything else, in the place of one.
        BlockingIOError: if another run is writing a phantom.
    """
    options = options or SeriesOptions()
    folders = [Path(out) / f"phantom_{seed:04d}" for seed in options.seeds]
    # 1. The phantoms, the heights of their slices, and which are finished.
    phantoms = [ChestPhantom(seed, options.style, device=device) for seed in options.seeds]
    heights = [_heights(phantom, options.slices, options.thickness_mm) for phantom in phantoms]
    about = [_about(phantom, options.style) for phantom in phantoms]
    scans = [options.scan_options(phantom.seed) for phantom in phantoms]
    seeds = [[_slice_seed(phantom, i) for i in range(len(z))] for phantom, z in zip(phantoms, heights)]
    finished = [is_written(*of_one) for of_one in zip(folders, scans, heights, seeds, about)]
    for folder, is_finished in zip(folders, finished):
        if folder.exists() and not is_finished:
            raise FileExistsError(
                f'"{folder}" exists already and does not belong to this run; choose a new folder or another seed'
            )
    # 2. Scan and write slice by slice.
    scanner, done, total = Scanner(device), 0, sum(map(len, heights))

    def scan(number: int) -> Iterator[SimulatedPair]:
        nonlocal done
        for z_mm, seed in zip(heights[number], seeds[number]):
            yield simulate_pair(phantoms[number], z_mm, scans[number], seed=seed, scanner=scanner)
            done += 1
            if progress is not None:
                progress(done, total)

    for number, folder in enumerate(folders):
        if finished[number]:
            done += len(heights[number])
            if progress is not None:
                progress(done, total)
            continue
        work = folder.with_name(f".{folder.name}.part")  # leftovers of a killed run there belong to this phantom
        with locked_folder(work):
            for left in work.glob(".*.part"):
                shutil.rmtree(left, ignore_errors=True)
            write_series(folder, scan(number), about=about[number], temporaries=work)
        shutil.rmtree(work, ignore_errors=True)
    return folders


def _about(phantom: ChestPhantom, style: str) -> dict[str, Any]:
    """Return the facts on a phantom for the sidecar."""
    tumours = [
        {"label": t.label, "kind": t.kind, "centre_mm": t.centre_mm, "radius_mm": t.radius_mm} for t in phantom.tumours
    ]
    return {"phantom_seed": phantom.seed, "style": style, "tumours": tumours}


def _slice_seed(phantom: ChestPhantom, index: int) -> int:
    """Return the seed of the noise of a slice."""
    return derive_seed(phantom.seed, f"slice {index}")


def _draw(value: NumberOrRange, generator: torch.Generator) -> float:
    if isinstance(value, (tuple, list)):
        return value[0] + (value[1] - value[0]) * torch.rand(1, generator=generator).item()
    return value


def _heights(phantom: ChestPhantom, slices: int | None, thickness_mm: float) -> list[float]:
    """Return the heights of the slices: round the first tumour, or over all tumours, inside the phantom."""
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
        raise ValueError(f"`slices` must be at most {most} for this phantom at {thickness_mm} mm, got {slices}")
    start = middle - (slices - 1) / 2 * thickness_mm
    start = min(max(start, low_limit), high_limit - (slices - 1) * thickness_mm)
    start = round(start, 1)  # tidy positions in the headers
    start = min(max(start, low_limit), high_limit - (slices - 1) * thickness_mm)
    return [round(start + i * thickness_mm, 4) for i in range(slices)]
