"""Measure IBEX-style radiomic features: 1,401 named values of a region in six classes."""

from .extractor import FEATURE_CLASSES, Features, duplicate_features, extract, feature_class, feature_names, least_value
from .settings import CT_NUMBER_OF_WATER, DEFAULT_SETTINGS, RadiomicSettings

__all__ = [
    "CT_NUMBER_OF_WATER",
    "DEFAULT_SETTINGS",
    "FEATURE_CLASSES",
    "Features",
    "RadiomicSettings",
    "duplicate_features",
    "extract",
    "feature_class",
    "feature_names",
    "least_value",
]
