"""Measure the features of the image biomarker standardization initiative (IBSI), in addition to IBEX's 1,401."""

from .extractor import extract_ibsi
from .names import ibsi_names
from .settings import IbsiSettings

__all__ = ["IbsiSettings", "extract_ibsi", "ibsi_names"]
