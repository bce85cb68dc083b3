"""`diffusionct app`: a page on this machine on which a scan is standardized and looked at. Start reading at `server.serve`."""
