"""Cohorts: the features of every region of many images as a table, and how well two such tables agree."""

from .evaluation import CohortEvaluation, evaluate_cohort
from .features import CohortFeatures, extract_cohort
from .robustness import Robustness, icc, robustness
from .settings import CohortSettings
from .tables import read_table, write_table
from .telling import Told, tell_apart

__all__ = [
    "CohortEvaluation",
    "CohortFeatures",
    "CohortSettings",
    "Robustness",
    "Told",
    "evaluate_cohort",
    "extract_cohort",
    "icc",
    "read_table",
    "robustness",
    "tell_apart",
    "write_table",
]
