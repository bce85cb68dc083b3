"""Make tables, figures and pictures."""
