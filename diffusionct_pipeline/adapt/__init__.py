"""A site's own protocol as the standard, learnt from pairs of reconstructions."""

from .folders import adapt_folders
from .pairs import Adaptation, SlicePair, adapt, adapted_pipeline

__all__ = ["Adaptation", "SlicePair", "adapt", "adapt_folders", "adapted_pipeline"]
