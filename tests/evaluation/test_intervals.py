"""Samples of a candidate in, intervals of its features out; what belongs to another run or grid is named."""

import csv

import numpy as np
import pydicom
import pytest

from diffusionct_pipeline.commands._main import main
from diffusionct_pipeline.dicom import read_slice
from diffusionct_pipeline.dicom.sample_files import SliceSamples
from diffusionct_pipeline.evaluation import compare_series, comparison, evaluate_series, measuring
from diffusionct_pipeline.metrics.uncertainty import WIDENING, coverage_by_class, sample_intervals
from diffusionct_pipeline.radiomics import feature_names

pytest.importorskip("matplotlib")

COUNT = 20
SHAPE = (3, 24, 28)


@pytest.fixture
def draws():
    """(1 + COUNT, slices, rows, columns) HU: the standard and the samples, of one distribution."""
    return np.rint(np.random.default_rng(3).normal(40, 60, (1 + COUNT, *SHAPE)))


@pytest.fixture
def scan(write_stack, draws, tmp_path):
    """Standard, candidate (the first sample), folder of the samples, mask with one tumour."""
    standard, candidate = write_stack(draws[0]), write_stack(draws[1], "candidate", series=2)
    write_samples(tmp_path / "samples", candidate, draws[1:])
    mask = np.zeros(SHAPE, np.uint8)
    mask[:, 5:14, 6:18] = 1
    np.savez(tmp_path / "tumours.npz", mask=mask)
    return standard, candidate, tmp_path / "samples", tmp_path / "tumours.npz"


def write_samples(folder, candidate, draws, **changes):
    """Samples (K, slices, rows, columns) of the slices of a folder, as `standardize` writes them."""
    folder.mkdir()
    for number, path in enumerate(sorted(candidate.glob("*.dcm"))):
        source = read_slice(path)
        record = SliceSamples.of(draws[:, number], source, source.dataset.SOPInstanceUID, range(len(draws)))
        for name, value in changes.items():
            object.__setattr__(record, name, value)
        (folder / f"{path.name}.npz").write_bytes(record.to_bytes())


@pytest.fixture
def quick(monkeypatch):
    """Features that cost nothing: the first ones are the mean and the deviation of the region."""

    def measure(hu, mask, spacing=None, settings=None):
        values = dict.fromkeys(feature_names(), 1.0)
        values |= dict(zip(values, (hu[mask].mean(), hu[mask].std())))
        result = type("Values", (dict,), {})(values)
        result.undefined = {}
        return result

    monkeypatch.setattr(measuring, "extract", measure)
    monkeypatch.setattr(measuring, "ALONE", 10**6)


def compare(scan, **options):
    standard, candidate, samples, mask = scan
    return compare_series(standard, [candidate], mask, samples=[samples], **options)


class TestCompare:
    def test_each_sample_is_measured_as_a_series_is(self, scan, quick, draws):
        measured = compare(scan).samples["candidate"]
        assert measured.shape == (COUNT, 1, 1401)
        expected = [hu[:, 5:14, 6:18].mean() for hu in draws[1:]]
        np.testing.assert_allclose(measured[:, 0, 0], expected, rtol=1e-5)

    def test_the_first_sample_has_the_features_of_the_candidate(self, scan, monkeypatch):
        monkeypatch.setattr(measuring, "ALONE", 10**6)
        monkeypatch.setattr(comparison, "require_samples", lambda count: None)
        for path in scan[2].iterdir():  # two samples are quicker
            with np.load(path) as file:
                arrays = {name: file[name][:2] if name in ("samples", "seeds") else file[name] for name in file}
            np.savez(path, **arrays)
        evaluation = compare(scan)
        np.testing.assert_array_equal(evaluation.samples["candidate"][0], evaluation.features["candidate"])
        assert np.nanmax(np.abs(evaluation.samples["candidate"][1] - evaluation.samples["candidate"][0])) > 0

    def test_without_samples_there_are_none(self, scan, quick):
        standard, candidate, _, mask = scan
        assert compare_series(standard, [candidate], mask).samples == {}

    def test_a_candidate_without_samples_is_left_out(self, scan, quick, write_stack, draws):
        standard, candidate, samples, mask = scan
        other = write_stack(draws[2], "other", series=3)
        assert list(compare_series(standard, [other, candidate], mask, samples=[samples]).samples) == ["candidate"]


class TestRefusals:
    def test_of_samples_of_another_run(self, scan, quick):
        for path in scan[1].iterdir():
            dataset = pydicom.dcmread(path)
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{dataset.SOPInstanceUID}.1"
            dataset.save_as(path)
        with pytest.raises(ValueError, match='samples".*candidate".*another run'):
            compare(scan)

    def test_of_a_missing_slice(self, scan, quick):
        (scan[2] / "001.dcm.npz").unlink()
        with pytest.raises(ValueError, match='lack 1 of the 3 slices.*such as ".*001.dcm"'):
            compare(scan)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"spacing_mm": 0.8}, r"000.dcm.npz.*24 x 28 pixels of 0.8 mm(.|\n)*24 x 28 pixels of 0.7 mm"),
            ({"samples": np.zeros((COUNT, 28, 24), np.int16)}, r"000.dcm.npz.*28 x 24 pixels of 0.7 mm"),
            (
                {"samples": np.zeros((8, 24, 28), np.int16), "seeds": np.arange(8)},
                "000.dcm.npz.*need at least 20 samples, got 8",
            ),
        ],
    )
    def test_of_another_geometry_and_of_too_few(self, scan, quick, draws, tmp_path, changes, message):
        write_samples(tmp_path / "changed", scan[1], draws[1:], **changes)
        with pytest.raises(ValueError, match=message):
            compare((*scan[:2], tmp_path / "changed", scan[3]))

    def test_of_different_counts(self, scan, quick, draws, tmp_path):
        write_samples(tmp_path / "more", scan[1], np.concatenate([draws[1:], draws[:1]]))
        (tmp_path / "more/001.dcm.npz").replace(scan[2] / "001.dcm.npz")
        with pytest.raises(ValueError, match="000.dcm.npz.* 20 .*001.dcm.npz.* 21"):
            compare(scan)

    def test_of_the_same_samples_twice(self, scan, quick):
        with pytest.raises(ValueError, match="already given"):
            compare_series(scan[0], [scan[1]], scan[3], samples=[scan[2], scan[2]])


class TestReport:
    def test_says_how_often_the_standard_is_covered(self, scan, quick, tmp_path):
        standard, candidate, samples, mask = scan
        evaluation = evaluate_series(standard, [candidate], mask, tmp_path / "out", samples=[samples])
        text = (tmp_path / "out/report.md").read_text()
        low, high = sample_intervals(evaluation.samples["candidate"], widening=WIDENING)
        classes = coverage_by_class(low, high, evaluation.features["standard"], feature_names())
        assert "## Uncertainty" in text and f"| all | 1,401 | {classes['all'].covered:.0%} |" in text
        with open(tmp_path / "out/intervals.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 1401 and {row["samples"] for row in rows} == {"20"}
        first = rows[0]
        assert (float(first["low"]), float(first["high"])) == pytest.approx((low[0, 0], high[0, 0]))
        held = float(first["low"]) <= float(first["standard"]) <= float(first["high"])
        assert first["covered"] == str(int(held))

    def test_of_a_run_without_samples_has_no_such_section(self, scan, quick, tmp_path):
        evaluate_series(scan[0], [scan[1]], scan[3], tmp_path / "out")
        assert "Uncertainty" not in (tmp_path / "out/report.md").read_text()
        assert not (tmp_path / "out/intervals.csv").exists()


class TestCommand:
    def test_takes_the_folder(self, scan, quick, tmp_path):
        options = dict(zip(("standard", "candidate", "samples", "mask"), scan), out=tmp_path / "out")
        assert main(["evaluate", *(str(part) for name, value in options.items() for part in (f"--{name}", value))]) == 0
        assert (tmp_path / "out/intervals.csv").is_file()

    def test_missing_samples_are_2_with_one_clear_line(self, scan, tmp_path, capsys):
        options = {"standard": scan[0], "candidate": scan[1], "mask": scan[3], "samples": "nowhere"}
        options["out"] = tmp_path / "o"
        assert main(["evaluate", *(str(part) for name, value in options.items() for part in (f"--{name}", value))]) == 2
        error = capsys.readouterr().err
        assert "nowhere" in error and "Traceback" not in error and not (tmp_path / "o").exists()
