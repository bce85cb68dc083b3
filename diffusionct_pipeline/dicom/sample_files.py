"""Store the samples of one derived slice in a file, which `diffusionct standardize --samples` writes and `evaluate` reads.

OUT/a/1.dcm                  the derived slice, the first sample
OUT/samples/a/1.dcm.npz      all its K samples, see `SliceSamples`
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from ..utils.archives import array_header
from . import CTSlice, cells_to_hu, hu_to_cells

SAMPLES_FOLDER = "samples"
LARGEST_ARRAY = 4 << 30  # bytes: 8,000 samples of 512 x 512 pixels
INT16 = np.iinfo(np.int16)


@dataclass(frozen=True, eq=False)
class SliceSamples:
    """Hold K samples of a slice; the arrays of the .npz have the names of the attributes.

    Attributes:
        samples: (K, H, W) int16 HU, each as its derived file would store it: rounded, clipped to the source's bit depth,
            with the source's padding. The first one is that of the derived file.
        spread: (H, W) float16 HU, standard deviation over the samples before rounding and clipping, with K - 1.
        spacing_mm: Side of a pixel.
        source_uid, derived_uid: SOPInstanceUID of the source and of the derived file.
        seeds: (K,) int64, noise seed of each sample.
    """

    samples: np.ndarray
    spread: np.ndarray
    spacing_mm: float
    source_uid: str
    derived_uid: str
    seeds: np.ndarray

    @classmethod
    def of(cls, samples: np.ndarray, source: CTSlice, derived_uid: str, seeds: Sequence[int]) -> SliceSamples:
        """Return the record of samples (K, H, W), unrounded HU, of a slice; K of at least 2."""
        return cls(
            samples=np.stack([stored_hu(hu, source) for hu in samples]),
            spread=spread_hu(samples).astype(np.float16),
            spacing_mm=source.spacing_mm,
            source_uid=str(source.dataset.SOPInstanceUID),
            derived_uid=str(derived_uid),
            seeds=np.array(seeds, np.int64),
        )

    def to_bytes(self) -> bytes:
        """Return a compressed .npz, the same bytes each time."""
        file = io.BytesIO()
        np.savez_compressed(file, **{field.name: getattr(self, field.name) for field in fields(self)})
        return file.getvalue()

    @classmethod
    def read(cls, path: str | os.PathLike) -> SliceSamples:
        """Read a file.

        Raises:
            ValueError: naming the file, if it is not such a file.
            OSError: if it cannot be opened.
        """
        found = _read(path, [field.name for field in fields(cls)])
        samples, seeds = found["samples"], found["seeds"]
        if samples.ndim != 3 or samples.dtype != np.int16 or seeds.shape != samples.shape[:1]:
            raise ValueError(
                f'"{path}" must have int16 samples (K, H, W) and K seeds, got {samples.dtype} {samples.shape} and '
                f"{seeds.size} seeds"
            )
        return cls(
            samples=samples,
            spread=found["spread"],
            spacing_mm=float(found["spacing_mm"]),
            source_uid=str(found["source_uid"]),
            derived_uid=str(found["derived_uid"]),
            seeds=seeds,
        )


def samples_path(output: Path, name: Path) -> Path:
    """Return the path of the samples of the derived file `output/name`."""
    return output / SAMPLES_FOLDER / name.with_name(f"{name.name}.npz")


def find_samples(folder: str | os.PathLike) -> dict[str, Path]:
    """Return SOPInstanceUID of the derived file -> file of its samples, for every .npz below a folder.

    Raises:
        ValueError: naming the files, if there is none, one is something else, or two are of the same derived file.
    """
    paths = sorted(Path(folder).rglob("*.npz"))
    if not paths:
        raise ValueError(
            f'samples "{folder}" must be a folder with the .npz files that `diffusionct standardize '
            "--samples` writes to OUT/samples"
        )
    found: dict[str, Path] = {}
    for path in paths:
        uid = str(_read(path, ["derived_uid"])["derived_uid"])
        if uid in found:
            raise ValueError(f'"{found[uid]}" and "{path}" are both samples of the derived image {uid}')
        found[uid] = path
    return found


def spread_hu(samples: np.ndarray) -> np.ndarray:
    """Return the standard deviation of each pixel over samples (K, H, W), with K - 1: (H, W), 0 where all are equal."""
    return samples.std(0, ddof=1, dtype=np.float64)


def stored_hu(hu: np.ndarray, source: CTSlice) -> np.ndarray:
    """Return HU (H, W) as a derived file of `source` would store them, rounded to int16."""
    cells, _ = hu_to_cells(hu, source.pixels, source.padding, np.zeros(hu.shape, source.pixels.dtype))
    stored, _ = cells_to_hu(cells, source.pixels)
    stored = np.where(source.padding, source.hu, stored)
    return np.clip(np.rint(stored), INT16.min, INT16.max).astype(np.int16)


def _bytes_of(file: np.lib.npyio.NpzFile, name: str) -> int:
    """Return the memory that an array takes in bytes."""
    shape, dtype = array_header(file, name)
    return math.prod(shape) * dtype.itemsize


def _read(path: str | os.PathLike, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Read the arrays of an .npz by their names; raise ValueError if it is damaged or lacks one."""
    if Path(path).exists() and not Path(path).is_file():  # opening a pipe would wait forever
        raise ValueError(f'"{path}" is not a regular file')
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in names if name not in file]
            large = [name for name in names if name in file and _bytes_of(file, name) > LARGEST_ARRAY]
            if large:
                raise ValueError(f"{large[0]} takes more than {LARGEST_ARRAY >> 30} GiB")
            if not missing:
                return {name: file[name] for name in names}
    except OSError:
        raise
    except Exception as error:  # of zipfile, zlib or numpy, depending on the damage
        raise ValueError(f'"{path}" is a damaged .npz file: {error}') from error
    raise ValueError(f'"{path}" lacks {", ".join(missing)}; it is not a file of `diffusionct standardize --samples`')
