"""Training data of both phases: scans of phantoms and of sharp CT in the projection domain, and filtered real scans.

    FOLDER/scan_00500.npz    one scan: several slices, each under several kernels from one noisy sinogram, or under filters

Scans 2k and 2k + 1 are a group: different objects, doses, pixels and slice thicknesses under the same kernels, so that
each is a reference for the other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ...image_processor import GRID
from ...physics.kernels import get_kernel
from ...simulation import (
    KERNELS,
    ChestPhantom,
    Kernel,
    Scanner,
    ScanOptions,
    SimulatedPair,
    detectors_needed,
    rekernel_slice,
    simulate_pair,
)
from ...simulation.splits import SCANS, take
from ...utils.files import whole_file
from .filtered_scans import draw_filters, filter_scan
from .objects import TrainingObject

SLICES = 4  # of each scan
KERNELS_OF_SCAN = 5
SOFT_KERNELS = ("Br36", "Br40", "Br44", "B30f", "GE_STANDARD")
THICKNESS_MM = (1.0, 1.0, 1.5, 2.0, 3.0, 5.0)
LOWEST_MAS, HIGHEST_MAS = 20, 300
HIGHEST_MAS_OF_OBJECTS = 100  # objects have noise of their own, with a narrow spectrum: exceed it
EVERY_NTH_OF_OBJECTS = 3  # every third group scans objects
JITTER = 0.04  # of the frequencies of tabulated kernels
UNCUT_HU = -2048.0  # no vendor's format stores less
# Whitening of the scanners in cm^2, see `Scanner`: that of real ones with filtered backprojection, or in some scans any.
USUAL_WHITENING, ANY_WHITENING, USUAL_SHARE = (0.04, 0.07), (0.01, 0.075), 0.7
LEAST_BLUR = 0.1  # transfer of a scanner at the MTF50 of its sharpest kernel
FOCAL_SHARE = (0.35, 0.6)  # of the whitening, due to the focal spot; the rest is due to the detector cell
NEAR_TUMOUR = 0.6  # of its radius
SMALLEST_SIZE = 64  # pixels


@dataclass(frozen=True)
class StoredScan:
    """One scan.

    Attributes:
        hu: int16 (slices, kernels, H, W), not clipped at -1024.
        spacing_mm: Side of a pixel.
        has_standard: Whether the first kernel is the standard.
        kernels: (kernels, 4) MTF50, MTF10, boost and boost peak, see `Kernel`; empty where they are not known.
        filters: (kernels, 4) filters after these kernels, see `draw_filters`; empty for simulated scans.
        blur_mm: (2,) aperture and focal spot of the scanner; empty where they are not known.
    """

    hu: np.ndarray
    spacing_mm: float
    has_standard: bool
    kernels: np.ndarray
    filters: np.ndarray
    blur_mm: np.ndarray


def simulate_groups(
    folder: str | Path,
    groups: int,
    objects: Sequence[TrainingObject] = (),
    filtered_groups: int = 0,
    filtered: Sequence[TrainingObject] = (),
    standard_kernel: str = "Bl64",
    size: int = 512,
    process: int = 0,
    processes: int = 1,
    max_seconds: float = 0.0,
    progress: Callable[[int], None] = lambda group: None,
) -> None:
    """Simulate and store groups of scans; existing ones are kept.

    Every third group scans `objects` again (20 to 100 mAs, 1 mm), where there are any, and the others scan phantoms (20 to
    300 mAs, 1 to 5 mm). Pixels are 0.5 to 0.9 mm; there are five kernels: the standard, two of the table, a soft one and
    one of any shape. Filtered groups follow these.

    Args:
        folder: Output folder.
        groups: Number of simulated groups; group k has the seeds 2k and 2k + 1 of the split `SCANS`.
        objects: Sharp slices.
        filtered_groups: Number of groups of `filtered`.
        filtered: Slices of any kernel, see filtered_scans.py.
        standard_kernel: First kernel of every scan.
        size: Side of a slice in pixels.
        process, processes: This process makes the groups k with k % processes == process.
        max_seconds: Start no group after this time; 0 means no limit.
        progress: Called with the number of each finished group.

    Raises:
        ValueError: for a size that the networks cannot process, an unknown kernel, more groups than the split has seeds,
            or filtered groups without slices.
    """
    if filtered_groups and not filtered:
        raise ValueError(f"`filtered_groups` must be 0 where `filtered` is empty, got {filtered_groups}.")
    if size < SMALLEST_SIZE or size % GRID:
        raise ValueError(f"`size` must be a multiple of {GRID} and at least {SMALLEST_SIZE}, got {size}.")
    get_kernel(standard_kernel)
    folder, started = Path(folder), time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    widest = max([detectors_needed(item.hu, item.spacing_mm) for item in objects], default=0)
    for index in range(process, groups + filtered_groups, processes):
        if max_seconds and time.monotonic() - started > max_seconds:
            return
        first, second = take(SCANS, 2, 2 * index)
        generator = torch.Generator().manual_seed(first)
        is_filtered = index >= groups
        is_of_objects = bool(objects) and index % EVERY_NTH_OF_OBJECTS == 0
        n_detectors = max(widest, Scanner().n_detectors) if is_of_objects else Scanner().n_detectors
        scanners = [] if is_filtered else [_scanner(n_detectors, generator) for _ in range(2)]
        filters = draw_filters(KERNELS_OF_SCAN, generator) if is_filtered else []
        kernels = [] if is_filtered else _kernels(standard_kernel, scanners, generator)
        for place, seed in enumerate((first, second)):
            if scan_path(folder, seed).exists():
                continue
            laws = [(kernel.mtf50, kernel.mtf10, kernel.boost, kernel.boost_peak) for kernel in kernels]
            if is_filtered:
                own = torch.Generator().manual_seed(seed)
                hu, spacing_mm, law = filter_scan(filtered, filters, SLICES, size, UNCUT_HU, own)
                laws = [] if law is None else [law] * len(filters)
            elif is_of_objects:
                hu, spacing_mm = _stacked(_scan_objects(seed, objects, kernels, size, scanners[place]))
            else:
                hu, spacing_mm = _stacked(_scan_phantom(seed, kernels, size, scanners[place]))
            blur_mm = [] if is_filtered else [scanners[place].aperture_mm, scanners[place].focal_mm]
            with whole_file(scan_path(folder, seed)) as part, open(part, "wb") as file:
                np.savez(
                    file, hu=hu, spacing_mm=np.float32(spacing_mm), has_standard=not is_filtered,
                    kernels=np.reshape(laws, (-1, 4)), filters=np.reshape(filters, (-1, 4)), blur_mm=np.array(blur_mm),
                )  # fmt: skip
        progress(index)


def scan_path(folder: str | Path, seed: int) -> Path:
    """Return the file of a scan."""
    return Path(folder) / f"scan_{seed:05d}.npz"


def stored_groups(folder: str | Path) -> list[tuple[int, int]]:
    """Return the seeds of the two scans of every complete group, in order.

    Raises:
        ValueError: if there is no complete group.
    """
    seeds = {int(path.stem.removeprefix("scan_")) for path in Path(folder).glob("scan_*.npz")}
    groups = [(seed, seed + 1) for seed in sorted(seeds) if (seed - SCANS[0]) % 2 == 0 and seed + 1 in seeds]
    if not groups:
        raise ValueError(f'"{folder}" holds no group of scans; run training/simulate_scans.py first.')
    return groups


def read_scan(path: str | Path) -> StoredScan:
    """Read a scan."""
    with np.load(path) as stored:
        return StoredScan(
            stored["hu"], float(stored["spacing_mm"]), bool(stored["has_standard"]), stored["kernels"], stored["filters"],
            stored["blur_mm"],
        )  # fmt: skip


def _scan_phantom(seed: int, kernels: list[Kernel], size: int, scanner: Scanner) -> list[SimulatedPair]:
    """Scan two slices anywhere and two through tumours."""
    generator = torch.Generator().manual_seed(seed)
    mas, spacing_mm = _dose_and_spacing(generator, HIGHEST_MAS)
    thickness_mm = THICKNESS_MM[_choose(len(THICKNESS_MM), generator)]
    options = _options(kernels, mas, spacing_mm, size, thickness_mm)
    phantom = ChestPhantom(seed, style="human" if seed % 3 else "lungman")
    low, high = (z + side * thickness_mm / 2 for z, side in zip(phantom.z_range_mm, (1, -1)))
    heights = [low + (high - low) * (0.05 + 0.9 * _uniform(generator)) for _ in range(SLICES // 2)]
    for _ in range(SLICES // 2):
        tumour = phantom.tumours[_choose(len(phantom.tumours), generator)]
        z = tumour.centre_mm[2] + (2 * _uniform(generator) - 1) * NEAR_TUMOUR * tumour.radius_mm
        heights.append(min(max(z, low), high))
    return [simulate_pair(phantom, z, options, seed=SLICES * seed + i, scanner=scanner) for i, z in enumerate(heights)]


def _scan_objects(
    seed: int, objects: Sequence[TrainingObject], kernels: list[Kernel], size: int, scanner: Scanner
) -> list[SimulatedPair]:
    """Scan slices of one pixel spacing, which are most likely of one patient."""
    generator = torch.Generator().manual_seed(seed)
    mas, spacing_mm = _dose_and_spacing(generator, HIGHEST_MAS_OF_OBJECTS)
    options = _options(kernels, mas, spacing_mm, size)
    first = objects[_choose(len(objects), generator)]
    same = [item for item in objects if item.spacing_mm == first.spacing_mm]
    slices = [same[_choose(len(same), generator)] for _ in range(SLICES)]
    return [
        rekernel_slice(item.hu, item.spacing_mm, options, seed=SLICES * seed + i, scanner=scanner)
        for i, item in enumerate(slices)
    ]


def _stacked(slices: Sequence[SimulatedPair]) -> tuple[np.ndarray, float]:
    """Return int16 HU (slices, kernels, H, W) and the side of a pixel in mm."""
    return np.stack([np.stack(list(one.hu.values())) for one in slices]).astype(np.int16), slices[0].spacing_mm


def _dose_and_spacing(generator: torch.Generator, highest_mas: float) -> tuple[float, float]:
    mas = LOWEST_MAS * (highest_mas / LOWEST_MAS) ** _uniform(generator)
    return mas, round(0.5 + 0.4 * _uniform(generator), 3)


def _options(kernels: list[Kernel], mas: float, spacing_mm: float, size: int, thickness_mm: float = 1.0) -> ScanOptions:
    return ScanOptions(
        kernels=tuple(kernels), mas=mas, spacing_mm=spacing_mm, size=size, thickness_mm=thickness_mm, lowest_hu=UNCUT_HU
    )


def _scanner(n_detectors: int, generator: torch.Generator) -> Scanner:
    """Draw a scanner whose noise spectrum is as much whiter than its edges as that of real ones."""
    low, high = USUAL_WHITENING if _uniform(generator) < USUAL_SHARE else ANY_WHITENING
    square_mm = (low + (high - low) * _uniform(generator)) * 300 / torch.pi**2  # of aperture and focal spot together
    focal = FOCAL_SHARE[0] + (FOCAL_SHARE[1] - FOCAL_SHARE[0]) * _uniform(generator)
    return Scanner(
        n_detectors=n_detectors, aperture_mm=(square_mm * (1 - focal)) ** 0.5, focal_mm=(square_mm * focal) ** 0.5
    )


def _kernels(standard_kernel: str, scanners: Sequence[Scanner], generator: torch.Generator) -> list[Kernel]:
    """Draw the standard, two kernels of the table and a soft one, jittered by up to 4 %, and one of any shape.

    None is much sharper than the scanners allow, see `LEAST_BLUR`.
    """

    def fits(kernel: Kernel) -> bool:
        return all(float(scanner.blur(torch.tensor(kernel.mtf50 / 10))) >= LEAST_BLUR for scanner in scanners)

    names = [name for name in KERNELS if name != standard_kernel and fits(KERNELS[name])]
    picked = torch.randperm(len(names), generator=generator)[:2].tolist()
    kernels = [get_kernel(standard_kernel), *(KERNELS[names[i]].jittered(JITTER, generator) for i in picked)]
    soft = KERNELS[SOFT_KERNELS[_choose(len(SOFT_KERNELS), generator)]].jittered(JITTER, generator)
    kernels.append(Kernel("soft", soft.mtf50, soft.mtf10, soft.boost, soft.boost_peak))
    while True:
        sharpness, ratio, boost, peak = torch.rand(4, generator=generator).tolist()
        mtf50 = 2.2 * 5**sharpness
        boost = 1.5 * boost * int(_uniform(generator) < 0.5)
        kernel = Kernel("random", mtf50, mtf50 * (1.3 + 0.9 * ratio), boost, 1.5 + 4.5 * peak)
        if fits(kernel):
            return [*kernels, kernel]


def _choose(count: int, generator: torch.Generator) -> int:
    return int(_uniform(generator) * count)


def _uniform(generator: torch.Generator) -> float:
    return torch.rand(1, generator=generator).item()
