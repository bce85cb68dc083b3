"""Measure the features of every region of many images as a table, and how well such tables agree."""

from .comparison import CohortEvaluation
from .evaluation import evaluate_cohort
from .feature_agreement import Robustness, icc, robustness
from .features import CohortFeatures, extract_cohort
from .lung_density import density, lungs_by_threshold, measure_density
from .settings import CohortSettings
from .tables import read_table, write_table
from .telling import Told, tell_apart

__all__ = [
    "CohortEvaluation",
    "CohortFeatures",
    "CohortSettings",
    "Robustness",
    "Told",
    "density",
    "evaluate_cohort",
    "extract_cohort",
    "icc",
    "lungs_by_threshold",
    "measure_density",
    "read_table",
    "robustness",
    "tell_apart",
    "write_table",
]
