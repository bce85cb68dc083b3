"""Images and masks in, a table out: each region once, the features those of the whole image, runs resume."""

import json

import numpy as np
import pytest
from helpers.volumes import nifti

from diffusionct_pipeline.cohort import CohortSettings, extract_cohort, features, read_table
from diffusionct_pipeline.cohort.feature_agreement import class_of
from diffusionct_pipeline.cohort.images import image_key
from diffusionct_pipeline.cohort.pairing import MaskFile, find_masks, pair
from diffusionct_pipeline.cohort.resampling import resample
from diffusionct_pipeline.cohort.tables import IDENTITY, feature_columns
from diffusionct_pipeline.commands._main import main
from diffusionct_pipeline.radiomics import RadiomicSettings, extract, feature_names
from diffusionct_pipeline.radiomics.ibsi import extract_ibsi, ibsi_names
from diffusionct_pipeline.utils.usage import UsageError

pd = pytest.importorskip("pandas")
VOXEL_MM = (2.5, 0.7, 0.7)
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.fixture
def scans(write_patient, hu):
    write_patient("ann", hu, 1)
    return write_patient("bob", hu[:, ::-1], 2)


class TestTable:
    def test_a_row_for_each_region_with_what_it_is_of(self, scans, hu, labels, tmp_path):
        found = extract_cohort(scans, scans, tmp_path / "features.csv")
        table = read_table(tmp_path / "features.csv")
        assert not found.failures and list(table.columns) == [*IDENTITY, *feature_names()]
        assert table["patient"].tolist() == ["ann", "ann", "bob", "bob"] and table["region"].tolist() == ["1", "2"] * 2
        assert table["series_uid"].nunique() == 2 and table["mask_sha256"].nunique() == 2
        first = table.iloc[0]
        assert (first["voxels"], first["slices"], first["slice_mm"]) == ((labels == 1).sum(), 3, 2.5)
        expected = extract(hu, labels == 1, VOXEL_MM)
        np.testing.assert_allclose([first[n] for n in feature_names()], list(expected.values()), rtol=1e-9)

    def test_csv_and_parquet_hold_the_same_whatever_the_processes(self, scans, tmp_path):
        pytest.importorskip("pyarrow")
        extract_cohort(scans, scans, tmp_path / "one.csv")
        extract_cohort(scans, scans, tmp_path / "two.parquet", workers=2)
        one, two = read_table(tmp_path / "one.csv"), read_table(tmp_path / "two.parquet")
        pd.testing.assert_frame_equal(one[list(feature_names())], two[list(feature_names())])
        assert (one["image"] == two["image"]).all()

    def test_a_volume_is_measured_as_the_series_of_the_same_voxels(self, scans, hu, labels, tmp_path):
        pytest.importorskip("nibabel")
        affine = np.diag([0.7, 0.7, 2.5, 1.0])
        affine[:2, 3] = -10, -20
        folder = tmp_path / "volumes"
        folder.mkdir()
        for name, array in (("ann_image", hu), ("ann_label", labels)):
            path = folder / f"{name}.nii"
            path.write_bytes(nifti(array.astype(np.int16).transpose(2, 1, 0), LPS_TO_RAS @ affine))
        volume = extract_cohort(folder, folder, tmp_path / "volume.csv").table
        series = extract_cohort(scans / "ann", scans / "ann", tmp_path / "series.csv").table
        names = list(feature_names())
        np.testing.assert_allclose(volume[names].to_numpy(), series[names].to_numpy(), rtol=1e-9)
        assert volume["patient"].tolist() == ["ann", "ann"]

    def test_what_cannot_be_measured_costs_only_itself(self, scans, tmp_path, write_patient, hu, labels, capsys):
        write_patient("eve", hu, 3, mask=labels[:2])
        code = main(["features", str(scans), str(scans), "--out", str(tmp_path / "f.csv"), "--workers", "1"])
        captured = capsys.readouterr()
        assert code == 1 and "not measured: eve" in captured.err and "4 regions in 2 images" in captured.out

    def test_an_interrupted_run_resumes(self, scans, tmp_path, monkeypatch):
        def interrupt(done, total):
            if done == 1:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            extract_cohort(scans, scans, tmp_path / "f.csv", progress=interrupt)
        assert not (tmp_path / "f.csv").exists()
        calls = []
        monkeypatch.setattr(features, "extract", lambda *a: calls.append(a) or extract(*a))
        found = extract_cohort(scans, scans, tmp_path / "f.csv")
        assert (found.measured_before, len(calls)) == (2, 2)
        assert not list(tmp_path.glob(".f.csv*"))

    def test_wrong_usage(self, scans, tmp_path, capsys):
        assert main(["features", str(scans), str(scans), "--out", str(tmp_path / "f.xlsx")]) == 2
        assert main(["features", str(tmp_path / "no"), str(scans), "--out", str(tmp_path / "f.csv")]) == 2
        assert "must end in .csv or .parquet" in capsys.readouterr().err


class TestIbsi:
    settings = CohortSettings.of({"ibsi": {"bin_width_hu": 25, "range_hu": [-1000, 400]}})

    def test_stands_beside_the_1401_and_is_not_counted_among_them(self, scans, hu, labels, tmp_path, capsys):
        (tmp_path / "settings.json").write_text('{"ibsi": {"bin_width_hu": 25, "range_hu": [-1000, 400]}}')
        out = tmp_path / "f.csv"
        assert main(["features", str(scans), str(scans), "--out", str(out), "--settings", str(tmp_path / "settings.json"),
                     "--workers", "1"]) == 0  # fmt: skip
        assert "1,401 features each and 208 of IBSI" in capsys.readouterr().out
        table = read_table(out)
        assert list(table.columns) == [*IDENTITY, *feature_names(), *ibsi_names()]
        assert feature_columns(table) == list(feature_names())
        assert (
            feature_columns(table, ["IBSI/"])
            == feature_columns(table[[*IDENTITY, *ibsi_names()]])
            == list(ibsi_names())
        )
        of_2 = extract_ibsi(hu, labels == 2, VOXEL_MM, self.settings.ibsi)
        np.testing.assert_allclose(table.iloc[1][list(of_2)].to_numpy(float), list(of_2.values()), rtol=1e-9)
        assert json.loads(table["settings"][0])["ibsi"]["bin_width_hu"] == 25

    def test_two_processes_measure_the_same(self, scans, tmp_path):
        one, two = (
            extract_cohort(scans, scans, tmp_path / f"{n}.csv", settings=self.settings, workers=n).table for n in (1, 2)
        )
        pd.testing.assert_frame_equal(one, two)

    def test_a_region_that_cannot_be_measured_costs_only_itself(self, scans, tmp_path, write_patient, hu):
        hu[1, 8, 8] = 3000
        write_patient("eve", hu, 3)
        settings = CohortSettings.of({"ibsi": {"bin_width_hu": 2}})
        found = extract_cohort(scans, scans, tmp_path / "f.csv", settings=settings)
        assert len(found.table) + len(found.failures) == 6 and len(found.failures) == 1
        assert "eve" in found.failures[0] and "`bin_width_hu` must give at most 1024 grey levels" in found.failures[0]

    def test_is_reported_by_family(self):
        assert [class_of(name) for name in ("IBSI/morph_volume/RNU0", "IBSI/cm_contrast_3D_avg/ACUI")] == [
            "IBSI morph",
            "IBSI cm",
        ]


class TestSettings:
    def write(self, tmp_path, **settings):
        (tmp_path / "settings.json").write_text(json.dumps(settings))
        return tmp_path / "settings.json"

    def test_of_a_file(self, tmp_path):
        path = self.write(tmp_path, levels=32, window_hu=[-200, 300], resample_mm=1, dimensions=2)
        settings = CohortSettings.read(path)
        assert settings.radiomics == RadiomicSettings(levels=32, grey_limits=(800, 1300))
        assert settings.resample_mm == (1, 1, 1) and len(settings.names) == 1401 - 924 - 5
        assert json.loads(settings.text())["levels"] == 32 and CohortSettings().text() == "{}"

    @pytest.mark.parametrize(
        ("bad", "message"),
        [
            ({"bins": 3}, "a setting must be one of dimensions, .*, got 'bins'"),
            ({"levels": "many"}, "`levels` must be an integer, got 'many'"),
            ({"levels": 1}, "`levels` must be at least 2, got 1"),
            ({"window_hu": 3}, "`window_hu` must be 2 numbers, got 3"),
            ({"resample_mm": [1, 1, 2]}, r"`resample_mm` must .*, got \[1, 1, 2\]"),
            ({"dimensions": 4}, "`dimensions` must be 2 or 3, got 4"),
            ({"ibsi": 25}, "`ibsi` must be an object .*, got 25"),
            ({"ibsi": {}}, "exactly one of `bin_width_hu` and `bins`"),
            ({"ibsi": {"levels": 32}}, "one of bin_width_hu, bins, range_hu, got 'levels'"),
        ],
    )
    def test_what_is_not_legal_is_named(self, tmp_path, bad, message):
        with pytest.raises(UsageError, match=f"settings.json(.|\n)*{message}"):
            CohortSettings.read(self.write(tmp_path, **bad))

    def test_two_dimensions_leave_out_what_looks_beyond_a_slice(self, scans, tmp_path):
        settings = CohortSettings(dimensions=2)
        table = extract_cohort(scans / "ann", scans / "ann", tmp_path / "f.csv", settings=settings).table
        assert not [name for name in table if name.startswith(("GLCM3/", "NID3/"))]

    def test_resampling_keeps_place_and_volume(self):
        z, y, x = np.indices((6, 30, 30))
        mask = (y - 14.5) ** 2 + (x - 14.5) ** 2 < 100
        hu, inside = resample(10.0 * x + 3 * z, mask, (2, 1, 1), (1, 0.5, 0.5))
        assert hu.shape == (12, 60, 60) and inside.sum() / 8 == pytest.approx(mask.sum(), rel=0.02)
        assert hu[6, 30, 31] == pytest.approx(10 * (14.5 + 0.75) + 3 * (2.5 + 0.25), abs=0.6)
        with pytest.raises(ValueError, match="no voxel of the region is left"):
            resample(hu, mask_of_one(hu.shape), (1, 1, 1), (20, 20, 20))


def mask_of_one(shape):
    mask = np.zeros(shape, bool)
    mask[0, 0, 0] = True
    return mask


class TestPairing:
    class Image:
        def __init__(self, name, series_uid=""):
            self.name, self.series_uid = name, series_uid

    def test_by_reference_then_by_name_then_by_folder(self):
        images = [self.Image("a/soft", "1.2"), self.Image("a/sharp", "1.3"), self.Image("lung_ct.nii.gz")]
        masks = [
            MaskFile("m", "z/rs.dcm", frozenset({"1.3"})),
            MaskFile("m", "lung_mask.nii.gz"),
            MaskFile("m", "a/tumour.npz"),
            MaskFile("m", "other.npz"),
        ]
        names = [[mask.name for mask in own] for _, own in pair(images, masks)]
        assert names == [["a/tumour.npz"], ["z/rs.dcm", "a/tumour.npz"], ["lung_mask.nii.gz"]]

    def test_images_beside_the_masks_of_another_folder_are_no_masks(self, tmp_path):
        for name in ("lung1_image.nrrd", "lung1_label.nrrd", "lung2.nrrd", "lung3.nii.gz"):
            (tmp_path / name).touch()
        found = [mask.name for mask in find_masks(tmp_path, tmp_path / "standardized")]
        assert found == ["lung1_label.nrrd", "lung2.nrrd", "lung3.nii.gz"]

    def test_reference_to_a_series_that_is_not_here_leaves_the_name(self):
        images = [self.Image("a", "9.1"), self.Image("b", "9.2")]
        assert [len(own) for _, own in pair(images, [MaskFile("m", "a/rs.dcm", frozenset({"1.3"}))])] == [1, 0]

    def test_all_masks_belong_to_the_only_image(self):
        assert len(pair([self.Image("a")], [MaskFile("m", "x.npz"), MaskFile("m", "y.npz")])[0][1]) == 2

    def test_keys(self):
        assert image_key("A/lung1_image.nrrd") == image_key("a/Lung1-Label.nii.gz") == "a/lung1"


class TestOthersTables:
    def test_columns_of_pyradiomics_are_found(self):
        table = pd.DataFrame(
            {"patient": ["a"], "diagnostics_Image-original_Mean": [1.0], "original_glcm_Contrast": [2.0]}
        )
        assert feature_columns(table) == ["original_glcm_Contrast"]
        assert feature_columns(table, ["diagnostics"]) == ["diagnostics_Image-original_Mean"]
        with pytest.raises(UsageError, match="no column begins with 'wavelet'"):
            feature_columns(table, ["wavelet"])
