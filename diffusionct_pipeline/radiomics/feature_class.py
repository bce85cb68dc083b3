"""Define a class of features, and the region that it is measured on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from .settings import RadiomicSettings

Box: TypeAlias = tuple[slice, slice, slice]
Values: TypeAlias = dict[str, float]  # name -> value, NaN where undefined
Reasons: TypeAlias = dict[str, str]  # name -> why, for every NaN


@dataclass(frozen=True, eq=False)
class Region:
    """Hold a region and its surroundings in the same slices.

    Attributes:
        ct: (slices, rows, columns) CT numbers, max(HU + 1000, 0), with the in-plane margin that the widest window
            needs, mirrored at the image border.
        mask: bool, same shape: the region.
        labels: int, same shape: grey levels 1..`settings.levels` inside the region, 0 outside.
        box: The region's bounding box in these arrays.
        seen: The part of these arrays that is image, not mirrored.
        limits: (low, high) CT numbers that the grey levels span.
        settings: The declared choices.
        nid_slices: Slices that the NID3 neighbourhood spans, odd.
    """

    ct: np.ndarray
    mask: np.ndarray
    labels: np.ndarray
    box: Box
    seen: Box
    limits: tuple[float, float]
    settings: RadiomicSettings
    nid_slices: int


@dataclass(frozen=True, eq=False)
class FeatureClass:
    """Describe one or several classes of features that are measured together.

    Attributes:
        families: First part of the features' names -> class that they are reported in.
        names: All names, in a stable order; "FAMILY/Feature/...".
        extract: Region -> value of every name, and the reason for every NaN.
    """

    families: Mapping[str, str]
    names: Callable[[RadiomicSettings], tuple[str, ...]]
    extract: Callable[[Region], tuple[Values, Reasons]]
