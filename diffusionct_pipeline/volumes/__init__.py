"""CT volumes in one file, NIfTI and NRRD, in and out: axial slices in Hounsfield units, headers kept as they are.

nibabel and pynrrd read the headers (extra "volumes"); arrays need neither. SimpleITK, which reads masks, would not do:
it takes the qform in silence where a sform is sheared, and writes neither extensions nor units back.
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
