"""What a comparison of tables of features holds."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .feature_agreement import Robustness
from .rows import Rows
from .telling import Told

COMBAT = " + ComBat"  # behind the name of a candidate


@dataclass(frozen=True, eq=False)
class Pairs:
    """The regions that a candidate and the standard share.

    Attributes:
        source, target: (regions, features).
        patients: Of each region.
    """

    source: np.ndarray
    target: np.ndarray
    patients: list[str]


@dataclass(frozen=True, eq=False)
class CohortEvaluation:
    """What a comparison of tables found.

    Attributes:
        standard: Its name.
        features: Names.
        rows: Name of each table -> its rows, the standard first.
        pairs: Candidate -> its pairs; those after ComBat among them.
        robustness: Candidate -> agreement of each feature.
        told: (name, "from the standard" or "by KERNEL COLUMN") -> how well kinds are told apart, or why not.
        batch: The column that was told, "" where none varies.
        remarks: What a reader must know.
    """

    standard: str
    features: list[str]
    rows: dict[str, Rows]
    pairs: dict[str, Pairs]
    robustness: dict[str, Robustness]
    told: dict[tuple[str, str], Told | str]
    batch: str
    remarks: list[str] = field(default_factory=list)
