"""Every format gives back the mask that was written, on the voxels of the series or not at all."""

import gzip

import numpy as np
import pydicom
import pytest
from helpers.dicom import ROOT, make_slice, save
from helpers.volumes import LPS_TO_RAS, nifti
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from diffusionct_pipeline.evaluation import read_mask
from diffusionct_pipeline.evaluation.geometry import find_series

SPACING_MM, STEP_MM = 0.7, 2.5
ORIGIN_MM = np.array([-10.0, -20.0, 0.0])  # as `write_stack` places a series


@pytest.fixture
def labels(noise):
    """Two regions without any symmetry, on inner slices only."""
    mask = np.zeros(noise.shape, np.uint8)
    mask[1:3, 5:9, 10:20] = 1
    mask[1, 9:12, 10:13] = 1
    mask[3, 30:36, 3:9] = 2
    return mask


def assert_regions(regions, labels, names=("1", "2")):
    assert list(regions) == list(names)
    for name, value in zip(names, (1, 2)):
        np.testing.assert_array_equal(regions[name], labels == value)


class TestNpz:
    def test_slices_in_an_order_of_their_own(self, tmp_path, geometry, labels):
        heights = geometry.origins_mm[:, 2]
        path = self.save(tmp_path, mask=labels[::-1], z_mm=heights[::-1])
        assert_regions(read_mask(path, geometry), labels)
        path = self.save(tmp_path, mask=labels, z_mm=heights + 1)
        with pytest.raises(ValueError, match="z_mm that are not of the image series' slices"):
            read_mask(path, geometry)

    def save(self, tmp_path, **arrays):
        np.savez_compressed(tmp_path / "tumours.npz", **arrays)
        return tmp_path / "tumours.npz"

    def test_round_trip(self, tmp_path, geometry, labels):
        assert_regions(read_mask(self.save(tmp_path, mask=labels), geometry), labels)

    def test_bool_is_one_label(self, tmp_path, geometry, labels):
        regions = read_mask(self.save(tmp_path, mask=labels > 0), geometry)
        np.testing.assert_array_equal(regions["1"], labels > 0)

    def test_only_the_labels_asked_for(self, tmp_path, geometry, labels):
        path = self.save(tmp_path, mask=labels)
        assert list(read_mask(path, geometry, labels=[2])) == ["2"]
        with pytest.raises(ValueError, match="tumours.npz\" has no voxels of label '7'; found: 1, 2"):
            read_mask(path, geometry, labels=[7])

    @pytest.mark.parametrize(
        ("array", "message"),
        [
            (np.zeros((5, 40, 48), np.uint8), "empty"),
            (np.zeros((4, 40, 48), np.uint8), r"\(5, 40, 48\).*got \(4, 40, 48\)"),
            (np.full((5, 40, 48), -1), "-1"),
            (np.full((5, 40, 48), 0.5), "not whole"),
            (np.arange(5 * 40 * 48).reshape(5, 40, 48), "different values"),
        ],
    )
    def test_what_is_no_mask_of_the_series_is_refused_by_name(self, tmp_path, geometry, array, message):
        with pytest.raises(ValueError, match=message) as caught:
            read_mask(self.save(tmp_path, mask=array), geometry)
        assert "tumours.npz" in str(caught.value)

    def test_an_archive_without_mask(self, tmp_path, geometry, labels):
        with pytest.raises(ValueError, match=r"\['labels'\]"):
            read_mask(self.save(tmp_path, labels=labels), geometry)

    def test_a_damaged_archive(self, tmp_path, geometry):
        (tmp_path / "tumours.npz").write_bytes(b"PK\x03\x04 nothing")
        with pytest.raises(ValueError, match="tumours.npz"):
            read_mask(tmp_path / "tumours.npz", geometry)


class TestImageFiles:
    @pytest.fixture(autouse=True)
    def reader(self):
        self.sitk = pytest.importorskip("SimpleITK")

    def write(self, path, labels, origin=ORIGIN_MM, spacing=(SPACING_MM, SPACING_MM, STEP_MM)):
        image = self.sitk.GetImageFromArray(labels)
        image.SetSpacing(spacing)
        image.SetOrigin(origin)
        self.sitk.WriteImage(image, str(path))
        return path

    @pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
    def test_round_trip(self, tmp_path, geometry, labels, suffix):
        assert_regions(read_mask(self.write(tmp_path / f"mask{suffix}", labels), geometry), labels)

    def test_floating_point_labels(self, tmp_path, geometry, labels):
        path = self.write(tmp_path / "mask.nii", labels.astype(np.float32))
        assert_regions(read_mask(path, geometry), labels)

    @pytest.mark.parametrize("order", ["RAI", "LPS", "RPS", "SAR", "PIL"])
    def test_the_order_of_the_axes_in_the_file_does_not_matter(self, tmp_path, geometry, labels, order):
        image = self.sitk.ReadImage(str(self.write(tmp_path / "a.nrrd", labels)))
        turned = self.sitk.DICOMOrient(image, order)
        self.sitk.WriteImage(turned, str(tmp_path / "b.nrrd"))
        assert_regions(read_mask(tmp_path / "b.nrrd", geometry), labels)

    @pytest.mark.parametrize(
        "change",
        [
            {"origin": ORIGIN_MM + [SPACING_MM, 0, 0]},
            {"origin": ORIGIN_MM + [0, 0, STEP_MM]},
            {"origin": ORIGIN_MM + [0, 0, STEP_MM / 2]},
            {"spacing": (SPACING_MM, SPACING_MM, 2.4)},
            {"spacing": (0.71, 0.71, STEP_MM)},
            {"spacing": (0.7, 0.8, STEP_MM)},
        ],
    )
    def test_another_grid_is_refused_with_both_geometries(self, tmp_path, geometry, labels, change):
        path = self.write(tmp_path / "mask.nii.gz", labels, **change)
        with pytest.raises(ValueError, match="mask.nii.gz") as caught:
            read_mask(path, geometry)
        assert "mask:   5 slices" in str(caught.value)
        assert "series: 5 slices 2.5 mm apart, 40 x 48 pixels of 0.7 mm" in str(caught.value)

    def test_one_that_was_cropped_to_its_regions_is_read_with_a_remark(self, tmp_path, geometry, labels):
        places = [slice(np.flatnonzero(labels.any(axis)).min(), np.flatnonzero(labels.any(axis)).max() + 1)
                  for axis in ((1, 2), (0, 2), (0, 1))]  # fmt: skip
        corner = ORIGIN_MM + [
            place.start * step for place, step in zip(places[::-1], (SPACING_MM, SPACING_MM, STEP_MM))
        ]
        for suffix in (".nrrd", ".nii.gz", ".mha"):
            path, remarks = self.write(tmp_path / f"mask{suffix}", labels[tuple(places)], corner), []
            assert_regions(read_mask(path, geometry, remarks=remarks), labels)
            assert len(remarks) == 1 and "a part of the image series' grid" in remarks[0]

    def test_one_of_fewer_slices_is_read(self, tmp_path, geometry, labels):
        labels = labels.copy()
        labels[-1] = 0
        assert_regions(read_mask(self.write(tmp_path / "mask.nrrd", labels[:-1]), geometry), labels)

    def test_one_between_the_pixels_or_beyond_the_series_is_refused(self, tmp_path, geometry, labels):
        for shift in (SPACING_MM / 2, -SPACING_MM, 40 * SPACING_MM):
            path = self.write(tmp_path / "mask.nrrd", labels[:, 2:-2, 2:-2], ORIGIN_MM + [shift, 0, 0])
            with pytest.raises(ValueError, match="mask: .*\n  series: "):
                read_mask(path, geometry)

    @pytest.mark.parametrize("shear", [1e-4, 1e-3])
    def test_axes_that_rounding_left_sheared(self, tmp_path, geometry, labels, shear):
        affine = np.diag([SPACING_MM, SPACING_MM, STEP_MM, 1.0])
        affine[0, 1] = shear * SPACING_MM
        affine[:3, 3] = ORIGIN_MM
        path = tmp_path / "mask.nii.gz"
        path.write_bytes(gzip.compress(nifti(labels.transpose(2, 1, 0).astype(np.int16), LPS_TO_RAS @ affine)))
        assert_regions(read_mask(path, geometry), labels)

    def test_axes_that_are_sheared_are_refused(self, tmp_path, geometry, labels):
        affine = np.diag([SPACING_MM, SPACING_MM, STEP_MM, 1.0])
        affine[1, 2] = 0.3
        path = tmp_path / "mask.nii"
        path.write_bytes(nifti(labels.transpose(2, 1, 0).astype(np.int16), LPS_TO_RAS @ affine))
        with pytest.raises(ValueError, match="mask.nii.*sheared"):
            read_mask(path, geometry)

    @pytest.mark.parametrize("name", ["mask.nii", "mask.nii.gz", "mask.nrrd", "mask.mha"])
    def test_one_that_is_cut_anywhere_is_refused(self, tmp_path, geometry, labels, name):
        data = self.write(tmp_path / name, labels).read_bytes()
        for share in (0.5, 0.9, 0.999):
            (tmp_path / name).write_bytes(data[: int(share * len(data))])
            with pytest.raises(ValueError, match=name):
                read_mask(tmp_path / name, geometry)

    def test_voxels_in_another_file_are_not_read(self, tmp_path, geometry, labels):
        for name in ("mask.mhd", "mask.nhdr"):
            with pytest.raises(ValueError, match=f"{name}.* another file"):
                read_mask(self.write(tmp_path / name, labels), geometry)
        header = (tmp_path / "mask.mhd").read_bytes()
        (tmp_path / "mask.mha").write_bytes(header)
        with pytest.raises(ValueError, match="mask.mha.* itself"):
            read_mask(tmp_path / "mask.mha", geometry)
        (tmp_path / "mask.nrrd").write_bytes((tmp_path / "mask.nhdr").read_bytes() + b"\n")
        with pytest.raises(ValueError, match="mask.nrrd.* must hold its voxels itself"):
            read_mask(tmp_path / "mask.nrrd", geometry)

    def test_oblique_axes_are_refused(self, tmp_path, geometry, labels):
        image = self.sitk.GetImageFromArray(labels)
        c, s = np.cos(0.2), np.sin(0.2)
        image.SetDirection([c, -s, 0, s, c, 0, 0, 0, 1])
        self.sitk.WriteImage(image, str(tmp_path / "mask.nrrd"))
        with pytest.raises(ValueError, match="axes"):
            read_mask(tmp_path / "mask.nrrd", geometry)

    def test_a_damaged_file_is_named(self, tmp_path, geometry):
        (tmp_path / "mask.nii.gz").write_bytes(b"nothing")
        with pytest.raises(ValueError, match="mask.nii.gz"):
            read_mask(tmp_path / "mask.nii.gz", geometry)


class TestSeg:
    @pytest.fixture(autouse=True)
    def writer(self):
        self.highdicom = pytest.importorskip("highdicom")

    def write(self, path, folder, masks, names=("nodule", "mass"), kind="BINARY", step=1):
        hd, code = self.highdicom, pydicom.sr.codedict.codes.SCT
        sources = [pydicom.dcmread(file) for file in sorted(folder.glob("*.dcm"))][::step]
        segments = [
            hd.seg.SegmentDescription(
                i, name, code.MorphologicallyAbnormalStructure, code.Neoplasm, hd.seg.SegmentAlgorithmTypeValues.MANUAL
            )
            for i, name in enumerate(names, start=1)
        ]
        seg = hd.seg.Segmentation(
            sources, np.stack(masks, axis=-1)[::step].astype(np.uint8),
            hd.seg.SegmentationTypeValues(kind), segments, f"{ROOT}.50", 50, f"{ROOT}.51", 1, "TEST", "TEST", "1", "1",
        )  # fmt: skip
        seg.save_as(path)
        return path

    def test_round_trip_though_empty_frames_are_left_out(self, tmp_path, folder, geometry, labels):
        path = self.write(tmp_path / "seg.dcm", folder, [labels == 1, labels == 2])
        assert pydicom.dcmread(path).NumberOfFrames < 2 * len(labels)
        assert_regions(read_mask(path, geometry), labels, ("nodule", "mass"))

    @pytest.mark.parametrize(("kind", "step"), [("LABELMAP", 1), ("FRACTIONAL", 1), ("BINARY", -1)])
    def test_other_types_and_another_order_of_frames(self, tmp_path, folder, geometry, labels, kind, step):
        path = self.write(tmp_path / "seg.dcm", folder, [labels == 1, labels == 2], kind=kind, step=step)
        assert_regions(read_mask(path, geometry), labels, ("nodule", "mass"))

    def test_a_single_frame(self, tmp_path, folder, geometry, labels):
        regions = read_mask(self.write(tmp_path / "seg.dcm", folder, [labels == 2], names=("mass",)), geometry)
        np.testing.assert_array_equal(regions["mass"], labels == 2)

    def test_segments_may_overlap(self, tmp_path, folder, geometry, labels):
        path = self.write(tmp_path / "seg.dcm", folder, [labels == 1, labels > 0])
        regions = read_mask(path, geometry)
        np.testing.assert_array_equal(regions["nodule"], labels == 1)
        np.testing.assert_array_equal(regions["mass"], labels > 0)

    def test_one_segment_by_name(self, tmp_path, folder, geometry, labels):
        path = self.write(tmp_path / "seg.dcm", folder, [labels == 1, labels == 2])
        assert list(read_mask(path, geometry, labels=["mass"])) == ["mass"]

    def test_another_grid_is_refused_with_both_geometries(self, tmp_path, folder, labels, write_stack, noise):
        path = self.write(tmp_path / "seg.dcm", folder, [labels == 1, labels == 2])
        other = find_series(write_stack(noise, "other", PixelSpacing=[0.8, 0.8])).geometry
        with pytest.raises(ValueError, match="pixels of 0.7 mm.*\n.*pixels of 0.8 mm"):
            read_mask(path, other)

    def test_another_frame_of_reference_is_refused(self, tmp_path, folder, labels, write_stack, noise):
        path = self.write(tmp_path / "seg.dcm", folder, [labels == 1, labels == 2])
        other = find_series(write_stack(noise, "other", FrameOfReferenceUID=f"{ROOT}.77")).geometry
        with pytest.raises(ValueError, match="another scan.*77, got .*901"):
            read_mask(path, other)


def rtstruct(contours, frame=f"{ROOT}.901"):
    """An RTSTRUCT dataset; `contours`: name -> list of (points, 3) in mm, or (type, points)."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{ROOT}.60"
    ds.Modality, ds.StructureSetROISequence, ds.ROIContourSequence = "RTSTRUCT", [], []
    for number, (name, polygons) in enumerate(contours.items(), start=1):
        roi, item = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, name, frame
        item.ReferencedROINumber, item.ContourSequence = number, []
        for points in polygons:
            kind, points = points if isinstance(points, tuple) else ("CLOSED_PLANAR", points)
            contour = Dataset()
            contour.ContourGeometricType, contour.NumberOfContourPoints = kind, len(points)
            contour.ContourData = [f"{value:.4f}" for value in np.ravel(points)]
            item.ContourSequence.append(contour)
        ds.StructureSetROISequence.append(roi)
        ds.ROIContourSequence.append(item)
    return ds


def rectangle(index, top, bottom, left, right):
    """Contour round the pixels [top:bottom, left:right] of a slice, half a pixel outside of their centres."""
    rows, columns = (np.array(ends) - 0.5 for ends in ([top, top, bottom, bottom], [left, right, right, left]))
    return ORIGIN_MM + np.stack([columns * SPACING_MM, rows * SPACING_MM, np.full(4, index * STEP_MM)], axis=1)


class TestRtstruct:
    def read(self, tmp_path, geometry, contours, labels=None, **options):
        path = save(rtstruct(contours, **options), tmp_path / "rs.dcm")
        return read_mask(path, geometry, labels)

    def test_contours_fill_their_pixels(self, tmp_path, geometry, noise):
        contours = {"GTV": [rectangle(1, 5, 9, 10, 20), rectangle(2, 6, 8, 11, 20)], "node": [rectangle(3, 0, 4, 0, 4)]}
        regions = self.read(tmp_path, geometry, contours)
        expected = np.zeros(noise.shape, bool)
        expected[1, 5:9, 10:20] = expected[2, 6:8, 11:20] = True
        np.testing.assert_array_equal(regions["GTV"], expected)
        assert np.argwhere(regions["node"]).tolist() == [[3, y, x] for y in range(4) for x in range(4)]

    def test_a_contour_inside_another_is_a_hole(self, tmp_path, geometry):
        mask = self.read(tmp_path, geometry, {"GTV": [rectangle(1, 5, 15, 10, 20), rectangle(1, 8, 10, 12, 15)]})["GTV"]
        assert mask.sum() == 100 - 6 and not mask[1, 8:10, 12:15].any()

    def test_points_bound_no_region(self, tmp_path, geometry):
        contours = {"isocentre": [("POINT", ORIGIN_MM[None])], "GTV": [rectangle(1, 5, 9, 10, 20)]}
        assert list(self.read(tmp_path, geometry, contours)) == ["GTV"]

    def test_a_contour_outside_costs_itself_and_not_the_others(self, tmp_path, geometry):
        tumour = rectangle(1, 5, 9, 10, 20)
        contours = {
            "GTV": [tumour],
            "body": [rectangle(1, -7, 47, -7, 55)],  # 5 mm beyond the image on all sides
            "spine": [rectangle(2, 5, 9, 10, 20), rectangle(9, 5, 9, 10, 20)],
            "tilted": [rectangle(1, 5, 9, 10, 20) + np.outer([0, 1, 1, 0], [0, 0, 2.0])],
            "table": [rectangle(1, 50, 60, 10, 20)],
        }
        path, remarks = save(rtstruct(contours), tmp_path / "rs.dcm"), []
        regions = read_mask(path, geometry, remarks=remarks)
        alone = self.read(tmp_path, geometry, {"GTV": [tumour]})
        np.testing.assert_array_equal(regions["GTV"], alone["GTV"])
        assert regions["body"][1].all() and regions["body"].sum() == 40 * 48
        assert np.flatnonzero(regions["spine"].any((1, 2))).tolist() == [2]
        assert set(regions) == {"GTV", "body", "spine"}
        said = " ".join(remarks)
        assert "'body': 1 of 1 contours cut" in said and "'spine': 1 of 2 contours left out: beyond" in said
        assert "'tilted': 1 of 1 contours left out: not in the plane" in said and "GTV" not in said

    @pytest.mark.parametrize("above", [0.3, 0.5, -0.4])
    def test_a_contour_within_half_a_slice_is_on_that_slice(self, tmp_path, geometry, above, caplog):
        mask = self.read(tmp_path, geometry, {"GTV": [rectangle(2 + above, 5, 9, 10, 20)]})["GTV"]
        assert mask.sum() == 40 and "onto the nearest slice" in caplog.text

    def test_of_contours_denser_than_the_slices_those_on_slices_count(self, tmp_path, geometry, caplog):
        contours = [rectangle(index / 2, 5, 9 + index, 10, 20) for index in range(5)]
        mask = self.read(tmp_path, geometry, {"GTV": contours})["GTV"]
        assert mask.sum((1, 2)).tolist() == [40, 60, 80, 0, 0]
        assert "2 of 5 contours left out: another plane" in caplog.text

    def test_a_contour_far_from_any_slice_leaves_nothing(self, tmp_path, write_stack, noise):
        geometry = find_series(write_stack(noise, SliceThickness=1.0)).geometry  # slices of 1 mm, 2.5 mm apart
        for polygon in (rectangle(1.5, 5, 9, 10, 20), rectangle(9, 5, 9, 10, 20), rectangle(1, 50, 60, 10, 20)):
            with pytest.raises(ValueError, match=r"rs.dcm.*empty(.|\n)*'GTV': 1 of 1 contours"):
                self.read(tmp_path, geometry, {"GTV": [polygon]})

    def test_another_frame_of_reference_is_refused(self, tmp_path, geometry):
        with pytest.raises(ValueError, match="another scan"):
            self.read(tmp_path, geometry, {"GTV": [rectangle(1, 5, 9, 10, 20)]}, frame=f"{ROOT}.77")

    def test_a_tilted_series(self, tmp_path, noise):
        """A gantry tilted by 20 degrees: columns run down and towards the feet."""
        folder = tmp_path / "tilted"
        folder.mkdir()
        down, normal = np.array([0, 0.9397, -0.3420]), np.array([0, 0.3420, 0.9397])
        origins = [np.array([0, 10, 50]) + k * normal for k in range(3)]
        for k, origin in enumerate(origins):
            header = {"ImagePositionPatient": origin.tolist(), "ImageOrientationPatient": [1, 0, 0, *down]}
            save(make_slice(noise[k], number=k + 1, **header), folder / f"{k}.dcm")
        geometry = find_series(folder).geometry
        corners = ((4.5, 9.5), (4.5, 12.5), (6.5, 12.5), (6.5, 9.5))
        points = [origins[1] + [x * 0.7, 0, 0] + y * 0.7 * down for y, x in corners]
        mask = self.read(tmp_path, geometry, {"GTV": [np.array(points)]})["GTV"]
        assert np.argwhere(mask).tolist() == [[1, y, x] for y in (5, 6) for x in (10, 11, 12)]


def test_other_dicom_is_refused_by_its_modality(folder, geometry):
    with pytest.raises(ValueError, match="modality CT"):
        read_mask(folder / "000.dcm", geometry)


def test_other_files_are_refused(tmp_path, geometry):
    (tmp_path / "mask.txt").write_text("mask")
    with pytest.raises(ValueError, match="mask.txt.*not a DICOM file"):
        read_mask(tmp_path / "mask.txt", geometry)
    with pytest.raises(FileNotFoundError):
        read_mask(tmp_path / "nowhere.nii", geometry)
    with pytest.raises(OSError):
        read_mask(tmp_path, geometry)
