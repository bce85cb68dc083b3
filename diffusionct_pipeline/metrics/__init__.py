"""Measure agreement, texture, errors and uncertainty of images and features, from numbers to numbers."""
