"""Whatever happens to a run: nothing is lost, half-written or left over, and the error names the path."""

import builtins
import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest
from helpers.runs import REPORT, tree, write_scans

from diffusionct_pipeline.commands import _main as cli
from diffusionct_pipeline.commands._main import main
from diffusionct_pipeline.simulation import ct_series
from diffusionct_pipeline.standardize import run as folder_job
from diffusionct_pipeline.standardize import series_run as module
from diffusionct_pipeline.standardize.folder import standardize_folder
from diffusionct_pipeline.utils import files
from diffusionct_pipeline.utils.files import LOCK_FILE, locked_folder

TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    return write_scans(tmp_path_factory.mktemp("scans") / "in")


@pytest.fixture(scope="module")
def undisturbed_run(scans, tmp_path_factory, model):
    """Output of a run without a fault."""
    out = tmp_path_factory.mktemp("undisturbed")
    standardize_folder(scans, out, model=model, num_samples=2)
    return out


@pytest.fixture(scope="module")
def undisturbed(undisturbed_run):
    """What it holds."""
    return tree(undisturbed_run)


def finishes(scans, out, model, undisturbed):
    """Whether a second run, without the fault, leaves what an undisturbed one does."""
    report = standardize_folder(scans, out, model=model, num_samples=2)
    return (report["failures"], report["stopped"]) == (0, "") and tree(out) == undisturbed


class Fault:
    """Raises an error at the n-th write, read, ... and from then on; `seen` counts the calls."""

    def __init__(self, original, number, code, only_once=False):
        self.original, self.number, self.code, self.only_once, self.seen = original, number, code, only_once, 0

    def __call__(self, *arguments, **options):
        self.seen += 1
        if self.seen == self.number or (self.seen > self.number and not self.only_once):
            raise OSError(self.code, os.strerror(self.code))
        return self.original(*arguments, **options)


class TestAFullDisk:
    @pytest.mark.parametrize("number", [1, 2, 3])
    @pytest.mark.parametrize("where", ["derived", "samples"])
    def test_stops_the_run_and_the_next_one_finishes(
        self, scans, tmp_path, model, undisturbed, monkeypatch, where, number
    ):
        with monkeypatch.context() as patch:
            owner, name = (pydicom, "dcmwrite") if where == "derived" else (module.SliceSamples, "to_bytes")
            fault = Fault(getattr(owner, name), number, errno.ENOSPC)
            patch.setattr(owner, name, fault if where == "derived" else lambda record: fault(record))
            report = standardize_folder(scans, tmp_path / "out", model=model, num_samples=2)
        assert (report["written"], report["failures"]) == (number - 1, 1)
        name = "dcm" if where == "derived" else "dcm.npz"
        assert f"{name}" in report["stopped"] and "No space left" in report["stopped"]
        left = tree(tmp_path / "out")
        assert left.items() <= undisturbed.items() and len(left) == 2 * (number - 1)
        assert finishes(scans, tmp_path / "out", model, undisturbed)

    def test_on_the_last_byte_leaves_no_temporary_file(self, tmp_path, monkeypatch):
        monkeypatch.setattr(files.os, "fsync", Fault(os.fsync, 1, errno.ENOSPC))
        with pytest.raises(OSError) as error:
            files.write_whole(tmp_path / "a", b"all of it")
        assert error.value.filename == str(tmp_path / "a") and error.value.errno == errno.ENOSPC
        assert tree(tmp_path) == {}

    def test_that_pydicom_reports_in_its_own_words_ends_the_run_with_one_line(
        self, scans, tmp_path, model, undisturbed, monkeypatch, capsys
    ):
        def wrapped(*arguments, **options):
            try:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError as error:  # as pydicom.filewriter does
                raise OSError(
                    f"With tag (7FE0,0010) got exception: {error}\nTraceback (most recent call last): ..."
                ) from error

        with monkeypatch.context() as patch:
            patch.setattr(pydicom, "dcmwrite", wrapped)
            code = cli.main(["standardize", str(scans), str(tmp_path / "out"), "--model", model, "--samples", "2"])
        said = capsys.readouterr().err
        assert code == 1 and "Traceback" not in said and said.count("failed:") == 1
        report = json.loads((tmp_path / "out" / REPORT).read_text())
        assert report["ended"] and report["stopped"].endswith('"OUT/samples/1/1.dcm.npz": No space left on device')
        assert finishes(scans, tmp_path / "out", model, undisturbed)

    @pytest.mark.parametrize(
        "error",
        [
            RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),  # safetensors
            OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), "some/.0.part/file"),
        ],
    )
    def test_in_any_command_is_one_line_that_names_the_folder(self, tmp_path, monkeypatch, capsys, error):
        def fail(*arguments, **options):
            raise error

        monkeypatch.setattr(ct_series, "write_slice", fail)
        command = ["simulate", str(tmp_path / "out"), "--phantoms", "1", "--slices", "1", "--kernels", "Br40"]
        assert cli.main(command) == 1
        (line,) = [line for line in capsys.readouterr().err.splitlines() if "simulate: " not in line or "error" in line]
        assert "phantom_0000" in line and line.endswith(os.strerror(files.full_disk(error).errno))
        assert tree(tmp_path) == {}

    def test_at_the_report_alone_is_said(self, scans, tmp_path, model, undisturbed, monkeypatch):
        monkeypatch.setattr(folder_job, "write_whole", Fault(None, 1, errno.ENOSPC))
        report = standardize_folder(scans, tmp_path / "out", model=model, num_samples=2)
        assert (report["written"], report["stopped"]) == (3, f"{REPORT} cannot be written: No space left on device")
        assert tree(tmp_path / "out") == undisturbed

    @pytest.mark.slow
    def test_of_a_real_file_system(self, scans, tmp_path, model, undisturbed):
        out = tmp_path / "out"
        out.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=36k", "tmpfs", out], capture_output=True)
        if mounted.returncode:
            pytest.skip("mounting is not permitted")
        try:
            report = standardize_folder(scans, out, model=model, num_samples=2)
            assert 0 < report["written"] < 3 and "No space left" in report["stopped"]
            assert tree(out).items() <= undisturbed.items()
            subprocess.run(["mount", "-o", "remount,size=10m", out], check=True)
            assert finishes(scans, out, model, undisturbed)
        finally:
            subprocess.run(["umount", out], check=True)


class TestTheOutputFolder:
    def test_that_may_not_be_written_to_is_named_and_left_as_it_is(self, scans, tmp_path, model):
        out = tmp_path / "out"
        out.mkdir()
        out.chmod(0o555)
        code = "import sys; from diffusionct_pipeline.commands._main import main; sys.exit(main())"
        command = [sys.executable, "-c", code, "standardize", scans, out, "--model", model]
        if os.geteuid() == 0:  # root may write anywhere, unless it gives that up
            command = ["setpriv", "--bounding-set=-dac_override", *command]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 1 and done.stderr.splitlines()[-1:] == [
            f'diffusionct standardize: error: "{out}" cannot be written to: Permission denied.'
        ]
        assert tree(out, report=True) == {}

    @pytest.mark.parametrize("replaced", [False, True])
    def test_that_is_removed_stops_the_run_and_is_not_made_again(
        self, scans, tmp_path, model, undisturbed, replaced, capsys, monkeypatch
    ):
        out = tmp_path / "out"

        def remove(of_series, *arguments, original=module.SeriesRun.write):
            result = original(of_series, *arguments)
            shutil.rmtree(out)
            if replaced:
                out.mkdir()
            return result

        with monkeypatch.context() as patch:
            patch.setattr(module.SeriesRun, "write", remove)
            assert main(["standardize", str(scans), str(out), "--model", model, "--samples", "2"]) == 1
        assert "removed or replaced while the run went on" in capsys.readouterr().err
        assert out.exists() == replaced and (not replaced or tree(out, report=True) == {})
        assert finishes(scans, out, model, undisturbed)

    def test_part_of_which_is_removed_counts_as_failure(self, scans, tmp_path, model, undisturbed, monkeypatch, capsys):
        out = tmp_path / "out"

        def remove(of_series, *arguments, original=module.SeriesRun.write):
            result = original(of_series, *arguments)
            (out / "1/1.dcm").unlink(missing_ok=True)
            return result

        with monkeypatch.context() as patch:
            patch.setattr(module.SeriesRun, "write", remove)
            assert main(["standardize", str(scans), str(out), "--model", model, "--samples", "2"]) == 1
        assert "1.dcm" in capsys.readouterr().err
        report = json.loads((out / REPORT).read_text())
        assert [item["path"] for item in report["lost"]] == [os.path.join("1", "1.dcm")]
        assert finishes(scans, out, model, undisturbed)


class TestReadErrors:
    @pytest.mark.parametrize("number", [1, 2, 3])
    @pytest.mark.parametrize("is_known", (True, False))
    def test_in_the_middle_cost_that_slice_only(
        self, scans, tmp_path, model, undisturbed_run, undisturbed, monkeypatch, number, is_known
    ):
        """Without an estimate from before, the scan is estimated without the slice."""
        broken = sorted(scans.rglob("*.dcm"))[number - 1]
        reading, original = [], pydicom.dcmread

        def dcmread(path, *arguments, stop_before_pixels=False, **options):
            if path == broken and not stop_before_pixels:
                reading.append(path)
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return original(path, *arguments, stop_before_pixels=stop_before_pixels, **options)

        with monkeypatch.context() as patch:
            patch.setattr(pydicom, "dcmread", dcmread)
            known = undisturbed_run / REPORT if is_known else None
            report = standardize_folder(scans, tmp_path / "out", model=model, num_samples=2, known_source=known)
        name = str(broken.relative_to(scans))
        (failure,) = [failure for entry in report["series"] for failure in entry["failures"]]
        assert reading and (report["written"], report["stopped"]) == (2, "")
        assert failure == {"path": name, "reason": f'"IN/{name}" cannot be read: Input/output error.'}
        left = tree(tmp_path / "out")
        assert left.keys() == {key for key in undisturbed if name not in key}
        if is_known:
            assert left.items() <= undisturbed.items() and finishes(scans, tmp_path / "out", model, undisturbed)

    def test_of_finished_files_are_failures_too(self, scans, tmp_path, model, undisturbed, monkeypatch):
        out = tmp_path / "out"
        assert finishes(scans, out, model, undisturbed)
        with monkeypatch.context() as patch:
            broken, original = str(out / "1/1.dcm"), builtins.open

            def opens(path, *arguments, **options):
                if str(path) == broken:
                    raise OSError(errno.EIO, os.strerror(errno.EIO), broken)
                return original(path, *arguments, **options)

            patch.setattr(builtins, "open", opens)
            patch.setattr("io.open", opens)
            report = standardize_folder(scans, out, model=model, num_samples=2)
        assert (report["finished_before"], report["failures"]) == (2, 1)
        assert "OUT/1/1.dcm" in report["series"][0]["failures"][0]["reason"]
        assert finishes(scans, out, model, undisturbed)


class TestTwoRunsOnOneFolder:
    def test_the_second_is_turned_away_and_writes_nothing(self, scans, tmp_path, model, undisturbed, capsys):
        out = tmp_path / "out"
        out.mkdir()
        with locked_folder(out):
            assert main(["standardize", str(scans), str(out), "--model", model]) == 1
            assert f'"{out}": {files.BUSY}' in capsys.readouterr().err
            assert set(tree(out, report=True)) == {LOCK_FILE}
        assert finishes(scans, out, model, undisturbed)

    def test_the_lock_of_a_killed_run_holds_nobody_up(self, scans, tmp_path, model, undisturbed):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / LOCK_FILE).touch()
        assert finishes(scans, tmp_path / "out", model, undisturbed)


def kill(model, scans, work, trials):
    """What `helpers/kills.py` found."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}
    command = [sys.executable, TESTS / "helpers/kills.py", model, scans, work, str(trials)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


class TestKills:
    @pytest.mark.parametrize(
        "trials", [pytest.param(8, id="few"), pytest.param(200, marks=pytest.mark.slow, id="many")]
    )
    def test_at_random_times_cost_nothing_but_time(self, tmp_path, model, trials):
        scans = write_scans(tmp_path / "in", [(series, number) for series in (1, 2) for number in range(1, 5)])
        found = kill(model, scans, tmp_path / "work", trials)
        assert found["problems"] == []
        assert found["killed midway"] >= max(trials // 10, 1), found
        if trials > 100:
            assert found["temporaries"] and found["reports"] > found["killed midway"] / 2, found
