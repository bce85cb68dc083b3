"""Hold what was measured in the regions of all series of a comparison."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..radiomics import RadiomicSettings
from .geometry import Series


@dataclass(frozen=True, eq=False)
class Region:
    """Describe one label of the mask, or one part of it where the series has a gap.

    Attributes:
        name: The label, with the position if it has several parts.
        label: Its name in the mask.
        slices: Range of slices of the standard series that it touches.
        mask: (slices of that range, rows, columns) bool.
    """

    name: str
    label: str
    slices: slice
    mask: np.ndarray


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Hold the features of every region in the standard and in the other systems, and what a report needs.

    Attributes:
        standard, baseline: Names; `baseline` is None if none was given.
        series: Name -> series, the standard first, then the baseline, then the candidates.
        regions: The measured regions.
        features: Name -> (regions, 1401); NaN is undefined.
        undefined: Name -> for each region, feature -> reason.
        images: Name -> (S, rows, columns) HU of the slices that hold a region.
        inside: (S, rows, columns) bool, the regions in these slices.
        settings: Settings of the features.
        remarks: What a reader must know: missing slices, split regions.
        samples: Name of a candidate with samples -> its features over them, (K, regions, 1401).
        measured_before: Number of regions of a series or sample that an interrupted run had measured.
    """

    standard: str
    baseline: str | None
    series: dict[str, Series]
    regions: list[Region]
    features: dict[str, np.ndarray]
    undefined: dict[str, list[dict[str, str]]]
    images: dict[str, np.ndarray]
    inside: np.ndarray
    settings: RadiomicSettings
    remarks: list[str] = field(default_factory=list)
    samples: dict[str, np.ndarray] = field(default_factory=dict)
    measured_before: int = 0

    @property
    def systems(self) -> dict[str, np.ndarray]:
        """Return the features of all systems except the standard."""
        return {name: values for name, values in self.features.items() if name != self.standard}
