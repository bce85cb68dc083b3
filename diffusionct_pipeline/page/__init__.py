"""Write before and after as a page: one HTML file that contains its slices and loads nothing."""
