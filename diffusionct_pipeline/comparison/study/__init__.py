"""The comparison that Selim et al. 2023 made, on data that anyone can generate; start reading at `run_study`."""

from .options import StudyOptions
from .study import run_study

__all__ = ["StudyOptions", "run_study"]
