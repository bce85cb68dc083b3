"""Other ways to standardize a slice; each obeys `standardize(hu, pixel_spacing) -> hu`."""

from .linear_filter import LinearFilter

__all__ = ["LinearFilter"]
