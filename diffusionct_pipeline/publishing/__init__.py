"""Publish a checkpoint on the Hub: write the files, upload them, load them back and compare.

Read `publication.py` first.
"""

from .publication import Publication, prepare, publish

__all__ = ["Publication", "prepare", "publish"]
