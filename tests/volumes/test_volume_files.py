"""Volumes in and out: what a file says is what is read, and everything but the voxels is given back as it was."""

import errno
import gzip
import os
import struct
import sys

import numpy as np
import pytest
from helpers.volumes import TURNS, affine_ras, nifti, nrrd, phantom, turned, volume_of

from diffusionct_pipeline.dicom import SkippedKind
from diffusionct_pipeline.volumes import CTVolume, VolumeError, is_volume, read_volume, read_volume_header, write_volume

HU = phantom()
VOXELS, AFFINE = volume_of(HU), affine_ras()


def saved(tmp_path, data, name="scan.nii"):
    """Path of a file that holds `data`."""
    path = tmp_path / name
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def derived(volume, shift=100):
    """A derived volume whose HU are higher."""
    result = volume.derived([volume.slice_hu(index) + shift for index in range(len(volume))])
    object.__setattr__(result, "description", "DiffusionCT test")
    return result


class TestReading:
    @pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz", "SCAN.NII", "scan.nrrd", "zipped.nrrd"])
    def test_hu_spacing_and_position(self, tmp_path, name):
        kind = "gzip" if name.startswith("zipped") else "raw"
        data = nrrd(VOXELS, AFFINE, kind) if name.endswith("nrrd") else nifti(VOXELS, AFFINE)
        volume = read_volume(saved(tmp_path, data, name))
        assert volume.hu.dtype == np.float32
        np.testing.assert_array_equal(volume.hu, HU)
        assert volume.grid.spacing_mm == pytest.approx(0.7) and volume.grid.step_mm == pytest.approx(0.6)
        assert [volume.grid.position_mm(i) for i in range(3)] == pytest.approx([-340.2, -339.6, -339.0], abs=1e-4)

    @pytest.mark.parametrize("order, flips", TURNS)
    def test_the_order_of_the_axes_does_not_matter(self, tmp_path, order, flips):
        expected = read_volume(saved(tmp_path, nrrd(VOXELS, AFFINE), "first.nrrd"))
        volume = read_volume(saved(tmp_path, nrrd(*turned(VOXELS, AFFINE, order, flips)), "second.nrrd"))
        np.testing.assert_array_equal(volume.hu, expected.hu)
        assert volume.uid == expected.uid
        assert volume.grid.position_mm(2) == pytest.approx(expected.grid.position_mm(2))

    def test_big_endian(self, tmp_path):
        np.testing.assert_array_equal(read_volume(saved(tmp_path, nifti(VOXELS, AFFINE, ">"))).hu, HU)

    @pytest.mark.parametrize(
        "quaternion, turn", [((0, 0, 1), (1, 1, 0)), ((0, 0, 0), (0, 0, 0)), ((0, 1, 0), (1, 0, 1))]
    )
    def test_a_qform(self, tmp_path, quaternion, turn):
        """Half turns about z, none and y: x, y and z run along and against those of RAS."""
        voxels, affine = turned(VOXELS, AFFINE, (0, 1, 2), (1, 1, 0))  # to the right, to the front, to the head
        voxels, affine = turned(voxels, affine, (0, 1, 2), turn)
        volume = read_volume(saved(tmp_path, nifti(voxels, affine, quaternion=quaternion)))
        np.testing.assert_array_equal(volume.hu, HU)
        assert volume.grid.position_mm(0) == pytest.approx(-340.2, abs=1e-4)

    def test_a_qform_with_left_handed_axes(self, tmp_path):
        voxels, affine = turned(VOXELS, AFFINE, (0, 1, 2), (0, 0, 1))  # to the left, to the back, to the feet
        volume = read_volume(saved(tmp_path, nifti(voxels, affine, quaternion=(0, 0, 1))))
        np.testing.assert_array_equal(volume.hu, HU)

    def test_a_qform_whose_sign_was_left_at_0(self, tmp_path):
        voxels, affine = turned(VOXELS, AFFINE, (0, 1, 2), (1, 1, 0))
        data = nifti(voxels, affine, quaternion=(0, 0, 0), at_76=("f", 0))
        np.testing.assert_array_equal(read_volume(saved(tmp_path, data)).hu, HU)

    def test_nifti_2(self, tmp_path):
        header = bytearray(544)
        struct.pack_into("<i8shh8q", header, 0, 540, b"n+2\0\r\n\x1a\n", 4, 16, 3, *VOXELS.shape, 1, 1, 1, 1)
        struct.pack_into("<q2d", header, 168, 544, 0.0, 0.0)
        struct.pack_into("<ii", header, 344, 0, 1)
        struct.pack_into("<12d", header, 400, *AFFINE[:3].ravel())
        volume = read_volume(saved(tmp_path, bytes(header) + VOXELS.tobytes("F")))
        np.testing.assert_array_equal(volume.hu, HU)
        assert volume.grid.spacing_mm == 0.7, "double precision"

    @pytest.mark.parametrize("units, factor", [(1, 1e-3), (2, 1), (3, 1e3), (10, 1)])
    def test_units_of_length(self, tmp_path, units, factor):
        affine = AFFINE.copy()
        affine[:3] *= factor
        volume = read_volume(saved(tmp_path, nifti(VOXELS, affine, units=units)))
        assert volume.grid.spacing_mm == pytest.approx(0.7)

    @pytest.mark.parametrize("name", ["itk.nii.gz", "itk.nrrd"])
    def test_a_file_of_simpleitk_and_back(self, tmp_path, name):
        itk = pytest.importorskip("SimpleITK")
        image = itk.GetImageFromArray(HU)
        image.SetSpacing((0.7, 0.7, 2.5))
        image.SetOrigin((-170.3, -150.1, -340.2))
        image = itk.DICOMOrient(image, "RSA")
        image.SetMetaData("operator", "kept")
        itk.WriteImage(image, str(tmp_path / name), True)
        volume = read_volume(tmp_path / name)
        np.testing.assert_array_equal(volume.hu, HU)
        write_volume(derived(volume), tmp_path / f"out_{name}")
        before, after = (itk.ReadImage(str(tmp_path / n)) for n in (name, f"out_{name}"))
        for geometry in ("GetOrigin", "GetSpacing", "GetDirection", "GetSize", "GetPixelIDTypeAsString"):
            assert getattr(after, geometry)() == getattr(before, geometry)()
        np.testing.assert_array_equal(itk.GetArrayFromImage(after), itk.GetArrayFromImage(before) + 100)
        assert "nrrd" not in name or after.GetMetaData("operator") == "kept"


class TestScaling:
    def test_stored_values_become_hu(self, tmp_path):
        stored = ((VOXELS + 1500) * 2).astype("<i4")
        volume = read_volume(saved(tmp_path, nifti(stored, AFFINE, scale=(0.5, -1500.0))))
        np.testing.assert_array_equal(volume.hu, HU)

    @pytest.mark.parametrize("slope", [0.0, np.nan])
    def test_no_slope_is_one(self, tmp_path, slope):
        np.testing.assert_array_equal(read_volume(saved(tmp_path, nifti(VOXELS, AFFINE, scale=(slope, 5.0)))).hu, HU)

    @pytest.mark.parametrize(
        "kind, scale, result",
        [("<i2", (1, 0), "int16"), ("<i4", (1, 0), "int16"), ("<u2", (1, -2000), "int16"), ("<i2", (0.5, 0), "float32"),
         ("<f4", (1, 0), "float32"), ("<f8", (1, 0), "float32")],
    )  # fmt: skip
    def test_what_is_written_is_hu_without_scaling(self, tmp_path, kind, scale, result):
        stored = ((VOXELS - scale[1]) / scale[0]).astype(kind)
        volume = read_volume(saved(tmp_path, nifti(stored, AFFINE, scale=scale)))
        written = read_volume(write_volume(derived(volume, 100.25), tmp_path / "out.nii"))
        assert written.voxels.dtype == result and (written.slope, written.intercept) == (1, 0)
        np.testing.assert_array_equal(written.hu, HU + (100 if result == "int16" else 100.25))

    def test_what_was_not_measured_keeps_its_value(self, tmp_path):
        hu = HU.copy()
        hu[:, :5] = -3024
        volume = read_volume(saved(tmp_path, nifti(volume_of(hu), AFFINE)))
        assert (derived(volume).hu[:, :5] == -3024).all()

    def test_hu_beyond_16_bits_are_clipped_and_counted(self, tmp_path):
        result = derived(read_volume(saved(tmp_path, nifti(VOXELS, AFFINE))), 40000)
        assert result.clipped_pixels == HU.size and (result.voxels == 32767).all()


class TestWriting:
    def test_only_type_description_and_voxels_differ(self, tmp_path):
        extension = struct.pack("<ii", 32, 6) + b"a comment".ljust(24, b"\0")
        data = nifti(VOXELS.astype("<f4"), AFFINE, extension=extension)
        write_volume(derived(read_volume(saved(tmp_path, data))), tmp_path / "out.nii")
        written = (tmp_path / "out.nii").read_bytes()
        assert written[:148] == data[:148] and written[228:384] == data[228:384]
        assert written[148:228].rstrip(b"\0") == b"DiffusionCT test"

    def test_every_line_of_a_nrrd_header_is_kept(self, tmp_path):
        lines = ["patient group:=7", "# another comment", "operator:=\u00c5sa", "line skip: 0"]
        data = nrrd(VOXELS, AFFINE, "gzip", lines=lines)
        write_volume(derived(read_volume(saved(tmp_path, data, "a.nrrd"))), tmp_path / "out.nrrd")
        before, after = (text.split(b"\n\n")[0].decode().splitlines() for text in (
            data, (tmp_path / "out.nrrd").read_bytes()))  # fmt: skip
        assert set(after) - set(before) == {"DiffusionCT:=DiffusionCT test"} and set(before) <= set(after)
        assert after[0] == "NRRD0004"

    @pytest.mark.parametrize("byte_order", "<>")
    def test_the_byte_order_is_kept(self, tmp_path, byte_order):
        write_volume(derived(read_volume(saved(tmp_path, nifti(VOXELS, AFFINE, byte_order)))), tmp_path / "out.nii.gz")
        assert struct.unpack(f"{byte_order}i", gzip.decompress((tmp_path / "out.nii.gz").read_bytes())[:4]) == (348,)
        np.testing.assert_array_equal(read_volume(tmp_path / "out.nii.gz").hu, HU + 100)

    @pytest.mark.parametrize("suffix", ["nii.gz", "nrrd"])
    def test_the_same_bytes_each_time(self, tmp_path, suffix):
        data = nifti(VOXELS, AFFINE) if suffix == "nii.gz" else nrrd(VOXELS, AFFINE, "gzip")
        result = derived(read_volume(saved(tmp_path, data, f"scan.{suffix}")))
        paths = [write_volume(result, tmp_path / f"{number}.{suffix}") for number in (1, 2)]
        assert paths[0].read_bytes() == paths[1].read_bytes()

    def test_a_full_disk_leaves_the_earlier_result(self, tmp_path, monkeypatch):
        def full(stream, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        result = derived(read_volume(saved(tmp_path, nifti(VOXELS, AFFINE))))
        before = write_volume(result, tmp_path / "out.nii.gz").read_bytes()
        monkeypatch.setattr(gzip.GzipFile, "write", full)
        with pytest.raises(OSError, match="No space left.*out.nii.gz"):
            write_volume(result, tmp_path / "out.nii.gz")
        assert (tmp_path / "out.nii.gz").read_bytes() == before
        assert sorted(path.name for path in tmp_path.iterdir()) == ["out.nii.gz", "scan.nii"]

    def test_replaces_an_earlier_result_only(self, tmp_path):
        source = saved(tmp_path, nifti(VOXELS, AFFINE))
        other = saved(tmp_path, nifti(VOXELS, AFFINE), "other.nii")
        result = derived(read_volume(source))
        write_volume(write_to := result, tmp_path / "out.nii")
        write_volume(write_to, tmp_path / "out.nii")
        for path in (source, other):
            with pytest.raises(VolumeError, match=f"{path.name}.*not overwritten"):
                write_volume(result, path)
        assert other.read_bytes() == source.read_bytes() == nifti(VOXELS, AFFINE)

    def test_refuses_another_format_and_a_volume_without_header(self, tmp_path):
        result = derived(read_volume(saved(tmp_path, nifti(VOXELS, AFFINE))))
        with pytest.raises(VolumeError, match="out.nrrd.*must be .nii.gz or .nii"):
            write_volume(result, tmp_path / "out.nrrd")
        with pytest.raises(VolumeError, match="not come from a file"):
            write_volume(derived(CTVolume.of_array(VOXELS, AFFINE)), tmp_path / "out.nii")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["scan.nii"]


def sheared():
    affine = AFFINE.copy()
    affine[1, 2] = 0.1
    return affine


def rotated(degrees):
    turn, c, s = np.eye(4), np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn[1:3, 1:3] = [[c, -s], [s, c]]
    return turn @ AFFINE


class TestRefusals:
    @pytest.mark.parametrize(
        "data, message",
        [
            (nifti(VOXELS, sheared()), "sheared"),
            (nifti(VOXELS, rotated(10)), "oblique"),
            (nifti(VOXELS, rotated(0.5)), "oblique"),
            (nifti(VOXELS, affine_ras((0.7, 0.8, 2))), r"pixels of \(0.8, 0.7\) mm.*square"),
            (nifti(VOXELS, affine_ras((0.7, 3.0, 0.7))), "longest front-back"),
            (nifti(VOXELS, affine_ras((0.0, 0.7, 2))), "invertible affine"),
            (nifti(VOXELS, affine_ras((70, 70, 2))), "must have pixels of"),
            (nifti(VOXELS, affine_ras((0.7, 0.7, 0.001))), "apart, got 0.001 mm"),
            (nifti(VOXELS, AFFINE, at_252=("hh", 0, 0)), "sform_code and qform_code are 0"),
            (nifti(VOXELS, AFFINE, at_40=("8h", 4, 48, 40, 1, 3, 1, 1, 1)), r"4 dimensions of \(48, 40, 1, 3\)"),
            (nifti(VOXELS, AFFINE, at_40=("8h", 2, 48, 120, 1, 1, 1, 1, 1)), "2 dimensions"),
            (nifti(VOXELS, AFFINE, at_40=("8h", 3, 48, -40, 3, 1, 1, 1, 1)), "must have 1 to 8192 voxels"),
            (nifti(VOXELS, AFFINE, at_40=("8h", 3, 8000, 8000, 8000, 1, 1, 1, 1)), "at most"),
            (nifti(VOXELS, AFFINE, at_70=("h", 128)), "data type 128"),
            (nifti(VOXELS, AFFINE, at_70=("h", 77)), "data type 77"),
            (nifti(VOXELS, AFFINE, at_108=("f", 3)), "voxels begin at byte 3"),
            (nifti(VOXELS, AFFINE, at_108=("f", np.nan)), "voxels begin at byte nan"),
            (nifti(VOXELS, AFFINE, at_344=("4s", b"ni1\0")), "not NIfTI in one file"),
            (nifti(VOXELS, AFFINE, units=7), "got 7"),
            (nifti(VOXELS, AFFINE, scale=(1.0, np.nan)), "invalid intercept nan"),
            (nifti(VOXELS, AFFINE, quaternion=(0, 1, 1)), "qform.*w2 should be positive"),
            (nifti(VOXELS, AFFINE)[:-1], r"11520 bytes of voxels, got 11519"),
            (nifti(VOXELS, AFFINE) + b"\0", "got more"),
            (nifti(VOXELS, AFFINE)[:200], "truncated"),
            (b"", "not a NIfTI file"),
            (nifti(VOXELS + np.int16(2000), AFFINE), "none below 0.*not Hounsfield units"),
            (nifti((VOXELS / 1000).astype("<f4"), AFFINE), "span more than 100"),
        ],
    )
    def test_nifti(self, tmp_path, data, message):
        for name in ("scan.nii", "scan.nii.gz"):
            with pytest.raises(VolumeError, match=message) as caught:
                read_volume(saved(tmp_path, data, name))
            assert f'"{tmp_path / name}"' in str(caught.value)

    @pytest.mark.parametrize(
        "data, message",
        [
            (nrrd(VOXELS, sheared()), "sheared"),
            (nrrd(VOXELS, AFFINE, space=None), "has no position"),
            (nrrd(VOXELS, AFFINE, space="scanner-xyz"), "got space scanner-xyz"),
            (nrrd(VOXELS, AFFINE, space_origin=None), "has no position"),
            (nrrd(VOXELS, AFFINE, space_directions="none (1,0,0) (0,1,0)"), "invertible affine"),
            (nrrd(VOXELS, AFFINE, space_units='"cm" "cm" "cm"'), "space units"),
            (nrrd(VOXELS, AFFINE, dimension=4), "4 dimensions"),
            (nrrd(VOXELS, AFFINE, sizes="48 40"), r"3 dimensions of \(48, 40\)"),
            (nrrd(VOXELS, AFFINE, type="block"), "type block"),
            (nrrd(VOXELS, AFFINE, "bzip2"), "encoding bzip2"),
            (nrrd(VOXELS, AFFINE, data_file="/etc/passwd"), "got data file"),
            (nrrd(VOXELS, AFFINE, endian=None), "endian None"),
            (nrrd(VOXELS, AFFINE, space_directions="(1,0,0)"), r"space directions \[\[1.0, 0.0, 0.0\]\]"),
            (nrrd(VOXELS, AFFINE, space_origin="(1)"), r"space origin \[1.0\]"),
            (nrrd(VOXELS, AFFINE).replace(b"-340.2", b"\xad340.2"), "damaged"),
            (nrrd(VOXELS, AFFINE, lines=["no field"]), "damaged"),
            (nrrd(VOXELS, AFFINE)[: nrrd(VOXELS, AFFINE).index(b"\n\n")], "has no end"),
            (b"", "not an NRRD file"),
            (nrrd(VOXELS, AFFINE)[:-1], "11520 bytes of voxels, got 11519"),
            (nrrd(VOXELS, AFFINE, "gzip")[:-20], "damaged"),
            (nrrd(VOXELS, AFFINE)[:100], "truncated"),
        ],
    )
    def test_nrrd(self, tmp_path, data, message):
        with pytest.raises(VolumeError, match=message):
            read_volume(saved(tmp_path, data, "scan.nrrd"))

    def test_a_mask_is_told_from_other_things(self, tmp_path):
        for kind in ("<i2", "<f4"):
            with pytest.raises(VolumeError, match="it is a mask") as caught:
                read_volume(saved(tmp_path, nifti((VOXELS > 0).astype(kind), AFFINE)))
            assert caught.value.kind is SkippedKind.NOT_CT

    def test_a_bit_that_flipped_in_the_voxels_is_noticed(self, tmp_path):
        data = bytearray(gzip.compress(nifti(VOXELS, AFFINE), 0))
        data[-2000] ^= 1
        (tmp_path / "scan.nii.gz").write_bytes(data)
        with pytest.raises(VolumeError, match="damaged.*CRC"):
            read_volume(tmp_path / "scan.nii.gz")

    def test_other_names_and_absent_files(self, tmp_path):
        assert [is_volume(name) for name in ("a.nii", "a.NII.GZ", "a.nrrd", "a.gz", "a.dcm", "a.nhdr")] == [
            True, True, True, False, False, False]  # fmt: skip
        with pytest.raises(VolumeError, match="must be a volume, one of .nii.gz, .nii, .nrrd"):
            read_volume(saved(tmp_path, nifti(VOXELS, AFFINE), "scan.img"))
        with pytest.raises(VolumeError, match="absent.nii.*cannot be read: No such file"):
            read_volume(tmp_path / "absent.nii")

    @pytest.mark.parametrize("name, library", [("scan.nii", "nibabel"), ("scan.nrrd", "nrrd")])
    def test_a_missing_library_is_named_with_its_extra(self, tmp_path, monkeypatch, name, library):
        data = nifti(VOXELS, AFFINE) if library == "nibabel" else nrrd(VOXELS, AFFINE)
        monkeypatch.setitem(sys.modules, library, None)
        with pytest.raises(ImportError, match=rf"{library}, which is not installed: pip install .*\[volumes\]"):
            read_volume(saved(tmp_path, data, name))
        np.testing.assert_array_equal(CTVolume.of_array(VOXELS, AFFINE).hu, HU)

    @pytest.mark.parametrize("make", [nifti, nrrd])
    def test_damaged_headers_raise_nothing_else(self, tmp_path, make):
        random, suffix = np.random.default_rng(0), "nii" if make is nifti else "nrrd"
        for _number in range(300):
            data = bytearray(make(VOXELS, AFFINE))
            for place in random.integers(0, 352, random.integers(1, 6)):
                data[place] = random.integers(256)
            path = saved(tmp_path, bytes(data), f"damaged.{suffix}")
            try:
                assert read_volume(path).grid.shape == read_volume_header(path).grid.shape
            except VolumeError as error:
                assert path.name in str(error)
