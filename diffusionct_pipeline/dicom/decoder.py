"""Run as the decoder process (decoding.py): read compressed pixel data from stdin and write cells to stdout.

Native decoders abort, hang or request any amount of memory when a code stream is damaged; here that ends a process that holds
only the one slice.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import pickle
import re
import signal
import struct
import sys
import warnings
from typing import Any

import numpy as np
from pydicom.encaps import generate_frames
from pydicom.pixels import get_decoder
from pydicom.uid import UID

SECONDS_A_SLICE = 10  # 512 x 512 pixels of JPEG 2000, the slowest kind, take 0.04
MEMORY_LIMIT = 2 << 30  # bytes of address space; the interpreter and all decoders take 0.2 GiB, the largest slice 0.5
# SOFn of ITU-T T.81 B.1.1.3, without the three other markers in their range; SOF55 of T.87
JPEG_FRAMES = {*range(0xFFC0, 0xFFD0), 0xFFF7} - {0xFFC4, 0xFFC8, 0xFFCC}
RLE_PADDING = re.compile(r"The decoded RLE segment contains non-conformant padding - (\d+) vs\. (\d+) bytes")
READY = b"\1"  # sent once everything is imported
# Whether decoding succeeded, and the number of bytes that follow: the cells, or the reason why not.
REPLY = struct.Struct("<?Q")


def main() -> None:
    """Decode requests until the other side closes the pipe."""
    # Ctrl-C reaches all processes of a terminal; the parent decides what ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # decoders print to stdout
    logging.disable()
    limit_resources()
    replies.write(READY)
    replies.flush()
    while True:
        try:
            request = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        faulthandler.dump_traceback_later(SECONDS_A_SLICE, exit=True)  # ends a decoder that never returns to Python
        answer: memoryview | bytes
        try:
            is_decoded, answer = True, decode(*request).data.cast("B")
        except Exception as error:  # each decoder has its own exceptions
            is_decoded, answer = False, (str(error) or type(error).__name__).encode()
        faulthandler.cancel_dump_traceback_later()
        replies.write(REPLY.pack(is_decoded, len(answer)))
        replies.write(answer)
        replies.flush()


def decode(syntax: str, options: dict[str, Any], pixels: bytes) -> np.ndarray:
    """Decode one frame.

    Args:
        syntax: UID of the transfer syntax.
        options: Description of the pixel data, as `pydicom.pixels.utils.as_pixel_options` returns it.
        pixels: Value of PixelData.

    Returns:
        (rows, columns) little-endian 16-bit cells, contiguous.

    Raises:
        ValueError: if their shape is not that of the header.
        Exception: as the decoders raise it.
    """
    shape = options["rows"], options["columns"]
    frame = next(generate_frames(pixels, number_of_frames=1))
    coded = coded_shape(frame) or shape
    if coded != shape:  # some decoders trust the header and return a sheared image
        raise ValueError(f"It must hold {shape[0]} x {shape[1]} pixels by the header, got {coded[0]} x {coded[1]}.")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        cells, _ = get_decoder(UID(syntax)).as_array(pixels, raw=True, **options)
    for warning in said:
        found = RLE_PADDING.match(str(warning.message))
        if found and int(found[1]) - int(found[2]) > 1:  # one byte makes a segment even; more are excess rows
            raise ValueError(f"A segment must decode to {found[2]} bytes, got {found[1]}.")
    if cells.shape != shape:
        raise ValueError(f"It must decode to shape {shape}, got {cells.shape}.")
    return np.ascontiguousarray(cells, dtype="<i2" if options["pixel_representation"] else "<u2")


def coded_shape(frame: bytes) -> tuple[int, int] | None:
    """Return (rows, columns) by the header of a JPEG, JPEG-LS or JPEG 2000 code stream; None where it has none."""
    if frame[:2] == b"\xff\xd8":  # JPEG, JPEG-LS
        at = 2
        while at + 9 <= len(frame):
            marker, length = struct.unpack_from(">HH", frame, at)
            if marker in JPEG_FRAMES:
                return struct.unpack_from(">HH", frame, at + 5)
            at += 2 + length
        return None
    size = frame.find(b"\xff\x4f\xff\x51")  # SOC, SIZ: ITU-T T.800 A.5.1; boxes may precede them
    if size < 0 or size + 24 > len(frame):
        return None
    right, bottom, left, top = struct.unpack_from(">4I", frame, size + 8)
    return bottom - top, right - left


def limit_resources() -> None:
    """Limit the memory of this process, where the platform supports it, and disable core dumps."""
    with contextlib.suppress(ImportError, OSError, ValueError):  # no such module, no such limit, or a lower one already
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
