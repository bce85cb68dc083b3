"""Before and after as a page: one HTML file that holds its slices and loads nothing."""
