import errno

import pydicom
import pytest
from helpers.dicom import derive, make_slice, save

from diffusionct_pipeline.dicom import DicomError, read_slice, write_slice


class TestWriteSlice:
    def test_makes_the_folder_and_gives_the_path(self, source, tmp_path):
        path = write_slice(derive(source), tmp_path / "a" / "b" / "out.dcm")
        assert path == tmp_path / "a" / "b" / "out.dcm" and path.exists()
        assert list(path.parent.iterdir()) == [path]

    def test_a_full_disk_leaves_nothing_behind(self, source, tmp_path, monkeypatch):
        def half_write(path, *args, **kwargs):
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(pydicom, "dcmwrite", half_write)
        with pytest.raises(DicomError, match="out.dcm.*No space left"):
            write_slice(derive(source), tmp_path / "out.dcm")
        assert list(tmp_path.iterdir()) == []

    def test_a_failed_run_keeps_the_earlier_result(self, source, tmp_path, monkeypatch):
        path = write_slice(derive(source), tmp_path / "out.dcm")
        before = path.read_bytes()

        def interrupt(*args, **kwargs):
            raise KeyboardInterrupt

        monkeypatch.setattr(pydicom, "dcmwrite", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_slice(derive(source), path)
        assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]

    def test_pixels_that_read_back_differently_are_an_error(self, source, tmp_path, monkeypatch):
        real = pydicom.dcmwrite

        def corrupt(path, *args, **kwargs):
            real(path, *args, **kwargs)
            data = bytearray(path.read_bytes())
            data[-1] ^= 1
            path.write_bytes(data)

        monkeypatch.setattr(pydicom, "dcmwrite", corrupt)
        with pytest.raises(DicomError, match="read back differently"):
            write_slice(derive(source), tmp_path / "out.dcm")
        assert list(tmp_path.iterdir()) == []

    def test_an_unwritable_folder(self, source, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(DicomError, match="cannot be written"):
            write_slice(derive(source), tmp_path / "file" / "out.dcm")

    def test_the_source_is_never_overwritten(self, tmp_path):
        path = save(make_slice(), tmp_path / "in.dcm")
        before = path.read_bytes()
        link = tmp_path / "link.dcm"
        link.symlink_to(path)
        for target in (path, link):
            with pytest.raises(DicomError, match="is the source image"):
                write_slice(derive(read_slice(path)), target)
        assert path.read_bytes() == before and link.is_symlink()

    def test_nor_an_earlier_result_that_is_the_source_now(self, source, tmp_path):
        path = write_slice(derive(source), tmp_path / "first.dcm")
        with pytest.raises(DicomError, match="is the source image"):
            write_slice(derive(read_slice(path), target_name="Br40"), path)

    def test_nor_foreign_files(self, source, tmp_path):
        (tmp_path / "notes.dcm").write_text("mine")
        with pytest.raises(DicomError, match="not a DICOM file; it is not overwritten"):
            write_slice(derive(source), tmp_path / "notes.dcm")
        other = save(make_slice(), tmp_path / "other.dcm")
        with pytest.raises(DicomError, match="another image"):
            write_slice(derive(source), other)

    def test_an_earlier_result_is_replaced(self, source, tmp_path):
        path = write_slice(derive(source), tmp_path / "out.dcm")
        write_slice(derive(source, source.hu + 10), path)
        assert read_slice(path).hu.mean() == pytest.approx(source.hu.mean() + 10)
        write_slice(derive(source, options={"seed": 5}), path)
        assert "seed=5" in pydicom.dcmread(path).DerivationDescription
