"""Compressed pixel data -> cells, in a process of its own: a damaged code stream costs its file, not the run.

One process serves all slices. It starts with the first compressed one, starts anew after a crash, and ends with ours.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import time

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels.utils import as_pixel_options

from .decoder import MEMORY_LIMIT, READY, REPLY, SECONDS_A_SLICE

PIPE_SIZE = 1 << 20  # bytes, where the platform can: a slice of 512 x 512 pixels at once, without turns of both sides
PROGRAM = "import sys; sys.path[:] = sys.argv[1:]; from diffusionct_pipeline.dicom.decoder import main; main()"


class DecoderProcess:
    """The process that runs decoder.py, and the pipes to it.

    A `subprocess`, since those of `multiprocessing` run the caller's script again unless it is guarded against that.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen | None = None
        self._lock = threading.Lock()

    def decode(self, dataset: Dataset) -> np.ndarray:
        """Decode the pixel data of a slice.

        Args:
            dataset: With compressed PixelData; its header is checked (`hounsfield.pixel_format`).

        Returns:
            (Rows, Columns) int16 or uint16 cells.

        Raises:
            RuntimeError: No decoder reads it, or the decoder crashed or took too long.
            ChildProcessError: The process does not start.
        """
        syntax, options = str(dataset.file_meta.TransferSyntaxUID), as_pixel_options(dataset, correct_unused_bits=False)
        request = pickle.dumps((syntax, options, dataset.PixelData), protocol=5)
        shape = int(dataset.Rows), int(dataset.Columns)
        cells = np.empty(shape, "<i2" if int(dataset.PixelRepresentation) else "<u2")
        with self._lock:
            try:
                if self._process is None or self._process.poll() is not None:
                    self._start()
                reason = self._exchange(request, cells)
            except BaseException:  # Ctrl-C too: what is left in the pipes belongs to no other slice
                self._end()
                raise
        if reason:
            raise RuntimeError(reason)
        return cells

    def close(self) -> None:
        """End the process and wait for it; the next slice starts another."""
        with self._lock:
            self._end()

    def forget(self) -> None:
        """In a fork: leave the process to the one that started it."""
        process, self._process, self._lock = self._process, None, threading.Lock()
        if process is not None:
            process.stdin.raw.close()  # its buffer is not flushed: what is in it is not ours to send
            process.stdout.raw.close()
            process.returncode = 0  # not ours to wait for

    def _start(self) -> None:
        """Raises ChildProcessError."""
        self._end()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, *sys.path],  # imports what we import
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                pipesize=PIPE_SIZE,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # its threads reserve address space, which is limited
            )
            self._receive(bytearray(len(READY)))
        except (OSError, RuntimeError) as error:
            raise ChildProcessError(f"the decoder process does not start: {error}") from error

    def _exchange(self, request: bytes, cells: np.ndarray) -> str:
        """Send a request and fill `cells` from the answer, or return why the decoders refuse it.

        Raises:
            RuntimeError: The process ended.
        """
        with contextlib.suppress(OSError):  # a broken pipe: then there is no answer either
            self._process.stdin.write(request)
            self._process.stdin.flush()
        head = bytearray(REPLY.size)
        self._receive(head)
        is_decoded, length = REPLY.unpack(head)
        if is_decoded and length != cells.nbytes:
            raise RuntimeError(f"The decoder gave {length} of {cells.nbytes} bytes.")
        answer = memoryview(cells).cast("B") if is_decoded else bytearray(length)
        self._receive(answer)
        return "" if is_decoded else answer.decode(errors="replace")

    def _receive(self, answer: bytearray | memoryview) -> None:
        """Fill `answer`; RuntimeError if the process ends before."""
        begun = time.monotonic()
        if self._process.stdout.readinto(answer) < len(answer):
            code = self._process.wait()
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            raise RuntimeError(
                f"The decoder {how} after {time.monotonic() - begun:.1f} s; "
                f"it may take {SECONDS_A_SLICE} s and {MEMORY_LIMIT >> 30} GiB."
            )

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()  # it holds nothing
            process.wait()
            process.stdin.raw.close()
            process.stdout.close()


_process = DecoderProcess()
decode = _process.decode
atexit.register(_process.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_process.forget)
