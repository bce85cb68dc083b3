"""Provide what is not specific to CT: files, paths, seeds, devices and optional packages."""
