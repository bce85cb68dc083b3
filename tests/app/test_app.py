"""What the app refuses, and what it leaves behind: requests that no page of its own would make."""

import io
import json
import socket
import stat
import zipfile

import pytest

pytest.importorskip("starlette", reason="the extra app is not installed")
pytest.importorskip("uvicorn", reason="the extra app is not installed")
pytest.importorskip("matplotlib", reason="the extra plots is not installed")

from helpers.app import running_app  # noqa: E402
from helpers.dicom import make_slice, ramp, save  # noqa: E402

from diffusionct_pipeline.app.guard import MOST_TRIES, Door  # noqa: E402
from diffusionct_pipeline.app.uploads import Inbox, Limits, RefusedError, harmless_path  # noqa: E402
from diffusionct_pipeline.commands._main import main  # noqa: E402

MOST_GB = 0.02
SLICE = b"\0" * 1000


@pytest.fixture(scope="module")
def temporary(tmp_path_factory):
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="module")
def app(temporary, model):
    with running_app("--model", model, "--most-gb", MOST_GB, temporary=temporary) as app:
        app.enter()
        yield app


@pytest.fixture(autouse=True)
def empty(request):
    if "app" in request.fixturenames:
        for place in ("scans", "reference", "mask"):
            request.getfixturevalue("app").ask(f"/api/clear/{place}", {})


def zipped(members, **options):
    """Bytes of a zip with (name or ZipInfo, data) members."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **options) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return file.getvalue()


def error_of(answer):
    return json.loads(answer[1])["error"]


def files_in(folder):
    return [path.name for path in folder.rglob("*") if path.is_file()]


class TestWhoMayAsk:
    def test_it_listens_on_this_machine_only(self, app):
        with socket.socket() as other:
            other.settimeout(2)
            with pytest.raises(OSError):
                other.connect((socket.gethostbyname("127.0.0.2"), app.port))

    @pytest.mark.parametrize(
        "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1.evil.example:{port}", None]
    )
    def test_another_host_is_refused(self, app, host):
        """So that a name that was made to point to this machine is of no use (DNS rebinding)."""
        for path in ("/", "/api/state"):
            status, body, _ = app.ask(path, Host=host and host.format(port=app.port))
            assert status in (400, 403) and b"DiffusionCT" not in body

    @pytest.mark.parametrize(
        "origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1:{port}"]
    )
    def test_another_origin_is_refused(self, app, origin):
        origin = origin.format(port=app.port)
        assert app.ask("/api/clear/scans", {}, Origin=origin)[0] == 403
        assert app.ask("/api/state", Origin=origin)[0] == 403
        assert app.ask("/enter", {"code": app.code}, Origin=origin)[0] == 403

    def test_a_change_without_an_origin_is_refused(self, app):
        assert app.ask("/api/clear/scans", {}, Origin=None)[0] == 403

    @pytest.mark.parametrize("site", ["cross-site", "same-site"])
    def test_a_request_from_another_site_is_refused(self, app, site):
        assert app.ask("/api/state", Sec_Fetch_Site=site)[0] == 403
        assert app.ask("/api/state", Sec_Fetch_Site="same-origin")[0] == 200

    @pytest.mark.parametrize("cookie", [None, "", "diffusionct=x", "diffusionct_{port}=guess", "a;;=;\x01"])
    def test_nobody_without_the_code_sees_anything(self, app, cookie):
        cookie = cookie and cookie.format(port=app.port)
        for path in ("/api/state", "/api/results.zip", "/api/slice/0/0", "/api/features.csv", "/docs"):
            assert app.ask(path, Cookie=cookie)[0] == 401

    def test_ten_wrong_codes_close_the_door(self):
        door = Door(1)
        for _ in range(MOST_TRIES):
            assert door.enter(f"{(int(door.code) + 1) % 10**8:08d}") is None
        assert door.enter(door.code) is None

    def test_the_key_is_in_a_cookie_that_scripts_and_other_sites_do_not_see(self):
        door = Door(8765)
        cookie = door.enter(f"{door.code[:4]} {door.code[4:]}")
        assert cookie.startswith("diffusionct_8765=") and "HttpOnly; SameSite=Strict" in cookie

    def test_every_answer_tells_browsers_to_be_strict(self, app):
        for path in ("/", "/app.js", "/api/state", "/nowhere"):
            headers = {name.lower(): value for name, value in app.ask(path)[2].items()}
            assert (
                headers["content-security-policy"].startswith("default-src 'none'")
                and headers["cache-control"] == "no-store"
            )
            assert headers["x-content-type-options"] == "nosniff" and "access-control-allow-origin" not in headers


class TestUploads:
    @pytest.mark.parametrize(
        "name", ["../up.dcm", "a/../../up.dcm", "/etc/up.dcm", "..\\up.dcm", "C:\\up.dcm", "a%00b", "%2e%2e/up"]
    )
    def test_a_name_that_leads_elsewhere_is_refused(self, app, temporary, name):
        status, body, _ = app.send("scans", name, SLICE)
        assert status == 400 and b"leads out" in body and files_in(temporary) == []

    def test_strange_names_are_made_harmless(self):
        assert str(harmless_path("Ä b/<img src=x>.dcm")) == "Ä b/_img src_x_.dcm"
        assert str(harmless_path("a/.hidden")) == "a/_.hidden" and str(harmless_path("")) == "scan.dcm"
        with pytest.raises(RefusedError, match="longer"):
            harmless_path("x" * 500)

    def test_ten_gigabytes_are_refused_before_they_are_sent(self, app, temporary):
        status, body, _ = app.send("scans", "large.dcm", b"x", Content_Length=str(10 << 30))
        assert status == 413 and b"GiB" in body and files_in(temporary) == []

    def test_more_than_allowed_without_a_length_is_cut_off(self, app, temporary):
        data = b"".join(b"%x\r\n%s\r\n" % (1 << 20, bytes(1 << 20)) for _ in range(25)) + b"0\r\n\r\n"
        status, _, _ = app.send("scans", "endless.dcm", data, Transfer_Encoding="chunked")
        assert status == 413 and files_in(temporary) == [] and app.state()["files"]["scans"] == 0

    def test_a_zip_is_unpacked(self, app):
        assert app.send("scans", "two.zip", zipped([("a/1.dcm", SLICE), ("a/2.dcm", SLICE)]))[0] == 200
        assert app.state()["files"]["scans"] == 2

    def test_a_zip_bomb_is_refused(self, app, temporary):
        bomb = zipped([("bomb.dcm", bytes(30_000_000))], compression=zipfile.ZIP_DEFLATED)
        assert len(bomb) < 50_000
        status, body, _ = app.send("scans", "bomb.zip", bomb)
        assert status == 413 and files_in(temporary) == [] and app.state()["files"]["scans"] == 0

    def test_a_zip_bomb_that_lies_about_its_size_is_refused(self, app, temporary):
        bomb = bytearray(zipped([("bomb.dcm", bytes(30_000_000))], compression=zipfile.ZIP_DEFLATED))
        for mark, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
            at = bomb.index(mark) + place
            bomb[at : at + 4] = (1000).to_bytes(4, "little")
        status, _, _ = app.send("scans", "bomb.zip", bytes(bomb))
        assert status in (400, 413) and files_in(temporary) == [] and app.state()["files"]["scans"] == 0

    def test_too_many_files_are_refused(self, tmp_path):
        inbox = Inbox(tmp_path / "in", Limits(files=3))
        (tmp_path / "in/many.zip").write_bytes(zipped([(f"{i}.dcm", b"") for i in range(4)]))
        inbox.files = 1
        with pytest.raises(RefusedError, match="3 files"):
            inbox.unpack(tmp_path / "in/many.zip")
        assert files_in(tmp_path) == [] and inbox.files == 0

    @pytest.mark.parametrize("name", ["../up.dcm", "/etc/up.dcm", "a/../../../up.dcm", "..\\up.dcm"])
    def test_a_zip_that_leads_elsewhere_is_refused_whole(self, app, temporary, name):
        status, body, _ = app.send("scans", "slip.zip", zipped([("good.dcm", SLICE), (name, SLICE)]))
        assert status == 400 and b"leads out" in body and files_in(temporary) == []

    def test_a_link_in_a_zip_is_refused(self, app, temporary):
        link = zipfile.ZipInfo("link.dcm")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        status, body, _ = app.send("scans", "link.zip", zipped([(link, "/etc/passwd")]))
        assert status == 400 and b"link" in body and files_in(temporary) == []

    def test_a_damaged_zip_is_refused(self, app, temporary):
        data = zipped([("1.dcm", SLICE)])
        for damaged in (data[:-30], data[:40] + b"xxxx" + data[44:]):
            assert app.send("scans", "damaged.zip", damaged)[0] == 400
            assert files_in(temporary) == []

    def test_two_files_of_one_name_are_both_kept(self, app):
        for _ in range(2):
            assert app.send("scans", "1.dcm", SLICE)[0] == 200
        assert app.state()["files"]["scans"] == 2


class TestRequests:
    @pytest.mark.parametrize(
        ("path", "body", "status", "said"),
        [
            ("/api/files/elsewhere", {}, 404, "place"),
            ("/api/standardize", b"no json", 400, "JSON"),
            ("/api/standardize", b"[]", 400, "object"),
            ("/api/standardize", b" " * (2 << 20), 413, "must not exceed"),
            ("/api/standardize", {"way": "magic"}, 400, "`way`"),
            ("/api/standardize", {"way": "kernel", "target": "../x"}, 400, "`target`"),
            ("/api/standardize", {"way": "reference"}, 400, "reference"),
            ("/api/standardize", {"way": "standard", "noise": -3}, 400, "noise"),
            ("/api/standardize", {"way": "standard", "noise": True}, 400, "noise"),
            ("/api/region", {"series": 0, "slice": 0, "points": []}, 404, "no results"),
            ("/api/region", {"series": "0"}, 400, "`series`"),
        ],
    )
    def test_what_makes_no_sense_is_refused_in_words(self, app, path, body, status, said):
        answer = app.ask(path, body)
        assert answer[0] == status and said in error_of(answer)

    def test_no_scans_is_an_error_in_words_without_folders(self, app, temporary):
        app.send("scans", "notes.txt", b"no scan")
        app.ask("/api/characterise", {})
        while (state := app.state())["task"]:
            pass
        assert state["error"] and str(temporary) not in state["error"]

    def test_there_is_nothing_to_download_yet(self, app):
        assert app.ask("/api/results.zip")[0] == 404 and app.ask("/api/features.csv")[0] == 404


class TestEnd:
    def test_ctrl_c_leaves_nothing(self, tmp_path, model):
        with running_app("--model", model, temporary=tmp_path) as app:
            app.enter()
            assert app.send("scans", "1.dcm", SLICE)[0] == 200
            (folder,) = tmp_path.glob("diffusionct_app.*")
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700 and files_in(folder) == ["1.dcm"]
        assert app.process.returncode == 0 and list(tmp_path.glob("diffusionct_app.*")) == []

    @pytest.mark.slow
    def test_what_a_kill_left_is_removed_by_the_next_one_which_leaves_living_ones_alone(self, tmp_path, model):
        with running_app("--model", model, temporary=tmp_path) as killed:
            killed.process.kill()
            killed.process.wait()
            (left,) = tmp_path.glob("diffusionct_app.*")
        with running_app("--model", model, temporary=tmp_path), running_app("--model", model, temporary=tmp_path):
            assert not left.exists() and len(list(tmp_path.glob("diffusionct_app.*"))) == 2

    def test_a_taken_port_is_one_line(self, capsys):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            assert main(["app", "--port", str(taken.getsockname()[1])]) == 1
        assert "choose another with --port" in capsys.readouterr().err

    def test_a_file_as_input_is_wrong_usage(self, tmp_path, capsys):
        path = save(make_slice(ramp(32, 32)), tmp_path / "1.dcm")
        assert main(["app", str(path)]) == 2 and "drop the file onto the page" in capsys.readouterr().err
