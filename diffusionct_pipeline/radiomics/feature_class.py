"""What a class of features is, and the region that it looks at."""

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
    """A region with what lies around it in its slices.

    Attributes:
        ct: (slices, rows, columns) CT numbers, max(HU + 1000, 0), with the margin that the widest window needs in the
            plane, mirrored where the image ends.
        mask: bool, same shape: the region.
        labels: int, same shape: grey levels 1..`settings.levels` inside the region, 0 outside.
        box: The region's bounding box in these arrays.
        seen: What the image really holds of them.
        limits: (low, high) CT numbers that the grey levels span.
        settings: The declared choices.
        nid_slices: Extent of the NID3 neighbourhood across slices, odd.
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
    """One or several classes of features that are measured together.

    Attributes:
        families: First part of the features' names -> class that these are reported in.
        names: All names, in a stable order; "FAMILY/Feature/...".
        extract: Region -> value of every name, and the reason for every NaN.
    """

    families: Mapping[str, str]
    names: Callable[[RadiomicSettings], tuple[str, ...]]
    extract: Callable[[Region], tuple[Values, Reasons]]
