"""A real Orthanc (Debian: orthanc) in a folder of the tests, on free ports of 127.0.0.1."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from diffusionct_pipeline.node.orthanc import Orthanc, Unavailable

NAMES = ("Orthanc", "orthanc")


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Server:
    """One Orthanc; `start`, `kill` and `stop` as often as wanted, with the same database."""

    def __init__(self, folder, title, **settings):
        self.program = next(filter(None, map(shutil.which, NAMES)), None)
        if self.program is None:
            pytest.skip("orthanc is not installed")
        self.folder, self.title = Path(folder), title
        self.http, self.dicom = free_port(), free_port()
        self.url, self.process, self.settings = f"http://127.0.0.1:{self.http}", None, settings
        self.peers = {}

    def knows(self, *others):
        self.peers |= {other.title.lower(): [other.title, "127.0.0.1", other.dicom] for other in others}
        return self

    def start(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = {
            "Name": self.title,
            "StorageDirectory": str(self.folder / "db"),
            "IndexDirectory": str(self.folder / "db"),
            "Plugins": [],
            "HttpPort": self.http,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomAet": self.title,
            "DicomPort": self.dicom,
            "DicomModalities": self.peers,
            "DicomAlwaysAllowEcho": True,
            "DicomAlwaysAllowStore": True,
            "StableAge": 1,
            "JobsHistorySize": 100,
            **self.settings,
        }
        config = self.folder / "orthanc.json"
        config.write_text(json.dumps(settings))
        with open(self.folder / "log.txt", "ab") as log:
            self.process = subprocess.Popen([self.program, str(config)], stdout=log, stderr=log)
        for _ in range(300):
            with contextlib.suppress(Unavailable):
                Orthanc(self.url).get("/system")
                return self
            time.sleep(0.1)
        raise AssertionError((self.folder / "log.txt").read_text()[-2000:])

    def kill(self):
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)


def wait_until(true, seconds=60.0, message="it never came true"):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, message
        time.sleep(0.1)
