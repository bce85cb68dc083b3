"""What physics says of a scan: the kernels by name with their MTF, and noise as a field in space."""
