"""The program of the decoder process (decoding.py): compressed pixel data in on stdin, cells out on stdout.

Native decoders abort, hang or ask for any amount of memory when a code stream is damaged; here that ends a process that
holds nothing but the one slice.
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
# SOFn of ITU-T T.81 B.1.1.3, without the three markers among them that are others; SOF55 of T.87
JPEG_FRAMES = {*range(0xFFC0, 0xFFD0), 0xFFF7} - {0xFFC4, 0xFFC8, 0xFFCC}
RLE_PADDING = re.compile(r"The decoded RLE segment contains non-conformant padding - (\d+) vs\. (\d+) bytes")
READY = b"\1"  # sent once everything is imported
REPLY = struct.Struct("<?Q")  # whether it is decoded; bytes of the cells, or of the reason why not, that follow


def main() -> None:
    """Decode what comes in until the other side closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; ours decides what ends
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # decoders print
    logging.disable()
    limit_resources()
    replies.write(READY)
    replies.flush()
    while True:
        try:
            request = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        faulthandler.dump_traceback_later(SECONDS_A_SLICE, exit=True)  # ends a decoder that never comes back to Python
        try:
            is_decoded, answer = True, memoryview(decode(*request)).cast("B")
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
        options: What describes the pixel data, as `pydicom.pixels.utils.as_pixel_options` gives it.
        pixels: Value of PixelData.

    Returns:
        (rows, columns) little-endian 16-bit cells, contiguous.

    Raises:
        ValueError: They have another shape than the header says.
        Exception: What the decoders raise.
    """
    shape = options["rows"], options["columns"]
    frame = next(generate_frames(pixels, number_of_frames=1))
    coded = coded_shape(frame) or shape
    if coded != shape:  # some decoders believe the header and give a sheared image
        raise ValueError(f"It holds {coded[0]} x {coded[1]} pixels, the header says {shape[0]} x {shape[1]}.")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        cells, _ = get_decoder(UID(syntax)).as_array(pixels, raw=True, **options)
    for warning in said:
        found = RLE_PADDING.match(str(warning.message))
        if found and int(found[1]) - int(found[2]) > 1:  # one byte makes a segment even; more are rows too many
            raise ValueError(f"A segment decodes to {found[1]} bytes, not to {found[2]}.")
    if cells.shape != shape:
        raise ValueError(f"It decodes to shape {cells.shape}, not to {shape}.")
    return np.ascontiguousarray(cells, dtype="<i2" if options["pixel_representation"] else "<u2")


def coded_shape(frame: bytes) -> tuple[int, int] | None:
    """(rows, columns) that a JPEG, JPEG-LS or JPEG 2000 code stream says it holds; None where it says nothing."""
    if frame[:2] == b"\xff\xd8":  # JPEG, JPEG-LS
        at = 2
        while at + 9 <= len(frame):
            marker, length = struct.unpack_from(">HH", frame, at)
            if marker in JPEG_FRAMES:
                return struct.unpack_from(">HH", frame, at + 5)
            at += 2 + length
        return None
    size = frame.find(b"\xff\x4f\xff\x51")  # SOC, SIZ: ITU-T T.800 A.5.1; boxes may stand before
    if size < 0 or size + 24 > len(frame):
        return None
    right, bottom, left, top = struct.unpack_from(">4I", frame, size + 8)
    return bottom - top, right - left


def limit_resources() -> None:
    """Limit the memory of this process, where the platform can, and leave no core dump of a crash."""
    with contextlib.suppress(ImportError, OSError, ValueError):  # no such module, no such limit, a lower one already
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
