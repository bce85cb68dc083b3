"""A second run resumes: it leaves alone what it would write again, told by what files hold, and makes the rest."""

import json
import os
import shutil

import pydicom
import pytest
from helpers.dicom import make_slice, save
from helpers.runs import HU, REPORT, tree, write_scans
from helpers.tiny import tiny_pipeline

from diffusionct_pipeline import DiffusionCTPipeline
from diffusionct_pipeline.commands._main import main
from diffusionct_pipeline.method.provenance import SEAL
from diffusionct_pipeline.standardize import run as folder_job
from diffusionct_pipeline.standardize import series_run as module
from diffusionct_pipeline.standardize.folder import standardize_folder
from diffusionct_pipeline.utils.files import LOCK_FILE


@pytest.fixture
def scans(tmp_path):
    return write_scans(tmp_path / "in")


def stamps(folder):
    """Relative path -> what changes when a file is written again."""
    return {name: ((stat := (folder / name).stat()).st_ino, stat.st_mtime_ns) for name in tree(folder)}


def counts(report):
    return report["written"], report["finished_before"], report["failures"]


class TestWhatIsFinished:
    @pytest.mark.parametrize("options", [{}, {"num_samples": 2}, {"seed": 3, "num_inference_steps": 2}], ids=str)
    def test_is_left_alone_without_any_work(self, scans, tmp_path, model, monkeypatch, options):
        standardize_folder(scans, tmp_path / "out", model=model, **options)
        before, shown = stamps(tmp_path / "out"), []
        monkeypatch.setattr(module.SeriesRun, "samples", lambda *_: pytest.fail("must not run"))
        report = standardize_folder(
            scans, tmp_path / "out", model=model, **options, progress=lambda *call: shown.append(call)
        )
        assert counts(report) == (0, 3, 0) and report["series"][0]["finished_before"] == 2
        assert stamps(tmp_path / "out") == before != {}
        assert shown[-1][0] == shown[-1][1], "finished slices count as done"

    def test_with_a_reference(self, scans, tmp_path, model):
        for expected in ((3, 0, 0), (0, 3, 0)):
            report = standardize_folder(scans, tmp_path / "out", model=model, reference=scans / "2")
            assert counts(report) == expected

    def test_is_made_anew_when_asked(self, scans, tmp_path, model):
        standardize_folder(scans, tmp_path / "out", model=model)
        before, stamped = tree(tmp_path / "out"), stamps(tmp_path / "out")
        assert counts(standardize_folder(scans, tmp_path / "out", model=model, overwrite=True)) == (3, 0, 0)
        assert tree(tmp_path / "out") == before
        assert not stamped.items() & stamps(tmp_path / "out").items()

    @pytest.mark.parametrize("options", [{}, {"num_samples": 2}, {"num_samples": 2, "preview": True}], ids=str)
    def test_after_an_interruption_is_completed_to_the_same_bytes(self, scans, tmp_path, model, options):
        if "preview" in options:
            pytest.importorskip("matplotlib")

        def interrupt(done, total):
            if 3 * done >= 2 * total:
                raise KeyboardInterrupt

        standardize_folder(scans, tmp_path / "whole", model=model, **options)
        with pytest.raises(KeyboardInterrupt):
            standardize_folder(scans, tmp_path / "out", model=model, **options, progress=interrupt)
        assert 0 < len(tree(tmp_path / "out")) < len(tree(tmp_path / "whole"))
        report = standardize_folder(scans, tmp_path / "out", model=model, **options)
        assert counts(report) == (1, 2, 0)
        assert tree(tmp_path / "out") == tree(tmp_path / "whole")

    def test_of_a_gpus_batch_is_kept_while_all_of_it_goes_through_the_networks(
        self, scans, tmp_path, model, monkeypatch
    ):
        monkeypatch.setattr(DiffusionCTPipeline, "batches", lambda self, slices, size=None: [list(range(len(slices)))])
        standardize_folder(scans, tmp_path / "out", model=model)
        before = tree(tmp_path / "out")
        (tmp_path / "out/1/2.dcm").unlink()
        sizes = []

        def samples(of_series, slices, original=module.SeriesRun.samples):
            sizes.append(len(slices))
            return original(of_series, slices)

        monkeypatch.setattr(module.SeriesRun, "samples", samples)
        assert counts(standardize_folder(scans, tmp_path / "out", model=model)) == (1, 2, 0)
        assert sizes == [2] and tree(tmp_path / "out") == before


def edit(path, change):
    """Change a DICOM file and write it again."""
    dataset = pydicom.dcmread(path)
    change(dataset)
    save(dataset, path)


def turn_a_bit(dataset):
    dataset.PixelData = bytes([dataset.PixelData[0] ^ 1]) + dataset.PixelData[1:]


def rename_patient(dataset):
    dataset.PatientName = "Somebody^Else"


def move(dataset):
    dataset.ImagePositionPatient = [-10, -10, 2.75]


DAMAGE = {
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0\0"),
    "zeros at the end": lambda path: path.write_bytes(path.read_bytes()[:-2000] + bytes(2000)),
    "a bit of a pixel": lambda path: edit(path, turn_a_bit),
    "another patient": lambda path: edit(path, rename_patient),
    "absent": lambda path: path.unlink(),
}
OTHER_SOURCE = {"a bit of a pixel": turn_a_bit, "another patient": rename_patient, "another place": move}


class TestWhatIsNotTakenForFinished:
    @pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
    def test_a_file_that_a_run_would_not_have_written(self, scans, tmp_path, model, damage):
        standardize_folder(scans, tmp_path / "out", model=model)
        before = tree(tmp_path / "out")
        damage(tmp_path / "out/1/1.dcm")
        assert tree(tmp_path / "out") != before
        assert counts(standardize_folder(scans, tmp_path / "out", model=model)) == (1, 2, 0)
        assert tree(tmp_path / "out") == before

    @pytest.mark.parametrize("change", OTHER_SOURCE.values(), ids=OTHER_SOURCE)
    def test_the_result_of_a_source_that_has_changed_under_its_uid(self, scans, tmp_path, model, change):
        standardize_folder(scans, tmp_path / "out", model=model, num_samples=2)
        stat = (scans / "1/1.dcm").stat()
        edit(scans / "1/1.dcm", change)
        os.utime(scans / "1/1.dcm", ns=(stat.st_atime_ns, stat.st_mtime_ns))  # neither name nor time betray it
        assert counts(standardize_folder(scans, tmp_path / "out", model=model, num_samples=2)) == (1, 2, 0)
        known = tmp_path / "out/run_report.json"  # the scan is what the first run took it for
        standardize_folder(scans, tmp_path / "new", model=model, num_samples=2, known_source=known)
        assert tree(tmp_path / "out") == tree(tmp_path / "new")

    @pytest.mark.parametrize(
        "option",
        [{"seed": 1}, {"num_inference_steps": 2}, {"reference": "2"}, {"model": "other"}, {"fast": True}],
        ids=str,
    )
    def test_that_of_other_options(self, scans, tmp_path, model, option):
        standardize_folder(scans, tmp_path / "out", model=model)
        if "model" in option:
            other = tiny_pipeline()
            other.autoencoder.latent_std.mul_(1.01)
            other.save_pretrained(tmp_path / "other")
        places = {"reference": scans, "model": tmp_path}
        option = {key: places[key] / value if key in places else value for key, value in option.items()}
        report = standardize_folder(scans, tmp_path / "out", **{"model": model, **option})
        assert counts(report) == (3, 0, 0)
        standardize_folder(scans, tmp_path / "new", **{"model": model, **option})
        assert tree(tmp_path / "out") == tree(tmp_path / "new"), "nothing is left of the earlier ones"

    def test_a_file_of_somebody_else(self, scans, tmp_path, model):
        (tmp_path / "out/1").mkdir(parents=True)
        mine = save(make_slice(HU, series=7), tmp_path / "out/1/1.dcm").read_bytes()
        for expected in ((2, 0, 1), (0, 2, 1)):
            assert counts(standardize_folder(scans, tmp_path / "out", model=model)) == expected
        assert (tmp_path / "out/1/1.dcm").read_bytes() == mine

    def test_a_slice_whose_samples_are_damaged_missing_or_of_other_seeds(self, scans, tmp_path, model):
        out, samples = tmp_path / "out", tmp_path / "out/samples/1"
        standardize_folder(scans, out, model=model, num_samples=3)
        whole = tree(out)
        (samples / "1.dcm.npz").write_bytes((samples / "1.dcm.npz").read_bytes()[:-500])
        (samples / "2.dcm.npz").unlink()
        assert counts(standardize_folder(scans, out, model=model, num_samples=3)) == (2, 1, 0)
        assert tree(out) == whole
        assert counts(standardize_folder(scans, out, model=model, num_samples=2)) == (3, 0, 0), "fewer samples"

    def test_samples_of_a_source_that_has_changed(self, scans, tmp_path, model):
        """A run without samples has renewed the derived file only; both have the UID and the seeds that they should."""
        standardize_folder(scans, tmp_path / "out", model=model, num_samples=2)
        save(make_slice(HU[::-1] + 10, number=1), scans / "1/1.dcm")
        standardize_folder(scans, tmp_path / "out", model=model)
        assert counts(standardize_folder(scans, tmp_path / "out", model=model, num_samples=2)) == (1, 2, 0)
        known = tmp_path / "out/run_report.json"  # the scan is what the first run took it for
        standardize_folder(scans, tmp_path / "new", model=model, num_samples=2, known_source=known)
        assert tree(tmp_path / "out") == tree(tmp_path / "new")

    def test_the_hashes_are_those_of_the_pixels(self, scans, tmp_path, model):
        standardize_folder(scans, tmp_path / "out", model=model)
        one, two = (pydicom.dcmread(tmp_path / f"out/1/{i}.dcm").ContributingEquipmentSequence[-1] for i in (1, 2))
        one, two = (item.ContributionDescription.partition(SEAL)[2].split(", ") for item in (one, two))
        assert len(one) == 2 and one[0].startswith("source ") and one[1].startswith("result ")
        assert one[0] != two[0] and one[1] != two[1]


class TestWhatElseTheFolderHolds:
    def test_is_said_and_is_no_failure(self, scans, tmp_path, model, capsys):
        standardize_folder(scans, tmp_path / "out", model=model, num_samples=2)
        shutil.rmtree(scans / "2")
        assert main(["standardize", str(scans), str(tmp_path / "out"), "--model", model]) == 0
        report = json.loads((tmp_path / "out" / REPORT).read_text())
        samples = [os.path.join("samples", *name) + ".npz" for name in (("1", "1.dcm"), ("1", "2.dcm"), ("2", "1.dcm"))]
        assert report["others"] == [os.path.join("2", "1.dcm"), *samples]
        assert "OUT also holds 4 files that are not from this run" in capsys.readouterr().err

    def test_a_failed_slice_leaves_no_earlier_result_unsaid(self, scans, tmp_path, model):
        standardize_folder(scans, tmp_path / "out", model=model)
        (scans / "1/1.dcm").write_bytes((scans / "1/1.dcm").read_bytes()[:-1000])
        report = standardize_folder(scans, tmp_path / "out", model=model, seed=1)
        assert counts(report) == (2, 0, 1) and report["others"] == [os.path.join("1", "1.dcm")]

    def test_what_killed_runs_left_is_removed_but_not_from_another_run(self, scans, tmp_path, model):
        part, out = f".{'0' * 32}.part", tmp_path / "out"
        for folder in (out, out / "1", out / "other run"):
            folder.mkdir(exist_ok=True, parents=True)
            (folder / part).write_text("half")
        (out / "other run" / LOCK_FILE).touch()
        (out / ".mine.part").write_text("mine")
        standardize_folder(scans, out, model=model)
        hidden = {name for name in tree(out) if os.path.basename(name).startswith(".")}
        assert hidden == {os.path.join("other run", part), os.path.join("other run", LOCK_FILE), ".mine.part"}


class TestTheReport:
    def test_is_kept_up_to_date_and_says_that_the_run_goes_on(self, scans, tmp_path, model, monkeypatch):
        monkeypatch.setattr(folder_job, "REPORT_SECONDS", 0.0)
        seen = []

        def look(done, _):
            path = tmp_path / "out" / REPORT
            seen.append(json.loads(path.read_text()) if path.exists() else None)

        report = standardize_folder(scans, tmp_path / "out", model=model, progress=look)
        assert [item and item["written"] for item in seen] == [None, 0, 1, 2]
        assert all(item["ended"] is None and item["stopped"].startswith("not ended") for item in seen[1:])
        assert report["ended"] >= report["started"] and report["stopped"] == ""

    def test_is_written_at_a_rate_that_does_not_grow_with_the_slices(self, scans, tmp_path, model, monkeypatch):
        written = []

        def write_whole(path, data, original=folder_job.write_whole):
            written.append(path)
            original(path, data)

        monkeypatch.setattr(folder_job, "write_whole", write_whole)
        standardize_folder(scans, tmp_path / "out", model=model)
        assert len(written) == 2, "at the start and at the end of a run of less than ten seconds"


class TestTheCommand:
    def test_says_what_was_finished_and_makes_it_anew_with_overwrite(self, scans, tmp_path, model, capsys):
        line = ["standardize", str(scans), str(tmp_path / "out"), "--model", model]
        said = []
        for more in ([], [], ["--overwrite"]):
            assert main([*line, *more]) == 0
            said.append(capsys.readouterr().out.strip())
        done = "3 of 3 slices in 2 series are standardized"
        assert said == [done, f"{done}, 3 of them by an earlier run", done]
