"""Publish a checkpoint on the Hub: write what is uploaded, upload it, load it back, compare.

Read `publication.py` first.
"""

from .publication import Publication, prepare, publish

__all__ = ["Publication", "prepare", "publish"]
