"""What an .npz says of its arrays, before memory is taken for them."""

from __future__ import annotations

import io

import numpy as np

HEADER_BYTES = 1 << 14  # numpy refuses longer ones too, but after it has read them


def array_header(file: np.lib.npyio.NpzFile, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of the array of a name: its file may decompress to terabytes of zeros.

    Raises:
        ValueError: It is no array.
    """
    with file.zip.open(f"{name}.npy") as member:
        start = io.BytesIO(member.read(HEADER_BYTES))
    version = np.lib.format.read_magic(start)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(start)
    return shape, dtype
