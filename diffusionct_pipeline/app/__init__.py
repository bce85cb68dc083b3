"""`diffusionct app`: a page on this machine to standardize and view scans. Start reading at `server.serve`."""
