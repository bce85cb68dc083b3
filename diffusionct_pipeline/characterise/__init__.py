"""What a CT series is, measured from its own slices: protocol, noise, resolution, likeness to what a checkpoint knows."""
