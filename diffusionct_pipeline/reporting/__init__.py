"""Tables, figures and pictures."""
