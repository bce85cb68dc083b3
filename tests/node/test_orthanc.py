"""Calls of Orthanc: what may go well later is told from what never will, and no answer names a file outside of its folder."""

import http.server
import threading

import pytest

from diffusionct_pipeline.node.orthanc import Orthanc, Refused, Unavailable, require_id


@pytest.fixture
def server():
    """Answers with the number that the path ends in."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.headers.get("Authorization"))
            self.send_response(int(self.path[1:]))
            self.end_headers()
            self.wfile.write(b'{"Message": "words of Orthanc", "Details": "of Doe^Jane"}')

        def log_message(self, *_):
            pass

    seen = []
    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", seen
    server.shutdown()


@pytest.mark.parametrize("status, kind", [(500, Unavailable), (507, Unavailable), (400, Refused), (404, Refused)])
def test_an_error_is_of_its_kind_and_names_no_patient(server, status, kind):
    with pytest.raises(kind) as error:
        Orthanc(server[0]).get(f"/{status}")
    assert f"{status} words of Orthanc" in str(error.value) and "Doe" not in str(error.value)


def test_what_is_absent_can_be_asked_for(server):
    assert Orthanc(server[0]).find("/404") is None and Orthanc(server[0]).find("/200")


def test_no_answer_is_one_that_may_come_later():
    with pytest.raises(Unavailable, match="does not answer"):
        Orthanc("http://127.0.0.1:9").get("/system")


def test_a_password_comes_from_netrc_and_no_proxy_is_used(server, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login worker password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    Orthanc(server[0]).get("/200")
    assert server[1] == ["Basic d29ya2VyOnNlY3JldA=="]


@pytest.mark.parametrize("text", ["../../etc/passwd", "", "84ca6358-caba81f4-922ea659-92afb19f", "84CA6358" * 5])
def test_an_id_that_is_none_is_refused(text):
    with pytest.raises(Refused):
        require_id(text)
    assert require_id("84ca6358-caba81f4-922ea659-92afb19f-451af1b3")
