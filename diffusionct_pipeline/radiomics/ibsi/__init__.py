"""The features of the image biomarker standardization initiative (IBSI), beside IBEX's 1,401 and not among them."""

from .extractor import extract_ibsi
from .names import ibsi_names
from .settings import IbsiSettings

__all__ = ["IbsiSettings", "extract_ibsi", "ibsi_names"]
