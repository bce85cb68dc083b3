"""Cohorts: the features of every region of many images as a table, and how well two such tables agree."""

from .features import CohortFeatures, extract_cohort
from .settings import CohortSettings
from .tables import read_table, write_table

__all__ = ["CohortFeatures", "CohortSettings", "extract_cohort", "read_table", "write_table"]
