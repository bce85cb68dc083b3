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
import signal
import struct
import sys
from typing import Any

import numpy as np
from pydicom.pixels import get_decoder
from pydicom.uid import UID

SECONDS_A_SLICE = 10  # 512 x 512 pixels of JPEG 2000, the slowest kind, take 0.04
MEMORY_LIMIT = 2 << 30  # bytes of address space; the interpreter and all decoders take 0.2 GiB, the largest slice 0.5
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
    cells, _ = get_decoder(UID(syntax)).as_array(pixels, raw=True, **options)
    shape = options["rows"], options["columns"]
    if cells.shape != shape:
        raise ValueError(f"It decodes to shape {cells.shape}, not to {shape}.")
    return np.ascontiguousarray(cells, dtype="<i2" if options["pixel_representation"] else "<u2")


def limit_resources() -> None:
    """Limit the memory of this process, where the platform can, and leave no core dump of a crash."""
    with contextlib.suppress(ImportError, OSError, ValueError):  # no such module, no such limit, a lower one already
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
