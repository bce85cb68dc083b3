"""The decoder process. A decoder that crashes at will is a code stream that asks the process for it."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pydicom
import pytest
from helpers.dicom import convert, jpeg2000_with, make_slice, ramp, save
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from diffusionct_pipeline.dicom import DicomError, decoder, decoding, read_slice

NOISE_HU = np.random.default_rng(0).integers(-1000, 1000, (64, 64)).astype(float)


def packed(path, hu=NOISE_HU, syntax=RLELossless, **header):
    dataset = make_slice(hu)
    dataset.compress(syntax)
    for keyword, value in header.items():
        setattr(dataset, keyword, value)
    return save(dataset, path)


def run_script(folder, text):
    """Run a script of a user, without any guard of its main part."""
    script = folder / "script.py"
    script.write_text(textwrap.dedent(text))
    done = subprocess.run([sys.executable, script, folder], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def is_running(pid):
    """Whether a process is there; a zombie is, too."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for_end(pid):
    """Whether an orphan ends within 5 s; to wait for it is the system's matter."""
    for _ in range(500):
        stat = Path(f"/proc/{pid}/stat")
        if not is_running(pid) or (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z"):
            return True
        time.sleep(0.01)
    return False


def changed_program(change):
    """The decoder process's program, with the module `decoder` changed before it starts."""
    start = "from diffusionct_pipeline.dicom.decoder import main; main()"
    assert decoding.PROGRAM.endswith(start)
    before = "import ctypes, os, time; from diffusionct_pipeline.dicom import decoder"
    return decoding.PROGRAM.removesuffix(start) + f"{before}; {change}; decoder.main()"


@pytest.fixture
def process():
    """A decoder process of this test."""
    process = decoding.DecoderProcess()
    yield process
    process.close()


@pytest.fixture
def slice_(tmp_path):
    return pydicom.dcmread(packed(tmp_path / "slice.dcm"))


def pid_of(process):
    return process._process.pid


class TestOneProcess:
    def test_starts_with_the_first_compressed_slice_and_serves_all(self, process, slice_):
        assert process._process is None
        process.decode(slice_)
        first = pid_of(process)
        process.decode(slice_)
        assert pid_of(process) == first

    def test_uncompressed_slices_do_not_start_it(self, tmp_path):
        save(make_slice(), tmp_path / "plain.dcm")
        code = """
            import sys
            from diffusionct_pipeline.dicom import decoding, read_slice
            read_slice(sys.argv[1] + "/plain.dcm")
            print(decoding._process._process)
        """
        assert run_script(tmp_path, code) == ["None"]

    def test_gives_the_cells(self, process, slice_):
        cells = process.decode(slice_)
        assert cells.dtype == np.int16
        np.testing.assert_array_equal(cells, NOISE_HU + 1024)

    def test_close_leaves_no_zombie_and_the_next_slice_starts_another(self, process, slice_):
        process.decode(slice_)
        first = pid_of(process)
        process.close()
        assert not is_running(first)
        np.testing.assert_array_equal(process.decode(slice_), NOISE_HU + 1024)
        assert pid_of(process) != first

    def test_one_that_was_killed_meanwhile_costs_nothing(self, process, slice_):
        process.decode(slice_)
        os.kill(pid_of(process), signal.SIGKILL)
        process._process.wait()
        np.testing.assert_array_equal(process.decode(slice_), NOISE_HU + 1024)

    def test_that_does_not_start_is_not_the_fault_of_the_file(self, tmp_path, monkeypatch):
        monkeypatch.setattr(decoding._process, "_process", None)
        monkeypatch.setattr(sys, "executable", str(tmp_path / "nowhere"))
        with pytest.raises(DicomError, match="slice.dcm.*the decoder process does not start: .*No such file"):
            read_slice(packed(tmp_path / "slice.dcm"))


class TestDamage:
    """A crash, a hang and a bomb cost the slice; the next one is read."""

    @pytest.fixture
    def misbehave(self, process, slice_, monkeypatch):
        """Decode a slice by a program that first does something else."""

        def decode(first, seconds=decoder.SECONDS_A_SLICE):
            program = changed_program(f"decoder.SECONDS_A_SLICE = {seconds}; decoder.decode = lambda *request: {first}")
            process.close()
            with monkeypatch.context() as context:
                context.setattr(decoding, "PROGRAM", program)
                with pytest.raises(RuntimeError) as caught:
                    process.decode(slice_)
            process.close()
            np.testing.assert_array_equal(process.decode(slice_), NOISE_HU + 1024)
            return str(caught.value)

        return decode

    @pytest.mark.skipif(os.name == "nt", reason="no signals")
    def test_a_crash_is_told_by_its_signal(self, misbehave):
        assert "killed by SIGABRT" in misbehave("os.abort()")
        assert "killed by SIGSEGV" in misbehave("ctypes.string_at(0)")

    def test_a_hang_ends_at_the_limit(self, misbehave):
        begun = time.monotonic()
        assert "its limits are 10 s" in misbehave("time.sleep(60)", seconds=0.2)
        assert time.monotonic() - begun < 50

    @pytest.mark.skipif(os.name == "nt", reason="no PyDLL of libc")
    def test_a_hang_that_never_comes_back_to_python_too(self, misbehave):
        assert "its limits are 10 s" in misbehave("ctypes.PyDLL(None).sleep(60)", seconds=0.2)

    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="no limit of the address space")
    def test_more_memory_than_the_limit_is_refused(self, misbehave):
        assert misbehave("bytearray(1 << 29) and bytearray(1 << 31)") == "MemoryError"

    @pytest.mark.parametrize(("field", "value"), [("bits", 44), ("size", 60000)])
    def test_a_code_stream_that_says_too_much_costs_its_file(self, tmp_path, field, value):
        path = save(jpeg2000_with(NOISE_HU, field, value), tmp_path / "damaged.dcm")
        with pytest.raises(DicomError, match="damaged.dcm.*JPEG 2000"):
            read_slice(path)
        np.testing.assert_array_equal(read_slice(packed(tmp_path / "next.dcm")).hu, NOISE_HU)

    @pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless], ids=lambda syntax: syntax.name)
    @pytest.mark.parametrize("shape", [(60, 66), (128, 64), (64, 32)])
    def test_another_shape_than_the_header_says_is_refused(self, tmp_path, syntax, shape):
        """Most decoders would give a sheared image, or a part."""
        with pytest.raises(DicomError, match="odd.dcm"):
            read_slice(packed(tmp_path / "odd.dcm", syntax=syntax, Rows=shape[0], Columns=shape[1]))

    def test_what_decoders_print_is_no_answer(self, process, slice_, monkeypatch):
        prints = "(print('w', flush=True), os.write(1, b'w'))"
        change = f"d = decoder.decode; decoder.decode = lambda *request: ({prints}, d(*request))[1]"
        monkeypatch.setattr(decoding, "PROGRAM", changed_program(change))
        np.testing.assert_array_equal(process.decode(slice_), NOISE_HU + 1024)


class TestCodedShape:
    @pytest.mark.parametrize("command", ["dcmcjpeg +e1", "dcmcjpeg +eb", "dcmcjpls", "gdcmconv --j2k"])
    def test_is_that_of_the_image(self, command, tmp_path):
        source = save(make_slice(ramp(48, 40)), tmp_path / "source.dcm")
        tool, *options = command.split()
        convert(tool, *options, source, tmp_path / "packed.dcm")
        pixels = pydicom.dcmread(tmp_path / "packed.dcm").PixelData
        assert decoder.coded_shape(next(pydicom.encaps.generate_frames(pixels, number_of_frames=1))) == (48, 40)

    @pytest.mark.parametrize("frame", [b"", b"\xff\xd8", bytes(100), b"\xff\xd8" + bytes(100)])
    def test_is_unknown_where_there_is_none(self, frame):
        assert decoder.coded_shape(frame) is None


class TestCallers:
    def test_a_script_without_a_guard_is_run_once_and_leaves_nothing(self, tmp_path):
        packed(tmp_path / "slice.dcm")
        code = """
            import sys
            from diffusionct_pipeline.dicom import decoding, read_slice
            print(read_slice(sys.argv[1] + "/slice.dcm").hu.shape[0])
            print(decoding._process._process.pid)
        """
        rows, pid = run_script(tmp_path, code)
        assert rows == "64" and wait_for_end(int(pid))

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
    def test_a_killed_caller_leaves_nothing(self, tmp_path):
        packed(tmp_path / "slice.dcm")
        code = """
            import os, signal, sys
            from diffusionct_pipeline.dicom import decoding, read_slice
            child = os.fork()
            if not child:
                read_slice(sys.argv[1] + "/slice.dcm")
                print(decoding._process._process.pid, flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
            os.waitpid(child, 0)
        """
        assert wait_for_end(int(run_script(tmp_path, code)[0]))

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
    def test_a_fork_has_its_own_process_and_leaves_that_of_its_parent(self, tmp_path):
        packed(tmp_path / "slice.dcm")
        code = """
            import os, sys
            from diffusionct_pipeline.dicom import decoding, read_slice
            def show():
                read_slice(sys.argv[1] + "/slice.dcm")
                print(decoding._process._process.pid, flush=True)
            show()
            child = os.fork()
            show()
            if child:
                assert os.waitpid(child, 0)[1] == 0
                show()
        """
        first, *others = run_script(tmp_path, code)
        assert sorted(others)[0] != sorted(others)[-1] and others.count(first) == 2

    def test_threads_take_turns(self, process, tmp_path):
        from concurrent.futures import ThreadPoolExecutor

        stacks = [pydicom.dcmread(packed(tmp_path / f"{n}.dcm", NOISE_HU + n)) for n in range(8)]
        with ThreadPoolExecutor(4) as pool:
            for n, cells in enumerate(pool.map(process.decode, stacks)):
                np.testing.assert_array_equal(cells, NOISE_HU + n + 1024)

    def test_files_of_the_current_folder_are_not_imported(self, tmp_path, monkeypatch):
        (tmp_path / "struct.py").write_text("raise SystemExit(3)")
        (tmp_path / "numpy.py").write_text("raise SystemExit(3)")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", [folder for folder in sys.path if folder])
        process = decoding.DecoderProcess()
        slice_ = pydicom.dcmread(packed(tmp_path / "slice.dcm"))
        try:
            np.testing.assert_array_equal(process.decode(slice_), NOISE_HU + 1024)
        finally:
            process.close()
