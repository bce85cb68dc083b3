"""All series on the workers of a Ray of this machine: the bytes of one run, whichever workers die."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.runs import HU, REPORT, tree, write_scans
from helpers.volumes import affine_ras, nifti, phantom, volume_of

from diffusionct_pipeline.commands._main import main
from diffusionct_pipeline.standardize import on_ray as module
from diffusionct_pipeline.standardize.folder import standardize_folder
from diffusionct_pipeline.standardize.on_ray import standardize_on_ray
from diffusionct_pipeline.standardize.options import FolderOptions
from diffusionct_pipeline.standardize.series_list import ListedSeries
from diffusionct_pipeline.utils.usage import UsageError

ROOT = Path(__file__).parents[2]
TIMES = ("started", "ended", "seconds", "seconds_to_load")
OF_ITS_RUN = ("written", "finished_before", "clipped_pixels", "unlike_training", "seconds_per_slice")
# Not imported here: it reads its settings as it is imported.
needs_ray = pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="Ray is not installed")


def visible(out):
    return {name: data for name, data in tree(out).items() if name[0] != "."}


def timeless(report, beside=()):
    entries = [{key: value for key, value in entry.items() if key not in OF_ITS_RUN} for entry in report["series"]]
    return {key: value for key, value in report.items() if key not in (*TIMES, *beside)} | {"series": entries}


def workers():
    """Processes of Ray that hold an actor and descend from this one."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::SeriesWorker") and is_ours(int(path.parent.name)):
                found.append(int(path.parent.name))
        except OSError:
            pass
    return found


def is_ours(pid):
    while pid > 1 and pid != os.getpid():
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return pid == os.getpid()


@needs_ray
class TestOnRay:
    def test_writes_the_bytes_and_the_report_of_one_run(self, tmp_path, model, capfd):
        scans = write_scans(tmp_path / "scans", [(series, number) for series in (1, 2, 3) for number in (1, 2)])
        for name, voxels in (("ct", volume_of(phantom())), ("mask", (volume_of(phantom()) > 0).astype("<i2"))):
            (scans / f"{name}.nii").write_bytes(nifti(voxels, affine_ras()))
        (scans / "1/cut.dcm").write_bytes((scans / "1/1.dcm").read_bytes()[:900])
        whole = standardize_folder(scans, tmp_path / "whole", model=model, page=True)
        capfd.readouterr()
        options = ["--model", model, "--page", "--ray", "local"]
        assert main(["standardize", str(scans), str(tmp_path / "out"), *options]) == 1, "one file is cut off"
        assert visible(tmp_path / "out") == tree(tmp_path / "whole")
        report = json.loads((tmp_path / "out" / REPORT).read_text())
        assert timeless(report) == timeless(whole)
        said = capfd.readouterr()
        assert said.out.startswith("9 of 9 slices in 4 series are standardized")
        progress = [line for line in said.err.splitlines() if line.startswith("standardize: ")]
        lines = [
            line for line in said.err.splitlines() if not line.startswith(("standardize: ", "warning: ", "failed: "))
        ]
        assert progress and lines == [], "Ray is quiet"

    @pytest.mark.slow
    def test_a_wrong_option_is_said_as_ever(self, tmp_path, model, capsys):
        scans = write_scans(tmp_path / "scans", [(1, 1), (2, 1)])
        command = ["standardize", str(scans), str(tmp_path / "out"), "--model", model, "--ray", "local"]
        assert main([*command, "--target", "Br4O"]) == 2 and "Br4O" in capsys.readouterr().err
        assert not (tmp_path / "out" / REPORT).exists()


class FakeRay:
    """A Ray whose workers are in this process.

    Args:
        cores: That it has.
        do: What a worker does with a series.
        begin: What the worker of a number answers at first.
    """

    class exceptions:
        class RayActorError(Exception):
            pass

        class RayTaskError(Exception):
            def __init__(self, cause):
                self.cause = cause

    def __init__(self, cores, do, begin=lambda number: ""):
        self.cores, self.do, self.begin_of, self.given, self.workers = cores, do, begin, [], 0

    def cluster_resources(self):
        return {"CPU": float(self.cores), "memory": 2.0**40}

    def remote(self, **options):
        assert options["max_restarts"] == -1 and options["max_task_retries"] == module.RETRIES
        return lambda kind: SimpleNamespace(remote=self.worker)

    def worker(self, *options):
        self.workers += 1
        number = self.workers

        def standardize(item, before):
            self.given.append((number, item.path, before))
            return lambda: self.do(item)

        begin = SimpleNamespace(remote=lambda: lambda: self.begin_of(number))
        return SimpleNamespace(begin=begin, standardize=SimpleNamespace(remote=standardize))

    def wait(self, calls, num_returns):
        (first, *rest) = [call for call in calls if call not in self.pending(calls)]
        return [first], rest

    def pending(self, calls):
        return []

    def get(self, call):
        try:
            return call()
        except self.exceptions.RayActorError:
            raise
        except Exception as error:
            raise self.exceptions.RayTaskError(error) from error


def run_fake(ray, count=3, shown=None):
    listed = [ListedSeries(str(number), f"s{number}", 2, "") for number in range(count)]
    progress = (lambda *call: None) if shown is None else lambda *call: shown.append(call)
    return module._run_all(ray, Path("in"), Path("out"), FolderOptions(), listed, progress)


def raising(error):
    def do(*_):
        raise error

    return do


class TestSchedule:
    def test_gives_each_series_once_to_a_free_worker(self):
        shown = []
        ray = FakeRay(2, lambda item: "")
        assert run_fake(ray, 5, shown) == [] and ray.workers == 2
        assert sorted(item[1:] for item in ray.given) == [(f"s{number}", number) for number in range(5)]
        assert shown == [(2 * number, 10) for number in range(6)]

    def test_a_worker_for_which_there_is_no_place_gets_nothing(self):
        ray = FakeRay(2, lambda item: "")
        waiting_for_ever = []

        def pending(calls):
            waiting_for_ever[:] = waiting_for_ever or calls[:1]
            return waiting_for_ever

        ray.pending = pending
        assert run_fake(ray, 4) == []
        assert [item[0] for item in ray.given] == [2, 2, 2, 2]

    def test_one_that_dies_too_often_costs_its_series(self):
        ray = FakeRay(2, lambda item: raising(FakeRay.exceptions.RayActorError("gone"))() if item.path == "s1" else "")
        (error,) = run_fake(ray)
        assert isinstance(error, ChildProcessError) and '"s1" was given up: its worker died 6 times' in str(error)
        assert len(ray.given) == 3

    def test_no_worker_at_all_is_an_error(self):
        ray = FakeRay(2, lambda item: "", begin=raising(FakeRay.exceptions.RayActorError("no module diffusionct")))
        with pytest.raises(ChildProcessError, match="no worker could be started: no module"):
            run_fake(ray)

    def test_a_wrong_option_ends_it_and_another_error_does_not(self):
        with pytest.raises(UsageError, match="target"):
            run_fake(FakeRay(1, raising(UsageError("target"))))
        failed = run_fake(ray := FakeRay(1, raising(FileNotFoundError("gone"))))
        assert [type(error) for error in failed] == [FileNotFoundError] * 3 and len(ray.given) == 3

    def test_a_full_disk_stops_the_rest(self):
        assert run_fake(ray := FakeRay(1, lambda item: "No space left on device")) == [] and len(ray.given) == 1


class TestUsage:
    def test_other_devices_and_lists_are_refused(self, tmp_path, model, capsys):
        scans = write_scans(tmp_path / "scans", [(1, 1)])
        command = ["standardize", str(scans), str(tmp_path / "out"), "--model", model, "--ray", "local"]
        assert main([*command, "--device", "cuda"]) == 2 and '"cpu" with Ray, got "cuda"' in capsys.readouterr().err
        assert main([*command, "--series-list", str(scans), "--index", "1"]) == 2 and "--ray" in capsys.readouterr().err
        assert (
            main([*command[:3], "--ray", "local", "--system", "input"]) == 2 and "--system" in capsys.readouterr().err
        )

    def test_without_ray_it_says_what_to_install(self, tmp_path, model, monkeypatch):
        scans = write_scans(tmp_path / "scans", [(1, 1)])
        monkeypatch.setitem(sys.modules, "ray", None)
        with pytest.raises(ImportError, match=r'pip install "\.\[ray\]"'):
            standardize_on_ray(scans, tmp_path / "out", model=model)


@needs_ray
@pytest.mark.slow
class TestKilledWorkers:
    def test_a_thousand_slices_with_two_kills(self, tmp_path, model):
        """Ten series of a hundred slices; a worker is killed at a quarter and at a half of them."""
        scans = write_scans(tmp_path / "scans", [(s, n) for s in range(1, 11) for n in range(1, 101)], hu=HU)
        begun = time.perf_counter()
        whole = standardize_folder(scans, tmp_path / "whole", model=model)
        plain, killed = time.perf_counter() - begun, []
        out = tmp_path / "out"

        def kill():
            for share in (250, 500):
                while len(list(out.rglob("*.dcm"))) < share:
                    time.sleep(0.05)
                victim = next(pid for pid in workers() if pid not in killed)
                killed.append(victim)
                os.kill(victim, signal.SIGKILL)

        thread = threading.Thread(target=kill, daemon=True)
        thread.start()
        begun = time.perf_counter()
        report = standardize_on_ray(scans, out, model=model)
        on_ray = time.perf_counter() - begun
        thread.join(1)
        print(
            f"{plain:.1f} s plain, {on_ray:.1f} s on Ray with {len(killed)} kills, {report['finished_before']} taken up"
        )
        assert len(killed) == 2 and report["written"] + report["finished_before"] == 1000
        assert visible(out) == tree(tmp_path / "whole")
        assert timeless(report, OF_ITS_RUN) == timeless(whole, OF_ITS_RUN)

    def test_nobody_else_gets_in(self, tmp_path, model):
        """The server of a local Ray listens on all interfaces; it asks for a token."""
        scans = write_scans(tmp_path / "scans", [(s, n) for s in range(1, 3) for n in range(1, 101)], hu=HU)
        program = "import sys; from diffusionct_pipeline.commands._main import main; sys.exit(main())"
        command = [
            sys.executable,
            "-c",
            program,
            "standardize",
            scans,
            tmp_path / "out",
            "--model",
            model,
            "--ray",
            "local",
        ]
        # Without the token that an earlier run may have left in this process.
        clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
        run = subprocess.Popen(command, env={**clean, "PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL)
        try:
            (port,) = wait_for(gcs_ports)
            code = f"import ray; ray.init(address='127.0.0.1:{port}', logging_level=40); print('in')"
            intruder = subprocess.run(
                [sys.executable, "-c", code], env=clean, capture_output=True, text=True, timeout=120
            )
            assert run.poll() is None, "it must be tried while the run goes on"
            assert (
                intruder.returncode != 0
                and "Unauthenticated" in intruder.stderr
                and "in" not in intruder.stdout.split()
            )
        finally:
            run.terminate()
            run.wait(60)


def gcs_ports():
    """Ports of Ray servers that descend from this process, as they say in their command lines."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
            if words[0].endswith(b"gcs_server") and is_ours(int(path.parent.name)):
                yield from listening(int(path.parent.name))
        except OSError:
            pass


def listening(pid):
    """Ports on which a process listens on all interfaces."""
    sockets = {
        os.readlink(path)[8:-1] for path in Path(f"/proc/{pid}/fd").iterdir() if os.readlink(path).startswith("socket:")
    }
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and words[9] in sockets and set(words[1].partition(":")[0]) == {"0"}:
                yield int(words[1].partition(":")[2], 16)


def wait_for(find, seconds=120):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := list(find()):
            return found
        time.sleep(0.2)
    raise AssertionError(f"nothing within {seconds} s")
