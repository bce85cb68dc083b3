"""The result for all series of a folder."""

from __future__ import annotations

from dataclasses import dataclass

from .advice import Advice
from .measure import MeasuredSeries
from .same_scan import SameScan


@dataclass(frozen=True, eq=False)
class Characterisation:
    """Result of `characterise_folder`.

    Attributes:
        measured: Every series that could be measured.
        groups: Number of the group of similar style of each, from 1.
        same_scans: Series of one acquisition, by their index in `measured`.
        names: Folder of each below the input, for the screen only; reports do not contain it.
        failures: A sentence for each series that could not be measured and each unusable file.
        standard_name: Kernel of the checkpoint's standard.
        advice: Targets that suit them; None where the checkpoint takes no target by name.
    """

    measured: list[MeasuredSeries]
    groups: list[int]
    same_scans: list[SameScan]
    names: list[str]
    failures: list[str]
    standard_name: str
    advice: Advice | None
