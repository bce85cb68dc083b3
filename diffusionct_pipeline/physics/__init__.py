"""Model the physics of a scan: kernels by name with their MTF, and noise as a field in space."""
