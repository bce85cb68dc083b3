"""The app as a process of its own, and requests to it that may say anything."""

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CODE = "import sys; from diffusionct_pipeline.commands._main import main; sys.exit(main())"


class App:
    """A running app.

    Attributes:
        process: Of it.
        port, code: As it tells them.
        cookie: Of a browser that entered the code, "" before.
    """

    def __init__(self, process, port, code):
        self.process, self.port, self.code, self.cookie = process, port, code, ""

    @property
    def address(self):
        return f"http://127.0.0.1:{self.port}"

    def ask(self, path, body=None, method=None, **headers):
        """(status, body, headers) of a request as the app's own page makes it; a header that is None is left out."""
        own = {"Host": f"127.0.0.1:{self.port}", "Cookie": self.cookie}
        if body is not None:
            own["Origin"] = self.address
        own |= {name.replace("_", "-"): value for name, value in headers.items()}
        body = json.dumps(body).encode() if isinstance(body, dict) else body
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        try:
            connection.putrequest(
                method or ("GET" if body is None else "POST"), path, skip_host=True, skip_accept_encoding=True
            )
            if body is not None and "Content-Length" not in own and "Transfer-Encoding" not in own:
                own["Content-Length"] = str(len(body))
            for name, value in own.items():
                if value:
                    connection.putheader(name, value)
            connection.endheaders()
            with contextlib.suppress(ConnectionError):  # it may answer and hang up before all is sent
                if body:
                    connection.send(body)
            answer = connection.getresponse()
            return answer.status, answer.read(), dict(answer.getheaders())
        finally:
            connection.close()

    def enter(self):
        status, _, headers = self.ask("/enter", {"code": self.code})
        assert status == 200
        self.cookie = headers["set-cookie"].split(";")[0]

    def send(self, place, name, data, **headers):
        return self.ask(f"/api/files/{place}", data, X_File_Name=name, **headers)

    def state(self):
        return json.loads(self.ask("/api/state")[1])


@contextlib.contextmanager
def running_app(*arguments, temporary):
    """`diffusionct app --port 0` with temporary files in a folder; it is interrupted at the end, as by Ctrl-C."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, "app", "--port", "0", *map(str, arguments)], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        line = process.stdout.readline()
        found = re.fullmatch(
            r"open http://127\.0\.0\.1:(\d+) and enter the code (\d{4}) (\d{4}); Ctrl-C ends it\n", line
        )
        assert found, line + process.stderr.read()
        yield App(process, int(found[1]), found[2] + found[3])
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        finally:
            process.kill()
            process.wait()
