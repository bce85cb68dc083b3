"""Data of training and validation: objects, pairs in the image domain, scans in the projection domain, latents."""
