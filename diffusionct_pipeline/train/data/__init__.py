"""What training and validation see: objects, pairs in the image domain, scans in the projection domain, latents."""
