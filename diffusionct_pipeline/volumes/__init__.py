"""Read and write CT volumes in one file, NIfTI and NRRD: axial slices in Hounsfield units, headers kept as they are.

nibabel and pynrrd read the headers (extra "volumes"); arrays need neither. SimpleITK, which reads masks, is not suitable: it
silently uses the qform where the sform is sheared, and writes back neither extensions nor units.
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
