"""Regions of a series, drawn or read from a file, and their radiomic features before and after."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from skimage.draw import polygon2mask
from skimage.measure import find_contours

from ..dicom import CTSeries
from ..evaluation.geometry import Geometry, series_geometry
from ..evaluation.masks import read_mask
from ..metrics.agreement import REPRODUCIBLE, relative_error
from ..metrics.uncertainty import WIDENING, sample_intervals
from ..radiomics import FEATURE_CLASSES, extract, feature_class, feature_names
from ..volumes import VolumeHeader

FEWEST_PIXELS = 16  # with fewer, texture is dominated by chance
MOST_POINTS = 10_000
SHOWN = {
    "mean, CT number": "ID/GlobalMean",
    "standard deviation, HU": "ID/GlobalStd",
    "skewness": "ID/Skewness",
    "local standard deviation, HU": "ID/LocalStdMean",
    "local entropy": "ID/LocalEntropyMean",
    "GLCM contrast": "GLCM25/Contrast/d=1/dir=0/bins=64",
    "GLCM correlation": "GLCM25/Correlation/d=1/dir=0/bins=64",
    "GLCM entropy": "GLCM25/Entropy/d=1/dir=0/bins=64",
    "GLCM homogeneity": "GLCM25/Homogeneity/d=1/dir=0/bins=64",
    "long run emphasis": "GLRLM25/LongRunEmphasis/dir=avg/bins=64",
    "run percentage": "GLRLM25/RunPercentage/dir=avg/bins=64",
    "coarseness": "NID25/Coarseness/nhood=3/bins=64",
}


@dataclass(frozen=True, eq=False)
class Region:
    """A region in which features are measured.

    Attributes:
        name: Name for the reader.
        first: Index of its first slice.
        mask: (slices, rows, columns) bool from there on; the first and the last slice contain some of it.
    """

    name: str
    first: int
    mask: np.ndarray

    @classmethod
    def of_mask(cls, name: str, mask: np.ndarray) -> Region:
        """Make a region from a mask (slices, rows, columns) of the whole series.

        Raises:
            ValueError: if it has fewer than `FEWEST_PIXELS` pixels.
        """
        count = int(mask.sum())
        if count < FEWEST_PIXELS:
            raise ValueError(f"a region must have at least {FEWEST_PIXELS} pixels, got {count}")
        touched = np.flatnonzero(mask.any((1, 2)))
        return cls(name, int(touched[0]), mask[touched[0] : touched[-1] + 1])

    @property
    def slices(self) -> range:
        """Indices of the slices that it spans."""
        return range(self.first, self.first + len(self.mask))

    def outlines(self) -> dict[str, list[list[list[float]]]]:
        """Return the outlines by slice index: points (x, y) in pixels, where the first pixel spans 0 to 1."""
        return {
            str(index): [
                np.round(line[:, ::-1] - 0.5, 1).tolist() for line in find_contours(np.pad(plane, 1).astype(float), 0.5)
            ]
            for index, plane in zip(self.slices, self.mask)
        }


@dataclass(frozen=True, eq=False)
class RegionFeatures:
    """The 1,401 features of a region before and after.

    Attributes:
        region: The region.
        before, after: (1401,); NaN where undefined.
        low, high: (1401,) ends of 90 % intervals over samples of the result; None without samples.
    """

    region: Region
    before: np.ndarray
    after: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the figures that are shown, and how many of each class kept their value."""
        names = feature_names()
        changed = relative_error(self.after, self.before)
        rows = []
        for label, name in SHOWN.items():
            i = names.index(name)
            ends = None
            if self.low is not None and self.high is not None:
                ends = [number(self.low[i]), number(self.high[i])]
            rows.append([label, number(self.before[i]), number(self.after[i]), ends])
        defined, of_class = np.isfinite(changed), np.array([feature_class(name) for name in names])
        classes = []
        for each in FEATURE_CLASSES:
            chosen = defined & (of_class == each)
            classes.append([each, int((changed[chosen] < REPRODUCIBLE).sum()), int(chosen.sum())])
        return {
            "name": self.region.name,
            "slices": [index + 1 for index in self.region.slices],
            "pixels": int(self.region.mask.sum()),
            "outlines": self.region.outlines(),
            "rows": rows,
            "classes": classes,
            "within": REPRODUCIBLE,
        }

    def to_csv(self) -> str:
        """Return all features as CSV, one per row."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        columns = {"before": self.before, "after": self.after}
        if self.low is not None and self.high is not None:
            columns |= {"low": self.low, "high": self.high}
        writer.writerow(["feature", *columns])
        for name, values in zip(feature_names(), zip(*columns.values())):
            writer.writerow([name, *("" if np.isnan(value) else f"{value:.10g}" for value in values)])
        return file.getvalue()


def number(value: float) -> float | None:
    """Return a value for JSON, which has no NaN."""
    return float(value) if np.isfinite(value) else None


def drawn_region(points: Sequence[Sequence[float]], index: int, shape: tuple[int, int, int]) -> Region:
    """Fill a polygon on one slice.

    Args:
        points: At least 3 points (x, y) in pixels, where the first pixel spans 0 to 1.
        index: Index of the slice.
        shape: (slices, rows, columns) of the series.

    Raises:
        ValueError: if the points are not valid, or the polygon contains too few pixels.
    """
    try:
        corners = np.asarray(points, float)
        is_valid = (
            corners.ndim == 2
            and corners.shape[1] == 2
            and 3 <= len(corners) <= MOST_POINTS
            and np.isfinite(corners).all()
        )
    except (TypeError, ValueError):
        is_valid = False
    if not is_valid or not 0 <= index < shape[0]:
        raise ValueError(f"a region must be 3 to {MOST_POINTS} points (x, y) on one of {shape[0]} slices")
    mask = np.zeros(shape, bool)
    mask[index] = polygon2mask(shape[1:], corners[:, ::-1] - 0.5)
    return Region.of_mask("drawn", mask)


def read_regions(path: Path, geometry: Geometry) -> list[Region]:
    """Read the regions of a mask file that are large enough.

    Raises:
        ValueError, ImportError: as `read_mask`, or if none is large enough.
    """
    found = read_mask(path, geometry, remarks=[])
    regions = [Region.of_mask(name, mask) for name, mask in found.items() if mask.sum() >= FEWEST_PIXELS]
    if not regions:
        raise ValueError(f"a region of the file must have at least {FEWEST_PIXELS} pixels; none has")
    return regions


def geometry_of(source: CTSeries | VolumeHeader) -> Geometry:
    """Return the positions of the voxels of a series or volume.

    Raises:
        DicomError: as `series_geometry`.
    """
    if isinstance(source, CTSeries):
        return series_geometry(source)
    grid, affine = source.grid, source.fields.affine
    ends = np.array([affine[:3, 3], affine[:3, 3] + affine[:3, :3] @ (np.array(grid.shape) - 1)]).min(0)
    origins = np.tile(ends, (grid.slices_shape[0], 1))
    origins[:, 2] = [grid.position_mm(index) for index in range(len(origins))]
    return Geometry(grid.slices_shape, grid.spacing_mm, np.eye(3)[::-1], origins, grid.step_mm)


def measure(
    region: Region, before_hu: np.ndarray, after_hu: np.ndarray, samples_hu: np.ndarray | None = None
) -> RegionFeatures:
    """Measure the features of a region.

    Args:
        region: The region.
        before_hu, after_hu: (slices, rows, columns) HU of the slices of the region.
        samples_hu: (K, slices, rows, columns) of samples of the result, 20 or more; None for no intervals.
    """

    def features(hu: np.ndarray) -> np.ndarray:
        return np.array(list(extract(hu, region.mask).values()))

    low = high = None
    if samples_hu is not None:
        low, high = sample_intervals([features(hu) for hu in samples_hu], widening=WIDENING)
    return RegionFeatures(region, features(before_hu), features(after_hu), low, high)
