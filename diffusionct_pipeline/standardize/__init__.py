"""Standardize folders: every CT series and volume, resumed where a run was interrupted, checked and reported."""
