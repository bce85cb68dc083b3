"""Provide the parts of the pipeline: the step from a scan to its target, checks of samples and results, and provenance."""
