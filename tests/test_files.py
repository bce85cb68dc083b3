"""What is written is whole or absent."""

import pytest

from diffusionct_pipeline.files import require_writable, whole_file, whole_folder, write_whole


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
