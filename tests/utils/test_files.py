"""What is written is whole or absent, and a folder can be kept for one process."""

import errno
import subprocess
import sys

import pytest

from diffusionct_pipeline.utils import files
from diffusionct_pipeline.utils.files import (
    LOCK_FILE,
    locked_folder,
    require_writable,
    whole_file,
    whole_folder,
    write_whole,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


class TestWholeFile:
    def test_replaces_and_makes_folders(self, tmp_path):
        for text in ("old", "new"):
            write_whole(tmp_path / "deep" / "er" / "file.txt", text)
        assert (tmp_path / "deep/er/file.txt").read_text() == "new"
        assert names(tmp_path / "deep" / "er") == ["file.txt"]

    def test_an_error_leaves_what_was_there(self, tmp_path):
        write_whole(tmp_path / "file", b"old")
        with pytest.raises(RuntimeError), whole_file(tmp_path / "file") as part:
            part.write_bytes(b"half")
            raise RuntimeError
        assert (tmp_path / "file").read_bytes() == b"old" and names(tmp_path) == ["file"]

    def test_an_error_of_the_file_system_names_the_file(self, tmp_path):
        with pytest.raises(OSError) as error, whole_file(tmp_path / "file"):
            raise OSError(errno.ENOSPC, "No space left on device")  # as `write` does: without a name
        assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(tmp_path / "file"))
        with pytest.raises(OSError) as error, whole_file(tmp_path / "file"):
            open(tmp_path / "another")  # noqa: SIM115
        assert error.value.filename == str(tmp_path / "another")

    def test_is_on_the_disk_before_it_has_its_name(self, tmp_path, monkeypatch):
        synced = []
        monkeypatch.setattr(files.os, "fsync", lambda descriptor: synced.append((tmp_path / "file").exists()))
        write_whole(tmp_path / "file", "text")
        assert synced == [False]


class TestLockedFolder:
    def test_keeps_others_out_and_leaves_nothing(self, tmp_path):
        with locked_folder(tmp_path / "new"):
            with pytest.raises(BlockingIOError) as error, locked_folder(tmp_path / "new"):
                pytest.fail("the block must not run")
            assert error.value.filename == str(tmp_path / "new")
        with locked_folder(tmp_path / "new"):
            assert names(tmp_path / "new") == [LOCK_FILE]
        assert names(tmp_path / "new") == []

    def test_is_free_after_a_kill(self, tmp_path):
        code = (
            "import os, signal, sys; from diffusionct_pipeline.utils.files import locked_folder\n"
            "with locked_folder(sys.argv[1]): os.kill(os.getpid(), signal.SIGKILL)"
        )
        assert subprocess.run([sys.executable, "-c", code, tmp_path]).returncode == -9
        assert names(tmp_path) == [LOCK_FILE]
        with locked_folder(tmp_path):
            pass
        assert names(tmp_path) == []

    def test_is_not_held_through_a_file_that_its_holder_has_removed(self, tmp_path, monkeypatch):
        """Two runs that open the file of a third, which ends before they lock it, must not both hold the folder."""
        locks = []

        def flock(descriptor, operation, original=files.fcntl.flock):
            if not locks:
                (tmp_path / LOCK_FILE).unlink()
            locks.append(descriptor)
            original(descriptor, operation)

        monkeypatch.setattr(files.fcntl, "flock", flock)
        with locked_folder(tmp_path), pytest.raises(BlockingIOError), locked_folder(tmp_path):
            pytest.fail("the block must not run")
        assert len(locks) == 3

    def test_is_open_to_all_on_a_file_system_without_locks(self, tmp_path, monkeypatch):
        def flock(*_):
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(files.fcntl, "flock", flock)
        with locked_folder(tmp_path):
            pass
        assert names(tmp_path) == []

    def test_that_is_removed_meanwhile_is_no_error(self, tmp_path):
        with locked_folder(tmp_path / "out"):
            (tmp_path / "out" / LOCK_FILE).unlink()
            (tmp_path / "out").rmdir()
        assert names(tmp_path) == []


class TestWholeFolder:
    def test_appears_when_it_is_complete(self, tmp_path):
        with whole_folder(tmp_path / "out") as part:
            (part / "file").write_text("whole")
            assert not (tmp_path / "out").exists()
        assert names(tmp_path) == ["out"] and names(tmp_path / "out") == ["file"]

    def test_an_error_leaves_nothing(self, tmp_path):
        with pytest.raises(RuntimeError), whole_folder(tmp_path / "out") as part:
            (part / "file").write_text("half")
            raise RuntimeError
        assert names(tmp_path) == []

    def test_is_made_where_temporaries_may_be(self, tmp_path):
        with whole_folder(tmp_path / "out", temporaries=tmp_path / "kept") as part:
            assert part.parent == tmp_path / "kept"
            (part / "file").write_text("whole")
        assert names(tmp_path) == ["kept", "out"] and names(tmp_path / "kept") == []

    @pytest.mark.skipif(files.fcntl is None, reason="no locks")
    def test_what_killed_processes_left_beside_it_goes_and_what_a_living_one_writes_stays(self, tmp_path):
        code = (
            "import os, signal, sys; from pathlib import Path; from diffusionct_pipeline.utils.files import whole_folder\n"
            "with whole_folder(sys.argv[1]) as part:\n"
            "    (part / 'half').write_text('half')\n"
            "    os.kill(os.getpid(), signal.SIGKILL)"
        )
        assert subprocess.run([sys.executable, "-c", code, tmp_path / "killed"]).returncode == -9
        (left,) = tmp_path.iterdir()
        assert left.name.startswith(".") and (left / "half").is_file()
        (tmp_path / ".0.part").mkdir()  # somebody else's
        with whole_folder(tmp_path / "one") as living:
            (living / "a").write_text("a")
            with whole_folder(tmp_path / "two"):
                pass
            assert (living / "a").is_file()
        assert names(tmp_path) == [".0.part", "one", "two"] and (tmp_path / "one/a").is_file()

    def test_replaces_an_empty_folder_and_a_full_one_only_when_asked(self, tmp_path):
        (tmp_path / "out").mkdir()
        with whole_folder(tmp_path / "out") as part:
            (part / "first").write_text("")
        with pytest.raises(FileExistsError, match="out"), whole_folder(tmp_path / "out"):
            pytest.fail("the block must not run")
        with whole_folder(tmp_path / "out", replace=True) as part:
            (part / "second").write_text("")
        assert names(tmp_path) == ["out"] and names(tmp_path / "out") == ["second"]


def test_require_writable_leaves_nothing_behind(tmp_path):
    require_writable(tmp_path / "new")
    assert names(tmp_path / "new") == []
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="is a file"):
        require_writable(tmp_path / "file")
    with pytest.raises(OSError, match="cannot be written to"):
        require_writable(tmp_path / "file" / "deeper")
