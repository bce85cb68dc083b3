"""Whatever happens to the node: nothing is lost, done twice or passed over in silence."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.dicom import make_slice
from helpers.node import RULES, push, states
from helpers.orthanc_server import Server, wait_until
from helpers.runs import HU

from diffusionct_pipeline.commands._main import main
from diffusionct_pipeline.node.delivery import Receiver
from diffusionct_pipeline.node.orthanc import Orthanc
from diffusionct_pipeline.node.worker import serve

TESTS = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}

pytestmark = pytest.mark.slow


@contextlib.contextmanager
def small_disk(folder, size):
    """A file system of its own; the block may enlarge it."""
    folder.mkdir(parents=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("mounting is not permitted")
    try:
        yield lambda more: subprocess.run(["mount", "-o", f"remount,size={more}", folder], check=True)
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@contextlib.contextmanager
def worker(url, work, model, *more):
    """A worker in a process of its own."""
    (work.parent / "rules.toml").write_text('[[rule]]\nname = "CT"\nmodality = "CT"\n')
    code = "import sys; from diffusionct_pipeline.commands._main import main; sys.exit(main())"
    command = [
        sys.executable,
        "-c",
        code,
        "serve",
        "--orthanc",
        url,
        "--rules",
        work.parent / "rules.toml",
        "--work",
        work,
    ]
    with open(work.parent / "worker.log", "ab") as log:
        process = subprocess.Popen([*command, "--model", model, "--poll", "0.2", *more], stderr=log, env=ENVIRONMENT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def state_of(orthanc, number="1"):
    found = states(orthanc).get(number)
    return "" if found is None else found.state


def test_killed_at_random_moments_it_does_every_series_once(tmp_path, model):
    Server(tmp_path, "ORTHANC")  # skips where there is none
    command = [sys.executable, TESTS / "helpers/node_kills.py", tmp_path, model, "20", "20", "5"]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    print(found)
    assert found["problems"] == [] and found["killed"] == 25
    assert len(set(found["done at each kill"])) > 5, "the kills must strike while there is work"


def test_orthanc_killed_before_a_series_is_stable_loses_none(server, tmp_path, model):
    push(Orthanc(server.url), 1, 2)
    server.kill()
    server.start()
    serve(server.url, RULES, tmp_path / "work", model=model, poll=0.2, once=True)
    assert state_of(Orthanc(server.url)) == "done"


class TestThePeer:
    @pytest.fixture
    def peer(self, server, tmp_path):
        server.stop()
        peer = Server(tmp_path / "peer", "PACS").knows(server)
        server.knows(peer).start()
        yield peer
        peer.stop()

    def test_down_for_a_while_has_everything_in_the_end(self, server, peer, tmp_path, model):
        push(Orthanc(server.url), 1, 2)
        later = threading.Timer(8, peer.start)
        later.start()
        serve(
            server.url, RULES, tmp_path / "work", model=model, poll=0.2, once=True, receiver=Receiver("pacs", 30, 0.5)
        )
        later.join()
        delivery = states(Orthanc(server.url))["1"].delivery
        assert delivery.state == "delivered" and delivery.tries > 1
        assert Orthanc(server.url).get(f"/storage-commitment/{delivery.commitment}")["Status"] == "Success"
        assert len(Orthanc(peer.url).get("/instances")) == 2
        assert main(["serve", "--orthanc", server.url, "--status"]) == 0

    def test_down_for_good_is_said(self, server, peer, tmp_path, model, capsys):
        push(Orthanc(server.url), 1)
        serve(server.url, RULES, tmp_path / "work", model=model, poll=0.2, once=True, receiver=Receiver("pacs", 2, 0.2))
        assert main(["serve", "--orthanc", server.url, "--status"]) == 1
        assert "undelivered  3 " in capsys.readouterr().out
        peer.start()
        receiver = Receiver("pacs", 2, 0.2)
        serve(server.url, RULES, tmp_path / "work", model=model, poll=0.2, once=True, receiver=receiver, resend=True)
        assert states(Orthanc(server.url))["1"].delivery.state == "delivered"


class TestAFullDisk:
    def test_of_the_worker_makes_series_wait(self, server, tmp_path, model):
        orthanc = Orthanc(server.url)
        push(orthanc, *range(1, 9))
        with small_disk(tmp_path / "work", "40k") as enlarge, worker(server.url, tmp_path / "work", model):
            wait_until(lambda: state_of(orthanc) == "waiting", 180)
            assert "No space left" in states(orthanc)["1"].reason
            enlarge("7m")
            wait_until(lambda: state_of(orthanc) == "done", 120)
            assert len(orthanc.get("/instances")) == 16

    def test_of_orthanc_makes_results_wait(self, tmp_path, model):
        with small_disk(tmp_path / "orthanc", "7m") as enlarge:
            server = Server(tmp_path / "orthanc", "ORTHANC", StorageCompression=False).start()
            orthanc = Orthanc(server.url)
            try:
                push(orthanc, 1, 2, 3)
                filler = tmp_path / "orthanc/filler"
                with contextlib.suppress(OSError), open(filler, "wb") as file:
                    while True:
                        file.write(bytes(4096))
                        file.flush()
                with worker(server.url, tmp_path / "work", model) as process:
                    log = tmp_path / "worker.log"
                    wait_until(
                        lambda: '"waiting"' in log.read_text() or '"Orthanc does not answer"' in log.read_text(), 180
                    )
                    assert process.poll() is None and state_of(orthanc) != "done"
                    filler.unlink(missing_ok=True)
                    enlarge("20m")
                    wait_until(lambda: state_of(orthanc) == "done", 120)
                assert len(orthanc.get("/instances")) == 6
            finally:
                server.stop()


def test_a_silent_socket_does_not_shut_orthanc_for_long(server):
    """It holds the DICOM port for half a minute, and several do one after the other: why the page on the node advises a firewall."""
    echo = next(filter(None, map(shutil.which, ("/usr/bin/echoscu", "echoscu"))), None)
    if echo is None:
        pytest.skip("echoscu is not installed")
    with socket.create_connection(("127.0.0.1", server.dicom)):
        begun = time.monotonic()
        command = [echo, "-aec", "ORTHANC", "-to", "60", "-ta", "60", "-td", "60", "127.0.0.1", str(server.dicom)]
        subprocess.run(command, check=True, timeout=60)
    print(f"C-ECHO answers after {time.monotonic() - begun:.1f} s")


def memory_mb(process):
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_a_thousand_slices_take_no_more_memory_than_some(server, tmp_path, model):
    orthanc, memory = Orthanc(server.url), []
    with worker(server.url, tmp_path / "work", model) as process:
        for series in range(1, 11):
            for number in range(1, 101):
                hu = np.random.default_rng(1000 * series + number).normal(40, 60, HU.shape).round()
                push(orthanc, dataset=make_slice(hu, series=series, number=number))
            wait_until(lambda series=series: state_of(orthanc, str(series)) == "done", 600)
            memory.append(memory_mb(process))
    print("MB at the start, in the middle and at the end:", *(round(memory[i]) for i in (0, 4, 9)))
    assert len(orthanc.get("/instances")) == 2000
    assert memory[9] < memory[0] + 100
