"""Series in, report out: identity agrees, what does not fit is refused, and OUT is whole or absent."""

import csv
import dataclasses

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from diffusionct_pipeline.commands._main import main
from diffusionct_pipeline.evaluation import compare_series, evaluate_series, measuring, relative_error
from diffusionct_pipeline.evaluation.geometry import find_series
from diffusionct_pipeline.radiomics import DEFAULT_SETTINGS, duplicate_features, extract, feature_names

pytest.importorskip("matplotlib")
VOXEL_MM = (2.5, 0.7, 0.7)  # of `write_stack`


@pytest.fixture
def mask(tmp_path, noise):
    """Four regions, the last one in a single slice."""
    array = np.zeros(noise.shape, np.uint8)
    array[1:4, 5:15, 5:15] = 1
    array[0:2, 20:32, 8:18] = 2
    array[2:5, 8:20, 25:40] = 3
    array[2, 30:38, 0:9] = 4  # touches the border
    np.savez_compressed(tmp_path / "tumours.npz", mask=array)
    return tmp_path / "tumours.npz"


@pytest.fixture
def soft(noise):
    return np.rint(gaussian_filter(noise, (0, 1, 1)))


@pytest.fixture
def folders(write_stack, noise, soft):
    """standard, its copy under another UID, a smoothed candidate"""
    return write_stack(noise), write_stack(noise, "copy", series=2), write_stack(soft, "soft", series=3)


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


class TestCompare:
    def test_identity_has_relative_error_0(self, folders, mask):
        evaluation = compare_series(folders[0], [folders[1]], mask)
        error = relative_error(evaluation.features["copy"], evaluation.features["standard"])
        assert np.isfinite(error).mean() > 0.6 and np.nanmax(error) == 0

    def test_features_are_those_of_the_whole_image(self, folders, mask, noise):
        """Cutting out a region with its neighbourhood must not show."""
        evaluation = compare_series(folders[0], [folders[1]], mask)
        labels = np.load(mask)["mask"]
        for k, label in enumerate((1, 2, 3, 4)):
            whole = extract(noise, labels == label, VOXEL_MM)
            np.testing.assert_allclose(
                evaluation.features["standard"][k], [whole[name] for name in feature_names()], rtol=1e-9, atol=1e-12
            )
            assert evaluation.undefined["standard"][k] == whole.undefined

    def test_two_processes_give_what_one_gives(self, folders, mask, monkeypatch):
        monkeypatch.setattr("diffusionct_pipeline.evaluation.measuring.ALONE", 0)
        one = compare_series(folders[0], folders[1:], mask, workers=1)
        two = compare_series(folders[0], folders[1:], mask, workers=2)
        for name in one.features:
            np.testing.assert_array_equal(one.features[name], two.features[name])

    def test_slices_are_matched_by_position_not_by_number(self, folders, mask, write_stack, noise):
        """The candidate lacks the first slice, has more at the end, and its files are named in another order."""
        labels = np.load(mask)["mask"]
        np.savez(mask, mask=np.where(labels == 2, 0, labels))  # the region in the first slice
        longer = np.concatenate([noise[1:], noise[:2]])[::-1]
        positions = 2.5 * np.arange(1, 7)[::-1]
        folder = write_stack(longer, "longer", series=4)
        move(folder, positions)
        evaluation = compare_series(folders[0], [folder], mask)
        inner = relative_error(evaluation.features["longer"][1:], evaluation.features["standard"][1:])
        assert np.nanmax(inner) == 0
        assert any("4 of its 6 slices" in remark for remark in evaluation.remarks)

    def test_all_series_see_the_same_neighbourhood(self, folders, mask, write_stack, noise):
        """Where one series ends early, the others end there too."""
        shorter = write_stack(noise[:4], "shorter", series=4)
        evaluation = compare_series(folders[0], [shorter, folders[1]], mask, labels=[1, 2, 4])
        for name in ("shorter", "copy"):
            error = relative_error(evaluation.features[name], evaluation.features["standard"])
            assert np.nanmax(error) == 0

    def test_a_region_across_a_gap_is_measured_in_parts_of_one_tumour(self, write_stack, noise, mask):
        folder, copy = write_stack(noise, "a"), write_stack(noise, "b", series=2)
        for one in (folder, copy):
            move(one, [0, 2.5, 5, 40, 42.5])
        evaluation = compare_series(folder, [copy], mask, labels=[3])
        assert [region.name for region in evaluation.regions] == ["3 at 5.0 mm", "3 at 40.0 mm"]
        assert [region.label for region in evaluation.regions] == ["3", "3"]
        assert "2 parts" in evaluation.remarks[-1]
        labels = np.load(mask)["mask"]
        expected = extract(noise[3:], labels[3:] == 3, VOXEL_MM)["NID3/Coarseness/nhood=3/bins=64"]
        column = feature_names().index("NID3/Coarseness/nhood=3/bins=64")
        assert evaluation.features["a"][1, column] == pytest.approx(expected, rel=1e-9)

    def test_slices_far_apart_for_their_thickness_are_no_volume(self, write_stack, noise):
        assert len(find_series(write_stack(noise, "thin", SliceThickness=1.0)).geometry.contiguous()) == 5
        assert len(find_series(write_stack(noise, "thick", SliceThickness=2.5)).geometry.contiguous()) == 1

    @pytest.mark.parametrize(
        ("header", "message"),
        [
            ({"PixelSpacing": [0.8, 0.8]}, "0.7 mm(.|\n)*0.8 mm"),
            ({"ImageOrientationPatient": [1, 0, 0, 0, 0.9995, 0.0316]}, "axes"),
            ({"offset": [0.7, 0, 0]}, r"differ by up to 0.7 mm(.|\n)*\(-10.00(.|\n)*\(-9.30"),
            ({"offset": [0, 0, 1.25]}, r"share no slice position"),
            ({"offset": [0, 0, -5]}, r"no slice at"),
        ],
    )
    def test_another_geometry_is_refused_with_both(self, folders, mask, write_stack, noise, header, message):
        offset = header.pop("offset", [0, 0, 0])
        other = write_stack(noise, "other", series=4, **header)
        if any(offset):
            move(other, 2.5 * np.arange(5) + offset[2], offset[:2])
        with pytest.raises(ValueError, match=message) as caught:
            compare_series(folders[0], [other], mask)
        assert "other" in str(caught.value) and "5 slices 2.5 mm apart" in str(caught.value)

    def test_another_matrix_is_refused(self, folders, mask, write_stack, noise):
        with pytest.raises(ValueError, match="40 x 48(.|\n)*40 x 40"):
            compare_series(folders[0], [write_stack(noise[:, :, :40], "narrow", series=4)], mask)

    def test_one_series_twice_is_refused(self, folders, mask):
        with pytest.raises(ValueError, match="given 2 times"):
            compare_series(folders[0], [folders[0]], mask)

    def test_names_tell_equal_folders_apart(self, write_stack, noise, mask):
        folders = [write_stack(noise, f"{system}/series", series=i) for i, system in enumerate("abc", start=1)]
        evaluation = compare_series(folders[0], folders[1:], mask, labels=[4])
        assert list(evaluation.features) == ["a/series", "b/series", "c/series"]

    def test_two_series_in_a_folder_are_refused(self, tmp_path, folders, mask):
        with pytest.raises(ValueError, match="holds 3 CT series"):
            compare_series(folders[0], [tmp_path], mask)


def move(folder, heights_mm, corner_mm=(0.0, 0.0)):
    """Set the positions of the slices of `write_stack`, in the order of their names."""
    import pydicom

    for path, z in zip(sorted(folder.glob("*.dcm")), heights_mm):
        dataset = pydicom.dcmread(path)
        dataset.ImagePositionPatient = [-10 + corner_mm[0], -20 + corner_mm[1], float(z)]
        dataset.save_as(path)


class TestReport:
    @pytest.fixture
    def out(self, tmp_path):
        return tmp_path / "results" / "out"

    def test_several_tumours_and_candidates(self, folders, mask, out, noise):
        standard, copy, soft = folders
        calls = []
        evaluate_series(
            standard, [copy], mask, out, baseline=soft, use_combat=True, workers=1, progress=lambda *c: calls.append(c)
        )
        assert calls == [(i, 12) for i in range(1, 13)]
        names = {path.name for path in out.iterdir()}
        assert {"report.md", "features.csv", "agreement.csv", "panel.png", "class_boxes.png"} <= names
        assert {"reproducible_features.png", "bland_altman_1_mean.png", "bland_altman_2_contrast.png"} <= names
        text = (out / "report.md").read_text()
        assert (
            "| soft | baseline |" in text
            and "soft + ComBat" in text
            and f"{len(duplicate_features())} of the 1,401" in text
        )
        assert "With 4 tumours the concordance is imprecise" in text
        for name in names:
            assert not name.endswith(".png") or f"]({name})" in text
        # Identity in the tables.
        agreement = rows_of(out / "agreement.csv")
        copied = [row for row in agreement if row["system"] == "copy"]
        assert len(copied) == 14  # two sets of six classes and all
        assert {float(row["ccc_mean"]) for row in copied} == {1.0}
        features = rows_of(out / "features.csv")
        assert len(features) == 4 * 1401
        assert {float(row["relative error copy"]) for row in features if row["relative error copy"]} == {0.0}
        empty = [row for row in features if row["standard"] == ""]
        assert empty and all(row["undefined"] for row in empty)

    def test_one_tumour_has_relative_errors_but_no_concordance(self, folders, mask, out):
        evaluate_series(folders[0], [folders[2]], mask, out, labels=[1], use_combat=True)
        text = (out / "report.md").read_text()
        assert "With 1 region it is not meaningful" in text and "CCC of" not in text
        assert "ComBat of soft was not possible" in text
        assert not (out / "class_boxes.png").exists()
        rows = rows_of(out / "agreement.csv")
        assert all(row[column] == "" for row in rows for column in row if column.startswith("ccc"))
        assert all(0 < float(row["reproducible"]) < 1401 for row in rows if row["class"] == "all")

    def test_without_images_and_with_figures_for_a_paper(self, folders, mask, out):
        evaluate_series(folders[0], [folders[2]], mask, out, labels=[1], use_images=False, formats=[".pdf", ".svg"])
        names = {path.name for path in out.iterdir()}
        assert {"reproducible_features.pdf", "reproducible_features.svg"} <= names
        assert not [name for name in names if "panel" in name or "noise_power" in name or name.endswith(".png")]
        text = (out / "report.md").read_text()
        assert "](reproducible_features.pdf)" in text and "PSNR" not in text

    def test_gain_refers_to_the_baseline(self, folders, mask, out):
        evaluation = evaluate_series(folders[0], [folders[1]], mask, out, baseline=folders[2], labels=[1])
        target = evaluation.features["standard"]
        counts = [np.sum(relative_error(evaluation.features[n], target) < 0.15) for n in ("copy", "soft")]
        assert f"| {counts[0] / counts[1] - 1:+.0%} |" in (out / "report.md").read_text()

    def test_names_folders_and_files_but_not_where_they_lie(self, folders, mask, out):
        for folder in folders[:2]:
            move(folder, [0, 2.5, 5, 40, 42.5])
        evaluate_series(folders[0], [folders[1]], mask, out, labels=[4])
        text = (out / "report.md").read_text()
        assert '35.00 mm between "002.dcm" and "003.dcm"' in text
        assert [path.name for path in out.iterdir() if str(out.parents[1]).encode() in path.read_bytes()] == []

    def test_a_failure_leaves_nothing_behind(self, folders, mask, out, monkeypatch):
        def fail(*_, **__):
            raise OSError("no space")

        monkeypatch.setattr("diffusionct_pipeline.evaluation.report.write_agreement", fail)
        with pytest.raises(OSError, match="no space"):
            evaluate_series(folders[0], [folders[1]], mask, out, labels=[4])
        assert list(out.parent.iterdir()) == []

    def test_series_have_the_names_that_were_given(self, folders, mask, out, capsys):
        named = [f"{name}={folder}" for name, folder in zip(("sharp", "soft"), (folders[0], folders[2]))]
        arguments = [
            "evaluate",
            "--standard",
            named[0],
            "--mask",
            str(mask),
            "--label",
            "1",
            "--no-images",
            "--out",
            str(out),
        ]
        assert main([*arguments, "--candidate", str(folders[2])]) == 2
        assert "either all series or none must be named" in capsys.readouterr().err
        assert main([*arguments, "--candidate", named[1]]) == 0
        text = (out / "report.md").read_text()
        assert "| sharp | standard |" in text and "| soft | candidate |" in text

    def test_equal_names_are_refused(self, folders, mask):
        with pytest.raises(ValueError, match="must be 2 different ones"):
            compare_series(folders[0], [folders[1]], mask, names=["a", "a"])


class TestGoingOn:
    def interrupted(self, folders, mask, out, after):
        def interrupt(done, total):
            if done == after:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            evaluate_series(folders[0], folders[1:], mask, out, progress=interrupt)

    def test_what_an_interrupted_run_measured_is_not_measured_again(self, folders, mask, tmp_path, monkeypatch):
        evaluate_series(folders[0], folders[1:], mask, tmp_path / "whole/out")
        self.interrupted(folders, mask, tmp_path / "new/out", after=5)
        calls = []
        monkeypatch.setattr(measuring, "extract", lambda *a, **o: calls.append(a) or extract(*a, **o))
        evaluation = evaluate_series(folders[0], folders[1:], mask, tmp_path / "new/out")
        # What was measured of the standard is found for its copy too, as only pixels count.
        assert evaluation.measured_before >= 5 and evaluation.measured_before + len(calls) == 12
        assert [path.name for path in (tmp_path / "new").iterdir()] == ["out"], "nothing is kept after the report"
        for path in (tmp_path / "whole/out").iterdir():
            assert path.read_bytes() == (tmp_path / "new/out" / path.name).read_bytes()

    @pytest.mark.parametrize("change", ["other settings", "other pixels", "damaged", "other code"])
    def test_what_was_measured_of_something_else_is_not_taken(self, mask, tmp_path, monkeypatch, noise, change):
        settings, region = DEFAULT_SETTINGS, np.load(mask)["mask"] == 1
        kept = measuring.MeasuredFeatures(tmp_path / "kept", settings, VOXEL_MM)
        kept.write(noise, region, extract(noise, region))
        assert kept.read(noise, region) == pytest.approx(extract(noise, region), nan_ok=True, abs=0, rel=0)
        if change == "other settings":
            settings = dataclasses.replace(settings, entropy_window=settings.entropy_window + 2)
        elif change == "other pixels":
            noise = noise + (np.arange(noise.size) == 7).reshape(noise.shape)
        elif change == "damaged":
            (path,) = (tmp_path / "kept").iterdir()
            path.write_text(path.read_text()[:-100])
        else:
            monkeypatch.setattr(measuring.np, "__version__", "0")
        assert measuring.MeasuredFeatures(tmp_path / "kept", settings, VOXEL_MM).read(noise, region) is None

    def test_one_run_at_a_time(self, folders, mask, tmp_path):
        with measuring.kept_until_done(tmp_path / "out"), pytest.raises(BlockingIOError, match="another run"):
            evaluate_series(folders[0], folders[1:], mask, tmp_path / "out")

    def test_the_command_says_so(self, folders, mask, tmp_path, capsys):
        self.interrupted(folders, mask, tmp_path / "new/out", after=12)
        line = ["evaluate", "--standard", folders[0], "--candidate", *folders[1:], "--mask", mask]
        assert main([*map(str, line), "--out", str(tmp_path / "new/out")]) == 0
        assert "12 measurements were taken over from an earlier run that was interrupted" in capsys.readouterr().out


class TestCommand:
    def arguments(self, standard, candidate, mask, out):
        return ["evaluate", "--standard", standard, "--candidate", candidate, "--mask", mask, "--out", out]

    def run(self, *parts):
        return main([str(part) for part in self.arguments(*parts)])

    def test_done_is_0_and_says_where(self, folders, mask, tmp_path, capsys):
        arguments = self.arguments(folders[0], folders[1], mask, tmp_path / "out")
        assert main([str(a) for a in [*arguments, "--label", "4"]]) == 0
        assert "out/report.md" in capsys.readouterr().out
        assert (tmp_path / "out/report.md").is_file()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"out": "standard/out"}, "outside of the inputs"),
            ({"out": "copy"}, "exists already"),
            ({"candidate": "nowhere"}, "nowhere"),
            ({"mask": "nowhere.npz"}, "nowhere.npz"),
            ({"mask": "standard/000.dcm"}, "modality CT"),
        ],
    )
    def test_what_cannot_be_done_is_said_with_one_clear_line(self, folders, mask, tmp_path, capsys, change, message):
        parts = {"standard": "standard", "candidate": "copy", "mask": "tumours.npz", "out": "out", **change}
        before = sorted(tmp_path.rglob("*"))
        assert self.run(*(tmp_path / parts[key] for key in ("standard", "candidate", "mask", "out"))) == (
            1 if message == "modality CT" else 2
        )
        error = capsys.readouterr().err
        assert "diffusionct evaluate: error:" in error and message in error and "Traceback" not in error
        assert sorted(tmp_path.rglob("*")) == before

    @pytest.mark.parametrize("missing", ["--standard", "--candidate", "--mask"])
    def test_wrong_usage_is_2(self, missing, capsys):
        arguments = self.arguments("a", "b", "c", "d")
        del arguments[arguments.index(missing) : arguments.index(missing) + 2]
        assert main(arguments) == 2 and f"{missing} is missing" in capsys.readouterr().err
