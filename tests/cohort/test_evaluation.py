"""Tables, folders and lists of scans in, a report out: rows matched by patient, ComBat fitted on other patients."""

import numpy as np
import pytest

from diffusionct_pipeline.cohort import evaluate_cohort, evaluation, features
from diffusionct_pipeline.cohort.evaluation import Pairs, after_combat, compare_rows
from diffusionct_pipeline.cohort.rows import matched
from diffusionct_pipeline.commands._main import main
from diffusionct_pipeline.utils.usage import UsageError

pd = pytest.importorskip("pandas")
pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")

FEATURES = [f"original_{kind}_F{i}" for kind in ("glcm", "firstorder") for i in range(4)]


def table(shift=0.0, patients=8, seed=0, noise=0.1, **columns):
    truth = np.random.default_rng(0).normal(10, 2, (patients, len(FEATURES)))
    values = truth + shift + np.random.default_rng(seed).normal(0, noise, truth.shape)
    identity = {"patient": [f"p{i}" for i in range(patients)], "region": "1", **columns}
    return pd.DataFrame(identity).assign(**dict(zip(FEATURES, values.T)))


@pytest.fixture
def files(tmp_path):
    """Paths of a sharp, a soft and a standardized table."""
    kernels = ["A", "B"] * 4
    tables = {"sharp": table(), "soft": table(shift=4, seed=1, kernel=kernels), "ours": table(seed=2)}
    for name, each in tables.items():
        each.sample(frac=1, random_state=1).to_csv(tmp_path / f"{name}.csv", index=False)
    return {name: tmp_path / f"{name}.csv" for name in tables}


class TestReport:
    def test_of_tables_of_another_extractor(self, files, tmp_path, capsys):
        out = tmp_path / "out"
        arguments = [f"{name}={path}" for name, path in files.items()]
        code = main(["evaluate", "--cohort", *arguments, "--combat", "--plot", FEATURES[0], "--out", str(out)])
        assert code == 0 and "8 features in 3 tables" in capsys.readouterr().out
        rows = pd.read_csv(out / "robustness.csv").set_index(["candidate", "feature"])
        assert len(rows) == 4 * 8 and set(rows["class"]) == {"glcm", "firstorder"}
        assert rows.loc["ours", "ccc"].min() > 0.95 > rows.loc["soft", "ccc"].max()
        assert rows.loc["soft + ComBat", "ccc"].min() > 0.9  # a shift is what it takes out
        assert rows.loc["soft", "bias"].mean() == pytest.approx(4, abs=0.2)
        assert (rows["pairs"] == 8).all() and (rows["ccc_low"] <= rows["ccc"]).all()
        told = pd.read_csv(out / "told.csv").set_index(["table", "told"])["balanced_accuracy"]
        assert told["soft", "from the standard"] > 0.9 > told["ours", "from the standard"]
        assert ("sharp", "by kernel") in told.index
        text = (out / "report.md").read_text()
        assert "| soft + ComBat | 8 | 8 |" in text and "With 8 patients" in text
        for stem in ("reproducible_features", "ccc", "spread", "told", "bland_altman_1_original_glcm_f0"):
            assert all((out / f"{stem}.{suffix}").stat().st_size > 1000 for suffix in ("png", "pdf", "svg"))
            assert f"]({stem}.png)" in text

    def test_of_scans(self, write_patient, hu, tmp_path):
        for number, name in enumerate(("ann", "bob")):
            write_patient(f"{name}/sharp", hu + number, 2 * number + 1, PatientID=name)
            write_patient(f"{name}/soft", hu + 2 + number, 2 * number + 2, PatientID=name)
        lines = ["patient,role,path,mask"]
        for role in ("soft", "standard"):
            kind = "sharp" if role == "standard" else role
            lines += [f"{n},{role},scans/{n}/{kind},scans/{n}/{kind}/tumours.npz" for n in ("ann", "bob")]
        (tmp_path / "scans.csv").write_text("\n".join(lines))
        found = evaluate_cohort(tmp_path / "out", scans=tmp_path / "scans.csv", use_combat=False)
        assert found.standard == "standard" and list(found.pairs) == ["soft"]
        column = found.features.index("ID/GlobalMean")
        np.testing.assert_allclose(found.robustness["soft"].bias[column], 2, atol=1e-4)
        assert found.robustness["soft"].patients[column] == 2 and found.robustness["soft"].pairs[column] == 4
        assert (tmp_path / "out/features_soft.csv").exists() and "no intervals are given" in (
            tmp_path / "out/report.md"
        ).read_text()

    def test_a_table_alone_says_whether_kernels_show(self, files, tmp_path):
        assert main(["evaluate", "--cohort", f"soft={files['soft']}", "--out", str(tmp_path / "out")]) == 0
        assert "soft | by kernel" in (tmp_path / "out/report.md").read_text()
        assert not (tmp_path / "out/robustness.csv").exists()

    def test_a_failure_leaves_nothing_behind(self, files, tmp_path, monkeypatch):
        with pytest.raises(UsageError, match="a plotted feature must be .*, got 'none'"):
            evaluate_cohort(tmp_path / "new/out", files, plotted=["none"])
        assert list((tmp_path / "new").iterdir()) == []

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--cohort", "sharp"], "must be NAME=PATH, got 'sharp'"),
            (["--cohort", "a=sharp.csv", "a=sharp.csv"], "each name once"),
            (["--cohort", "a=none.csv"], "does not exist"),
            (["--standard", "sharp.csv"], "--candidate is missing; give --standard"),
            (["--cohort", "a=."], "with masks if it is a folder"),
            (["--cohort", "a=sharp.csv", "b=sharp.csv", "--plot", "none"], "a plotted feature must be"),
        ],
    )
    def test_wrong_usage(self, files, tmp_path, monkeypatch, capsys, arguments, message):
        monkeypatch.chdir(tmp_path)
        assert main(["evaluate", *arguments, "--out", "out"]) == 2
        assert message in capsys.readouterr().err


class TestMatching:
    def test_rows_are_matched_by_patient_not_by_place(self):
        one, two = table(), table().iloc[::-1]
        rows, features = matched({"one": one, "two": two})
        found = compare_rows(rows, features, use_combat=False, resamples=0)
        assert (found.robustness["two"].values["ccc"] == 1).all()

    def test_regions_of_one_table_only_are_told(self):
        rows, features = matched({"one": table(), "two": table(patients=8).iloc[:6]})
        found = compare_rows(rows, features, use_combat=False, resamples=0)
        assert len(found.pairs["two"].patients) == 6 and "2 regions are only in two or only in one" in found.remarks[0]

    def test_rows_that_cannot_be_told_apart_are_refused(self):
        twice = pd.concat([table(), table()])
        with pytest.raises(UsageError, match="table one has several rows with .*'p0'"):
            matched({"one": twice})
        rows, _ = matched({"one": twice.assign(scan=[1] * 8 + [2] * 8)}, ["patient", "scan"])
        assert len(rows["one"].keys) == 16

    def test_tables_without_patients_or_features_in_common_are_refused(self):
        with pytest.raises(UsageError, match="no column `patient`"):
            matched({"one": table().rename(columns={"patient": "case"})})
        with pytest.raises(UsageError, match="must share features"):
            matched({"one": table(), "two": table().rename(columns=lambda name: name.replace("original", "wavelet"))})

    def test_tables_of_other_patients_are_refused(self):
        rows, features = matched({"one": table(), "two": table().assign(patient=list("abcdefgh"))})
        with pytest.raises(UsageError, match=r"must share regions: two has \('a', '1'\), one has \('p0', '1'\)"):
            compare_rows(rows, features)


class TestBeforeMeasuring:
    """What cannot be compared is refused before anything is measured, so that nothing is lost."""

    @pytest.fixture(autouse=True)
    def measured(self, monkeypatch):
        """Regions that were measured."""
        regions = []
        monkeypatch.setattr(features, "measure_region", lambda *parts: regions.append(parts) or ValueError("measured"))
        return regions

    @pytest.fixture
    def folder(self, write_patient, hu):
        """A folder with two scans of one patient."""
        write_patient("ann/first", hu, 1, PatientID="ann")
        return write_patient("ann/second", hu, 2, PatientID="ann")

    def test_rows_of_a_folder_that_share_a_key(self, files, folder, tmp_path, measured):
        both = {"ours": folder, "again": folder}
        with pytest.raises(UsageError, match="table ours has several rows with .*'ann'"):
            evaluate_cohort(tmp_path / "out", both, masks=folder)
        assert measured == []
        with pytest.raises(ValueError, match="no region could be measured"):
            evaluate_cohort(tmp_path / "out", both, masks=folder, id_columns=["patient", "image", "region"])
        assert len(measured) == 4

    def test_scans_that_share_a_key(self, folder, tmp_path, measured):
        rows = [f"ann,sharp,scans/ann/{n},scans/ann/{n}/tumours.npz" for n in ("first", "second")]
        (tmp_path / "scans.csv").write_text("\n".join(["patient,role,path,mask", *rows]))
        with pytest.raises(UsageError, match="table sharp has several rows with .*'ann'"):
            evaluate_cohort(tmp_path / "out", scans=tmp_path / "scans.csv")
        assert measured == [] and not (tmp_path / ".out.measured").exists()

    def test_a_folder_that_shares_no_feature_with_a_table(self, files, folder, tmp_path, measured):
        with pytest.raises(UsageError, match="must share features"):
            evaluate_cohort(tmp_path / "out", {"sharp": files["sharp"], "ours": folder}, masks=folder)
        assert measured == []

    def test_a_folder_that_shares_no_region_with_another(self, folder, tmp_path, measured):
        with pytest.raises(UsageError, match="second and first must share regions: second has .*, first has"):
            evaluate_cohort(
                tmp_path / "out", {"first": folder / "ann/first", "second": folder / "ann/second"},
                masks=folder / "ann/first/tumours.npz", id_columns=["patient", "series_uid", "region"],
            )  # fmt: skip
        assert measured == []


class TestComBat:
    def test_a_patient_is_moved_by_a_fit_on_the_others(self, monkeypatch):
        fitted = []
        fit = evaluation.ReferenceComBat.fit
        monkeypatch.setattr(evaluation.ReferenceComBat, "fit", lambda *parts: fitted.append(parts) or fit(*parts))
        generator = np.random.default_rng(0)
        source, target = generator.normal(size=(6, 5)), generator.normal(size=(6, 5))
        after_combat(Pairs(source, target, list("aabbcc")))
        assert len(fitted) == 3
        np.testing.assert_array_equal(fitted[0][0], source[2:])
        np.testing.assert_array_equal(fitted[2][1], target[:4])

    def test_too_few_patients_are_refused(self):
        with pytest.raises(ValueError, match="at least 3 regions of other patients, got 2"):
            after_combat(Pairs(np.ones((4, 3)), np.ones((4, 3)), list("aabb")))


def test_axes_of_bland_and_altman_hold_the_limits_of_agreement():
    from diffusionct_pipeline.cohort.report import _common_limits

    a, b = np.array([1.0, 2.0, np.nan, 9.0]), np.array([0.0, 4.0, 1.0, 2.0])
    difference = (a - b)[[0, 1, 3]]
    (left, right), (low, high) = _common_limits({"one": (a, b), "other": (b, b)})
    assert low < difference.mean() - 1.96 * difference.std(ddof=1) < 0
    assert high > difference.mean() + 1.96 * difference.std(ddof=1)
    assert left < 0.5 and right > 5.5
