"""The test sets: tumours in the source's and in the target's kernel, simulated from seeds or read."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch

from ... import physics, simulation
from ...dicom import read_series, read_slice
from ...image_processor import hu_with_air_padding
from ...metrics.regions import TUMOUR_PIXELS, spread, tumour_sized_squares
from ...simulation import Scanner, ScanOptions, rekernel_slice, simulate_pair
from ...simulation.degradation import smooth
from ...simulation.splits import IMAGE_PAIRS, TEST, take
from ...simulation.tumour_pairs import NEXT_SCAN, SOURCE, TARGET, phantom_and_tumour
from ...train.data.objects import TrainingObject
from ...utils.files import whole_file
from ...utils.seeds import derive_seed
from ..systems import FittingPair
from .options import StudyOptions

Progress: TypeAlias = Callable[[str, int, int], None]  # what, done, total

FITTING_TUMOURS = 6  # scans of training phantoms that systems without training are fitted on, one slice of each
REAL_SLICES = 4
REKERNEL_MAS = 400.0  # the scanned slice already has noise


@dataclass(frozen=True, eq=False)
class Case:
    """One tumour, or squares of one slice, in both kernels.

    Attributes:
        name: Name of the case.
        source, target: (S, H, W) float32 HU, as files store them.
        regions: (S, H, W) bool each: where features are measured.
        spacing_mm, thickness_mm: Of a pixel and a slice; slices are contiguous.
        fold: Index in `TestSet.fittings` of what systems are fitted on for this case.
        repeat: The target's kernel with other noise, where there is such a scan.
    """

    name: str
    source: np.ndarray
    target: np.ndarray
    regions: list[np.ndarray]
    spacing_mm: float
    thickness_mm: float
    fold: int = 0
    repeat: np.ndarray | None = None

    @property
    def positions_mm(self) -> list[float]:
        """Positions of the slices along their normal."""
        return [self.thickness_mm * i for i in range(len(self.source))]


@dataclass(frozen=True, eq=False)
class TestSet:
    """Cases that are evaluated together.

    Attributes:
        name: Name in tables and, as `stem`, in file names.
        about: A sentence that describes it.
        target_kernel: Its name, or "" for one that systems with a fixed target do not produce.
        cases: The cases.
        fittings: What systems may learn from, by fold; none of it is tested.
        shown: Whether a report shows a picture; never of patients.
    """

    __test__ = False  # pytest must not collect it

    name: str
    about: str
    target_kernel: str
    cases: list[Case]
    fittings: list[list[FittingPair]]
    shown: bool = True

    @property
    def stem(self) -> str:
        """The name as part of a file name."""
        return "".join(c if c.isalnum() else "_" for c in self.name.lower()).strip("_").replace("__", "_")


@dataclass(frozen=True)
class Protocol:
    """Protocol that phantoms are scanned under.

    Attributes:
        name, about: As in `TestSet`.
        thickness_mm: Of a slice.
        mas, spacing_mm: (low, high), drawn for each phantom; the tube load log-uniformly.
        smoothings: Family and strength of the smoothing of the source, in turn; empty: as reconstructed.
    """

    name: str
    about: str
    thickness_mm: float
    mas: tuple[float, float]
    spacing_mm: tuple[float, float]
    smoothings: Sequence[tuple[str, float]] = ()


DOSES, PIXELS = (20.0, 150.0), (0.55, 0.85)
PROTOCOLS = (
    Protocol(
        "phantom 5 mm",
        f"{SOURCE} to {TARGET} of one noisy sinogram, slices of 5 mm, 100 mAs, pixels of 0.7 mm: the paper's phantom test",
        5.0, (100.0, 100.0), (0.7, 0.7),
    ),
    Protocol(
        "phantom 1 mm",
        f"{SOURCE} to {TARGET}, slices of 1 mm at 20 to 150 mAs, pixels of 0.55 to 0.85 mm",
        1.0, DOSES, PIXELS,
    ),
    Protocol(
        "phantom 1 mm, smoothed",
        "the same scans, the source smoothed by a bilateral filter (as in the training of DiffusionCT), non-local means or "
        "total variation (in no training), in turn",
        1.0, DOSES, PIXELS,
        (("bilateral", 0.6), ("non-local means", 1.0), ("total variation", 1.0)),
    ),
)  # fmt: skip
REKERNELLED, PAIR = "re-kernelled", "pair"
SETS = (*(protocol.name for protocol in PROTOCOLS), REKERNELLED, PAIR)


class ScanStore:
    """Simulated scans on disk, by the hash of everything they depend on.

    Args:
        folder: Where they are kept; created with the first file.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._scanner: Scanner | None = None
        self.code = hashlib.sha256(f"{torch.__version__} {np.__version__}".encode())
        for package in (physics, simulation):
            for path in sorted(Path(package.__path__[0]).rglob("*")):
                if path.suffix in (".py", ".json"):
                    self.code.update(path.read_bytes())

    def tumour(
        self, seed: int, index: int, kernels: Sequence[str], protocol: Protocol, slices: int, size: int, repeat: int = 0
    ) -> tuple[dict[str, np.ndarray], np.ndarray, float]:
        """Scan one tumour of a phantom.

        Args:
            seed: Of phantom, protocol and noise.
            index: See `phantom_and_tumour`.
            kernels: Names.
            protocol: Thickness, dose and pixels; its smoothings are not applied here.
            slices: Maximum number, about the middle of the tumour.
            size: Side of the image in pixels; below 512, it is centred on the tumour.
            repeat: Number of the scan: each has other noise.

        Returns:
            Kernel -> (S, H, W) float32 HU; the tumour, (S, H, W) bool; the side of a pixel in mm.
        """
        digest = self.code.copy()
        scanned = (protocol.thickness_mm, protocol.mas, protocol.spacing_mm)
        digest.update(repr((seed, index, tuple(kernels), scanned, slices, size, repeat)).encode())
        path = self.folder / f"{digest.hexdigest()}.npz"
        if not path.exists():
            made = self._scan(seed, index, kernels, protocol, slices, size, repeat)
            with whole_file(path) as whole, open(whole, "wb") as file:
                np.savez_compressed(file, **made)  # type: ignore[arg-type]  # numpy takes arrays by any name
        with np.load(path) as stored:
            hu = {kernel: stored[kernel].astype(np.float32) for kernel in kernels}
            return hu, stored["mask"], float(stored["spacing_mm"])

    def _scan(
        self, seed: int, index: int, kernels: Sequence[str], protocol: Protocol, slices: int, size: int, repeat: int
    ) -> dict[str, np.ndarray]:
        self._scanner = self._scanner or Scanner()
        phantom, tumour = phantom_and_tumour(seed, index)
        generator = torch.Generator().manual_seed(derive_seed(seed, "protocol"))
        dose, pixel = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
        (least, most), (small, large) = protocol.mas, protocol.spacing_mm
        options = ScanOptions(
            kernels=tuple(kernels), thickness_mm=protocol.thickness_mm, mas=least * (most / least) ** dose, size=size,
            spacing_mm=round(small + (large - small) * pixel, 3),
            centre_mm=tumour.centre_mm[:2] if size < 512 else (0.0, 0.0),
        )  # fmt: skip
        count = min(slices, max(1, math.floor(2 * tumour.radius_mm / protocol.thickness_mm)))
        pairs = []
        for number in range(count):
            z = tumour.centre_mm[2] + protocol.thickness_mm * (number - (count - 1) / 2)
            noise = derive_seed(seed + NEXT_SCAN * repeat, f"slice {number}")
            pairs.append(simulate_pair(phantom, z, options, seed=noise, scanner=self._scanner))
        hu = {kernel: np.stack([pair.hu[kernel] for pair in pairs]).astype(np.int16) for kernel in kernels}
        mask = np.stack([pair.mask == tumour.label for pair in pairs])
        return hu | {"mask": mask, "spacing_mm": np.array(options.spacing_mm)}


def make_test_sets(options: StudyOptions, store: ScanStore, tell: Progress) -> Iterator[TestSet]:
    """Yield the test sets of a study; `tell(what, done, total)` is called after each simulated tumour."""
    wanted = options.sets or SETS
    for protocol in PROTOCOLS:
        if protocol.name in wanted:
            yield phantom_set(protocol, options, store, tell)
    if options.rekernel is not None and REKERNELLED in wanted:
        yield rekernelled_set(options.rekernel)
    if options.pair is not None and PAIR in wanted:
        yield from pair_sets(*options.pair)


def phantom_set(protocol: Protocol, options: StudyOptions, store: ScanStore, tell: Progress) -> TestSet:
    """Simulate tumours of phantoms of the test split; systems are fitted on training phantoms under the same protocol."""

    def scan(seed: int, index: int, slices: int, repeat: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
        hu, mask, spacing_mm = store.tumour(seed, index, (SOURCE, TARGET), protocol, slices, options.size, repeat)
        source = hu[SOURCE]
        if protocol.smoothings:
            family, strength = protocol.smoothings[index % len(protocol.smoothings)]
            source = np.stack([smooth(torch.from_numpy(one), family, strength).round().numpy() for one in source])
        return source, hu[TARGET], mask, spacing_mm

    cases = []
    for index, seed in enumerate(take(TEST, options.tumours)):
        source, target, mask, spacing_mm = scan(seed, index, options.slices)
        repeat = scan(seed, index, options.slices, repeat=1)[1]
        name = f"phantom {seed}"
        cases.append(Case(name, source, target, [mask], spacing_mm, protocol.thickness_mm, repeat=repeat))
        tell(f"scans, {protocol.name}", len(cases), options.tumours)
    known = []
    for index, seed in enumerate(take(IMAGE_PAIRS, FITTING_TUMOURS)):
        source, target, _, spacing_mm = scan(seed, index, 1)
        known.append(FittingPair(source[0], target[0], spacing_mm))
    return TestSet(protocol.name, protocol.about, TARGET, cases, [known])


def tested_slices(tumours: int) -> list[TrainingObject]:
    """Return noise-free slices through the tested tumours, which a leaky split trains on."""
    slices = []
    for index, seed in enumerate(take(TEST, tumours)):
        phantom, tumour = phantom_and_tumour(seed, index)
        hu = phantom.slice_hu(tumour.centre_mm[2]).round().to(torch.int16).cpu()
        slices.append(TrainingObject(hu, phantom.spacing_mm))
    return slices


def rekernelled_set(folder: Path) -> TestSet:
    """Scan slices of a real sharp series again by the simulator; systems are fitted on the slice farthest away."""
    images = []
    for i, item in enumerate(spread(read_series(folder), REAL_SLICES)):
        hu = hu_with_air_padding(item)
        settings = ScanOptions(kernels=(SOURCE, TARGET), mas=REKERNEL_MAS, size=len(hu), spacing_mm=item.spacing_mm)
        pair = rekernel_slice(hu, item.spacing_mm, settings, seed=i)
        images.append((pair.hu[SOURCE], pair.hu[TARGET], item.spacing_mm, tumour_sized_squares(pair.hu[SOURCE])))
    about = (
        f"{len(images)} slices of a real series, scanned again: {SOURCE} to {TARGET}, squares of {TUMOUR_PIXELS} pixels"
    )
    return replace(_of_slices(REKERNELLED, about, TARGET, images), shown=False)


def pair_sets(soft: Path, sharp: Path) -> Iterator[TestSet]:
    """Yield a real pair in both directions, over squares; systems are fitted on the slice farthest away.

    Raises:
        ValueError: if fewer than two files of equal name are in both folders.
    """
    names = sorted(path.name for path in soft.glob("*.dcm") if (sharp / path.name).is_file())
    if len(names) < 2:
        raise ValueError(f'"{soft}" and "{sharp}" must have at least 2 files of equal name, got {len(names)}.')
    sides = [[read_slice(folder / name) for name in names] for folder in (soft, sharp)]
    measured = [[hu_with_air_padding(item) for item in side] for side in sides]
    kernels = [str(side[0].dataset.get("ConvolutionKernel", "") or "?") for side in sides]
    inside = [tumour_sized_squares(item.hu, avoid=item.padding) for item in sides[0]]
    for source, target in ((0, 1), (1, 0)):
        images = [
            (*pair, item.spacing_mm, masks)
            for *pair, item, masks in zip(measured[source], measured[target], sides[0], inside)
        ]
        title = f"{kernels[source]} to {kernels[target]}"
        about = f"a real pair, {len(names)} slices of one scan, squares of {TUMOUR_PIXELS} pixels"
        yield _of_slices(title, about, "", images)


def _of_slices(name: str, about: str, target_kernel: str, images: list[tuple]) -> TestSet:
    """Build a test set from (source, target, mm of a pixel, masks) of each slice."""
    cases, fittings = [], []
    for i, (source, target, spacing_mm, masks) in enumerate(images):
        regions = [mask[None] for mask in masks]
        cases.append(Case(f"slice {i + 1}", source[None], target[None], regions, spacing_mm, 1.0, fold=i))
        far_source, far_target, far_spacing, _ = images[(i + len(images) // 2) % len(images)]
        fittings.append([FittingPair(far_source, far_target, far_spacing)])
    return TestSet(name, about, target_kernel, cases, fittings)
