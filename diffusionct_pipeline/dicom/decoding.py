"""Decode compressed pixel data in a separate process, so that a damaged code stream costs its file, not the run.

One process serves all slices. It starts with the first compressed one, restarts after a crash, and ends with this process.
"""

from __future__ import annotations

import atexit
import contextlib
import io
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

PIPE_SIZE = 1 << 20  # bytes, where the platform supports it: holds a slice of 512 x 512 pixels at once
PROGRAM = "import sys; sys.path[:] = sys.argv[1:]; from diffusionct_pipeline.dicom.decoder import main; main()"


class DecoderProcess:
    """Run decoder.py in a process and communicate with it through pipes.

    It is a `subprocess`, as `multiprocessing` runs the caller's script again unless the script is guarded against that.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def decode(self, dataset: Dataset) -> np.ndarray:
        """Decode the pixel data of a slice.

        Args:
            dataset: A dataset with compressed PixelData and a checked header (`hounsfield.pixel_format`).

        Returns:
            (Rows, Columns) int16 or uint16 cells.

        Raises:
            RuntimeError: if no decoder reads it, or the decoder crashed or took too long.
            ChildProcessError: if the process does not start.
        """
        syntax, options = str(dataset.file_meta.TransferSyntaxUID), as_pixel_options(dataset, correct_unused_bits=False)
        request = pickle.dumps((syntax, options, dataset.PixelData), protocol=5)
        shape = int(dataset.Rows), int(dataset.Columns)
        cells = np.empty(shape, "<i2" if int(dataset.PixelRepresentation) else "<u2")
        with self._lock:
            try:
                process = self._process
                if process is None or process.poll() is not None:
                    process = self._start()
                reason = self._exchange(process, request, cells)
            except BaseException:  # Ctrl-C, too: the rest in the pipes does not belong to any other slice
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
        """Leave the process, in a fork, to the parent that started it."""
        process, self._process, self._lock = self._process, None, threading.Lock()
        if process is not None:
            requests, replies = _pipes(process)
            requests.raw.close()  # without flushing its buffer, which is the parent's to send
            replies.raw.close()
            process.returncode = 0  # the parent waits for it

    def _start(self) -> subprocess.Popen[bytes]:
        """Start the process; raise ChildProcessError if that fails."""
        self._end()
        try:
            process = self._process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, *sys.path],  # so that it imports from the same folders
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                pipesize=PIPE_SIZE,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # its threads reserve address space, which is limited
            )
            self._receive(process, bytearray(len(READY)))
        except (OSError, RuntimeError) as error:
            raise ChildProcessError(f"the decoder process does not start: {error}") from error
        return process

    def _exchange(self, process: subprocess.Popen[bytes], request: bytes, cells: np.ndarray) -> str:
        """Send a request and fill `cells` from the answer, or return why the decoders refuse it.

        Raises:
            RuntimeError: if the process ended.
        """
        requests, _ = _pipes(process)
        with contextlib.suppress(OSError):  # a broken pipe: then there is no answer either
            requests.write(request)
            requests.flush()
        head = bytearray(REPLY.size)
        self._receive(process, head)
        is_decoded, length = REPLY.unpack(head)
        if is_decoded and length != cells.nbytes:
            raise RuntimeError(f"The decoder returned {length} of {cells.nbytes} bytes.")
        if is_decoded:
            self._receive(process, cells.data.cast("B"))
            return ""
        reason = bytearray(length)
        self._receive(process, reason)
        return reason.decode(errors="replace")

    def _receive(self, process: subprocess.Popen[bytes], answer: bytearray | memoryview) -> None:
        """Fill `answer`; raise RuntimeError if the process ends before."""
        begun, (_, replies) = time.monotonic(), _pipes(process)
        if replies.readinto(answer) < len(answer):
            code = process.wait()
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            raise RuntimeError(
                f"The decoder {how} after {time.monotonic() - begun:.1f} s; "
                f"its limits are {SECONDS_A_SLICE} s and {MEMORY_LIMIT >> 30} GiB."
            )

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()  # it holds nothing that would be lost
            process.wait()
            requests, replies = _pipes(process)
            requests.raw.close()
            replies.close()


def _pipes(process: subprocess.Popen[bytes]) -> tuple[io.BufferedWriter, io.BufferedReader]:
    """Return the pipes to and from a process, which `Popen` buffers by default."""
    assert isinstance(process.stdin, io.BufferedWriter) and isinstance(process.stdout, io.BufferedReader)
    return process.stdin, process.stdout


_process = DecoderProcess()
decode = _process.decode
atexit.register(_process.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_process.forget)
