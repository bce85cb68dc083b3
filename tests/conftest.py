"""Being here puts tests/ on the import path: `from helpers.dicom import make_slice`."""
