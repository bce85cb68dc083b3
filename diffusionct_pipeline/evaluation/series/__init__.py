"""Series compared in the radiomic features of tumours, and the tables, figures and report of it."""
