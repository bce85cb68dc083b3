"""Damaged masks: refused by name, or regions on the voxels of the series; memory is not taken for what is no mask."""

import contextlib
import gzip
import io
import os
import tracemalloc
import zipfile
import zlib

import numpy as np
import pydicom
import pytest
import test_masks
from helpers import fuzz
from helpers.dicom import save

from diffusionct_pipeline.evaluation import masks, read_mask

IMAGE_FILES = ("mask.nii", "mask.nii.gz", "mask.nrrd", "mask.mha")
NAMES = ("mask.npz", *IMAGE_FILES, "seg.dcm", "rtstruct.dcm")


@pytest.fixture
def whole(tmp_path, folder, noise):
    """Writes a mask of a format by its file name; returns its path."""
    mask = np.zeros(noise.shape, np.uint8)
    mask[1:3, 5:9, 10:20] = 1

    def write(name):
        path = tmp_path / name
        if name == "mask.npz":
            np.savez_compressed(path, mask=mask)
        elif name == "rtstruct.dcm":
            save(test_masks.rtstruct({"GTV": [test_masks.rectangle(1, 5, 9, 10, 20)]}), path)
        elif name == "seg.dcm":
            maker = test_masks.TestSeg()
            maker.highdicom = pytest.importorskip("highdicom")
            maker.write(path, folder, [mask], names=("nodule",))
        else:
            maker = test_masks.TestImageFiles()
            maker.sitk = pytest.importorskip("SimpleITK")
            maker.write(path, mask)
        return path

    return write


def assert_refused_or_read(path, geometry):
    """Whether the mask was read."""
    try:
        regions = read_mask(path, geometry)
    except (ValueError, OSError) as error:
        assert path.name in str(error)
        return False
    assert all(mask.shape == geometry.shape and mask.dtype == bool and mask.any() for mask in regions.values())
    return True


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [15, pytest.param(300, marks=pytest.mark.slow)])
def test_damaged_files(name, count, whole, geometry):
    data, path = whole(name).read_bytes(), whole(name)
    assert assert_refused_or_read(path, geometry)
    mutations = fuzz.MUTATIONS if name.endswith(".dcm") else (fuzz.flip, fuzz.random_bytes, fuzz.cut)
    for number in range(count):
        rng = np.random.default_rng(number)
        path.write_bytes(mutations[number % len(mutations)](data, rng) or b"\0")
        assert_refused_or_read(path, geometry)


class TestNpz:
    def test_pickles_are_not_read(self, tmp_path, geometry):
        array = np.full(geometry.shape, None)
        np.savez(tmp_path / "mask.npz", mask=array)
        with pytest.raises(ValueError, match="mask.npz.*type object"):
            read_mask(tmp_path / "mask.npz", geometry)

    @pytest.mark.parametrize("shape", [(5, 40, 1 << 40), (1 << 20, 1 << 20, 1 << 20)])
    def test_a_huge_one_is_refused_by_its_header(self, tmp_path, geometry, shape):
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
        with zipfile.ZipFile(tmp_path / "mask.npz", "w") as file:
            file.writestr("mask.npy", header.getvalue() + bytes(100))
        with pytest.raises(ValueError, match=r"mask.npz.*the image series, \(5, 40, 48\).*got \("):
            read_mask(tmp_path / "mask.npz", geometry)

    def test_long_texts_are_no_labels(self, tmp_path, geometry):
        np.savez_compressed(tmp_path / "mask.npz", mask=np.zeros(geometry.shape, "S10000"))
        with pytest.raises(ValueError, match="mask.npz.*S10000"):
            read_mask(tmp_path / "mask.npz", geometry)


@pytest.mark.parametrize("name", ["mask.nii", "mask.nrrd", "mask.mha"])
def test_a_huge_image_is_refused_by_its_header(name, whole, geometry):
    path = whole(name)
    data = path.read_bytes()
    huge = {
        "mask.nii": lambda: data[:42] + np.array([30000, 30000, 30000], "<i2").tobytes() + data[48:],
        "mask.nrrd": lambda: data.replace(b"sizes: 48 40 5", b"sizes: 48000 40000 5000"),
        "mask.mha": lambda: data.replace(b"DimSize = 48 40 5", b"DimSize = 48000 40000 5000"),
    }[name]()
    assert huge != data
    path.write_bytes(huge)
    with pytest.raises(ValueError, match=f"{name}.*(must hold at most .* voxels|holds .* voxels)"):
        read_mask(path, geometry)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_a_contour_that_is_nowhere(tmp_path, geometry, value):
    contour = test_masks.rectangle(1, 5, 9, 10, 20)
    dataset = test_masks.rtstruct({"GTV": [contour]})
    item = dataset.ROIContourSequence[0].ContourSequence[0]
    item.ContourData = [f"{value:g}", *item.ContourData[1:]]
    with pytest.raises(ValueError, match="(?s)rtstruct.dcm.*GTV.*left out"):
        read_mask(save(dataset, tmp_path / "rtstruct.dcm"), geometry)


@contextlib.contextmanager
def memory_of_at_most(mebibytes):
    """Whether the block allocates no more than that."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < mebibytes << 20
    finally:
        tracemalloc.stop()


class TestBombs:
    """Files of some kB or MB that would take gigabytes; the series has 9,600 pixels."""

    def test_a_gzip_that_goes_on(self, whole, geometry):
        path = whole("mask.nii.gz")
        deflate = zlib.compressobj(9, zlib.DEFLATED, 31)
        block = bytes(1 << 20)
        data = deflate.compress(gzip.decompress(path.read_bytes()))
        path.write_bytes(data + b"".join(deflate.compress(block) for _ in range(1000)) + deflate.flush())
        with memory_of_at_most(16), pytest.raises(ValueError, match="mask.nii.gz.*9600 bytes of voxels, got more"):
            read_mask(path, geometry)

    def test_an_archive_whose_arrays_have_a_header_without_end(self, tmp_path, geometry):
        path = tmp_path / "mask.npz"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("mask.npy", "w") as member:
            member.write(b"\x93NUMPY\x02\x00" + (1 << 30).to_bytes(4, "little"))
            for _ in range(1024):
                member.write(b" " * (1 << 20))
        assert path.stat().st_size < 2 << 20
        with memory_of_at_most(16), pytest.raises(ValueError, match="mask.npz"):
            read_mask(path, geometry)

    @pytest.mark.parametrize(
        "header", [{"NumberOfFrames": 10**9}, {"Rows": 65535, "Columns": 65535}, {"NumberOfFrames": -1}]
    )
    def test_a_segmentation_of_more_than_it_describes(self, header, whole, geometry):
        path = whole("seg.dcm")
        dataset = pydicom.dcmread(path)
        for keyword, value in header.items():
            setattr(dataset, keyword, value)
        save(dataset, path)
        with memory_of_at_most(16), pytest.raises(ValueError, match="seg.dcm.*frames"):
            read_mask(path, geometry)


def test_a_pipe_is_not_opened(tmp_path, geometry):
    for name in ("mask.nii", "mask.npz", "seg.dcm"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(ValueError, match=f"{name}.*not a regular file"):
            read_mask(tmp_path / name, geometry)


def test_a_readers_own_error_names_the_mask(whole, geometry, monkeypatch):
    def fail(*arguments):
        raise KeyError("x")

    monkeypatch.setattr(masks, "_read_rtstruct", fail)
    with pytest.raises(ValueError, match="rtstruct.dcm.*is damaged: KeyError: 'x'"):
        read_mask(whole("rtstruct.dcm"), geometry)
