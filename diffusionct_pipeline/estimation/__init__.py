"""Estimate the reconstruction kernel and the noise of a CT series from its own slices."""
