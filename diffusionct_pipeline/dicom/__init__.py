"""Read DICOM CT slices as Hounsfield units, and write standardized slices as derived CT images."""

from .deriving import derive_slice, derived_uid
from .errors import DicomError, SkippedKind
from .folders import CTSeries, FolderScan, Skipped, read_series, scan_folder
from .headers import kernel_name
from .hounsfield import PixelFormat, cells_to_hu, hu_to_cells, pixel_format
from .reading import CTSlice, read_slice
from .writing import write_slice

__all__ = [
    "CTSeries",
    "CTSlice",
    "DicomError",
    "FolderScan",
    "PixelFormat",
    "Skipped",
    "SkippedKind",
    "cells_to_hu",
    "derive_slice",
    "derived_uid",
    "hu_to_cells",
    "kernel_name",
    "pixel_format",
    "read_series",
    "read_slice",
    "scan_folder",
    "write_slice",
]
