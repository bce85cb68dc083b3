"""Define the result of comparing tables of features."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .feature_agreement import Robustness
from .rows import Rows
from .telling import Told

COMBAT = " + ComBat"  # suffix of a candidate's name


@dataclass(frozen=True, eq=False)
class Pairs:
    """Hold the regions that a candidate and the standard share.

    Attributes:
        source, target: (regions, features).
        patients: The patient of each region.
    """

    source: np.ndarray
    target: np.ndarray
    patients: list[str]


@dataclass(frozen=True, eq=False)
class CohortEvaluation:
    """Hold what a comparison of tables found.

    Attributes:
        standard: Name of the standard.
        features: Names of the features.
        rows: Name of each table -> its rows, the standard first.
        pairs: Candidate -> its pairs, including those after ComBat.
        robustness: Candidate -> agreement of each feature.
        told: (name, "from the standard" or "by COLUMN") -> how well kinds can be distinguished, or why that is unknown.
        batch: The column that was predicted, "" if it varies in no table.
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
