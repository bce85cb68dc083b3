"""What the pipeline is made of: the step from a scan to its target, checks of what is sampled and reached, provenance."""
