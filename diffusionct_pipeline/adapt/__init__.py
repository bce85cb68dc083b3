"""Make a site's own protocol the standard of a checkpoint, by pairs of reconstructions."""

from .folders import adapt_folders
from .pairs import Adaptation, SlicePair, adapt, adapted_pipeline

__all__ = ["Adaptation", "SlicePair", "adapt", "adapt_folders", "adapted_pipeline"]
