"""Characterise CT series from their own slices: protocol, noise, resolution, and likeness to a checkpoint's training."""
