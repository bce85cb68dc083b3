"""CT volumes in one file, NIfTI and NRRD, in and out: axial slices in Hounsfield units, headers kept as they are.

The headers are read here and by no library: SimpleITK takes the qform in silence where a sform is sheared, and writes
neither extensions nor units back.
"""

from .errors import VolumeError
from .files import VOLUME_SUFFIXES, is_volume, read_volume, read_volume_header, volume_suffix, write_volume
from .grid import AxialGrid
from .volume import CTVolume, VolumeHeader

__all__ = [
    "VOLUME_SUFFIXES",
    "AxialGrid",
    "CTVolume",
    "VolumeError",
    "VolumeHeader",
    "is_volume",
    "read_volume",
    "read_volume_header",
    "volume_suffix",
    "write_volume",
]
