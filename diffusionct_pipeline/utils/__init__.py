"""What knows nothing of CT: files, paths, seeds, devices, optional packages."""
