"""What is known of all series of a folder, measured and beside each other."""

from __future__ import annotations

from dataclasses import dataclass

from .advice import Advice
from .measure import MeasuredSeries
from .same_scan import SameScan


@dataclass(frozen=True, eq=False)
class Characterisation:
    """What `characterise_folder` found.

    Attributes:
        measured: Every series that could be measured.
        groups: Number of the group of like style of each, from 1.
        same_scans: Those of one acquisition; they count in `measured` from 0.
        names: Folder of each below the input, for the screen; reports do not hold it.
        failures: A sentence for each series that could not be measured, and for each file that is unusable.
        standard_name: Kernel of the checkpoint's standard.
        advice: Which target suits them; None where the checkpoint takes no target by name.
    """

    measured: list[MeasuredSeries]
    groups: list[int]
    same_scans: list[SameScan]
    names: list[str]
    failures: list[str]
    standard_name: str
    advice: Advice | None
