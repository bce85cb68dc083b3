"""Read the headers of the arrays in an .npz file before memory is allocated for them."""

from __future__ import annotations

import io

import numpy as np

HEADER_BYTES = 1 << 14  # numpy refuses longer headers too, but only after reading them


def array_header(file: np.lib.npyio.NpzFile, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Return the shape and the type of a named array without reading it: it may decompress to terabytes of zeros.

    Args:
        file: An open archive.
        name: Name of the array.

    Raises:
        ValueError: if the entry is not an array.
    """
    assert file.zip is not None, "the archive is closed"
    with file.zip.open(f"{name}.npy") as member:
        start = io.BytesIO(member.read(HEADER_BYTES))
    version = np.lib.format.read_magic(start)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(start)
    return shape, dtype
