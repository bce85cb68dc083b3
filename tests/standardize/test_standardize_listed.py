"""Jobs that share an output folder: each series is done once by one of them, to the bytes of a run over all."""

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.dicom import make_slice, save
from helpers.runs import HU, REPORT, tree, write_scans
from helpers.volumes import affine_ras, nifti, phantom, volume_of

from diffusionct_pipeline.commands._main import main
from diffusionct_pipeline.standardize.folder import standardize_folder
from diffusionct_pipeline.standardize.listed import SERIES_FOLDER, merge_reports, standardize_listed
from diffusionct_pipeline.standardize.series_list import read_list
from diffusionct_pipeline.utils.files import BUSY, locked_folder

TIMES = ("started", "ended", "seconds", "seconds_to_load")


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Series 1 of three slices, 2 of two in two folders, 3 beside a text and a cut-off slice."""
    folder = write_scans(tmp_path_factory.mktemp("scans"), ((1, 1), (1, 2), (1, 3), (2, 1), (3, 1)))
    (folder / "2/late").mkdir()
    save(make_slice(HU + 20, series=2, number=2), folder / "2/late/2.dcm")
    (folder / "3/notes.txt").write_text("none")
    (folder / "3/cut.dcm").write_bytes((folder / "1/1.dcm").read_bytes()[:900])
    return folder


@pytest.fixture(scope="module")
def listed(scans, tmp_path_factory):
    """The list as the command prints it."""
    path = tmp_path_factory.mktemp("list") / "series.tsv"
    code = "import sys; from diffusionct_pipeline.commands._main import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code, "plan", scans], capture_output=True)
    path.write_bytes(done.stdout)
    assert done.returncode == 1 and b"cut.dcm" in done.stderr
    return path


@pytest.fixture(scope="module")
def whole(scans, tmp_path_factory, model):
    """A run over all of it."""
    out = tmp_path_factory.mktemp("whole")
    standardize_folder(scans, out, model=model)
    return out


def visible(out):
    return {name: data for name, data in tree(out).items() if not name.startswith(".")}


def timeless(report):
    return {key: value for key, value in report.items() if key not in TIMES} | {
        "series": [{**entry, "seconds_per_slice": None} for entry in report["series"]]
    }


def run_all(scans, out, listed, model, **options):
    return [
        standardize_listed(scans, out, listed, index, model=model, **options)
        for index in range(1, len(read_list(listed)) + 1)
    ]


class TestPlan:
    def test_has_a_line_a_series(self, listed):
        found = read_list(listed)
        assert [(item.path, item.slices, item.kernel) for item in found] == [
            ("1", 3, "B70f"),
            ("2", 2, "B70f"),
            ("3", 1, "B70f"),
        ]
        assert len({item.id for item in found}) == 3
        assert len(listed.read_text().splitlines()) == 4

    @pytest.mark.parametrize("content", ["", "id\tpath\n", "id\tpath\tslices\tkernel\na\tb\tmany\tc\n"])
    def test_of_another_form_is_refused(self, scans, tmp_path, model, content, capsys):
        (tmp_path / "x.tsv").write_text(content)
        line = [
            "standardize",
            str(scans),
            str(tmp_path / "out"),
            "--series-list",
            str(tmp_path / "x.tsv"),
            "--index",
            "1",
        ]
        assert main([*line, "--model", model]) == 2
        assert "x.tsv" in capsys.readouterr().err and not (tmp_path / "out").exists()

    def test_an_index_beyond_it_is_refused(self, scans, listed, tmp_path, model, capsys):
        line = ["standardize", str(scans), str(tmp_path / "out"), "--model", model, "--series-list", str(listed)]
        assert main([*line, "--index", "4"]) == 2
        assert "`index` must be between 1 and 3" in capsys.readouterr().err
        assert main([*line, "--index", "3", "--chunk", "2"]) == 2
        assert "`index` must be between 1 and 2" in capsys.readouterr().err
        assert main(line) == 2


class TestJobs:
    def test_in_any_order_write_the_bytes_and_the_report_of_one_run(self, scans, listed, whole, tmp_path, model):
        out = tmp_path / "out"
        for index in (3, 1, 2):
            standardize_listed(scans, out, listed, index, model=model)
        assert visible(out) == tree(whole)
        merged = merge_reports(out, scans)
        assert merged == json.loads((out / REPORT).read_text())
        assert timeless(merged) == timeless(json.loads((whole / REPORT).read_text()))

    def test_do_a_chunk_of_series_each(self, scans, listed, whole, tmp_path, model):
        shown = []
        report = standardize_listed(
            scans, tmp_path, listed, 1, 2, model=model, progress=lambda done, total: shown.append((done, total))
        )
        assert (report["written"], len(report["series"])) == (5, 2) and shown[-1] == (5, 5)
        assert standardize_listed(scans, tmp_path, listed, 2, 2, model=model)["written"] == 1
        assert visible(tmp_path) == tree(whole)

    def test_take_up_what_is_left_and_keep_its_estimate(self, scans, listed, whole, tmp_path, model):
        first = run_all(scans, tmp_path, listed, model)
        (tmp_path / "1/2.dcm").unlink()
        again = run_all(scans, tmp_path, listed, model)
        assert [item["written"] for item in first] == [3, 2, 1]
        assert [(item["written"], item["finished_before"]) for item in again] == [(1, 2), (0, 2), (0, 1)]
        assert [item["series"][0]["source"] for item in again] == [item["series"][0]["source"] for item in first]
        assert visible(tmp_path) == tree(whole)

    def test_two_of_one_series_exclude_each_other_and_others_go_on(self, scans, listed, tmp_path, model):
        held = tmp_path / SERIES_FOLDER / read_list(listed)[0].id
        with locked_folder(tmp_path, shared=True), locked_folder(held):
            with pytest.raises(BlockingIOError, match=BUSY):
                standardize_listed(scans, tmp_path, listed, 1, model=model)
            assert standardize_listed(scans, tmp_path, listed, 2, model=model)["written"] == 2
            with pytest.raises(BlockingIOError, match=BUSY):
                standardize_folder(scans, tmp_path, model=model)
            with pytest.raises(BlockingIOError, match=BUSY):
                merge_reports(tmp_path)
        with locked_folder(tmp_path), pytest.raises(BlockingIOError, match=BUSY):
            standardize_listed(scans, tmp_path, listed, 1, model=model)

    def test_at_once_write_the_same(self, scans, listed, whole, tmp_path, model):
        context = multiprocessing.get_context("spawn")
        jobs = [
            context.Process(target=standardize_listed, args=(scans, tmp_path, listed, index), kwargs={"model": model})
            for index in (1, 2)
        ]
        for job in jobs:
            job.start()
        for job in jobs:
            job.join()
        assert [job.exitcode for job in jobs] == [0, 0]
        assert visible(tmp_path).items() <= tree(whole).items() and len(visible(tmp_path)) == 5

    def test_a_series_that_is_gone_is_named(self, scans, listed, tmp_path, model):
        shutil.copytree(scans, tmp_path / "in")
        shutil.copy(scans / "1/1.dcm", tmp_path / "in/3/1.dcm")
        with pytest.raises(FileNotFoundError, match="does not hold the series"):
            standardize_listed(tmp_path / "in", tmp_path / "out", listed, 3, model=model)

    def test_write_the_pages_of_one_run(self, scans, listed, tmp_path, model):
        standardize_folder(scans, tmp_path / "whole", model=model, page=True)
        run_all(scans, tmp_path / "out", listed, model, page=True)
        assert visible(tmp_path / "out") == tree(tmp_path / "whole")
        assert len(list((tmp_path / "out").glob("page_*.html"))) == 3

    def test_leave_out_a_mask_as_one_run_does(self, tmp_path, model, capsys):
        folder = tmp_path / "in"
        folder.mkdir()
        for name, voxels in (("ct", volume_of(phantom())), ("mask", (volume_of(phantom()) > 0).astype("<i2"))):
            (folder / f"{name}.nii").write_bytes(nifti(voxels, affine_ras()))
        whole = standardize_folder(folder, tmp_path / "whole", model=model)
        assert main(["plan", str(folder)]) == 0
        (tmp_path / "series.tsv").write_text(capsys.readouterr().out)
        reports = run_all(folder, tmp_path / "out", tmp_path / "series.tsv", model)
        assert [item["failures"] for item in reports] == [0, 0]
        assert timeless(merge_reports(tmp_path / "out", folder)) == timeless(whole)
        assert timeless(merge_reports(tmp_path / "out")) == timeless(whole)


class TestMerge:
    def test_says_what_no_job_has_begun(self, scans, listed, tmp_path, model, capsys):
        standardize_listed(scans, tmp_path, listed, 1, model=model)
        assert main(["merge", str(tmp_path), "--input", str(scans)]) == 1
        said = capsys.readouterr()
        assert "2 of 3 series were not begun" in said.err and "3 of 6 slices" in said.out

    def test_says_what_was_removed_since_and_what_else_there_is(self, scans, listed, tmp_path, model):
        run_all(scans, tmp_path, listed, model)
        (tmp_path / "1/2.dcm").unlink()
        (tmp_path / "mine.txt").write_text("mine")
        report = merge_reports(tmp_path, scans)
        assert [item["path"] for item in report["lost"]] == [os.path.join("1", "2.dcm")]
        assert (report["failures"], report["others"]) == (2, ["mine.txt"])

    def test_of_different_options_is_refused(self, scans, listed, tmp_path, model, capsys):
        standardize_listed(scans, tmp_path, listed, 1, model=model)
        standardize_listed(scans, tmp_path, listed, 2, model=model, seed=1)
        assert main(["merge", str(tmp_path)]) == 1
        assert "not standardized alike: `options`" in capsys.readouterr().err

    def test_without_any_job_is_refused(self, tmp_path, capsys):
        assert main(["merge", str(tmp_path)]) == 1
        assert "holds no report of a series" in capsys.readouterr().err

    def test_a_later_run_over_all_finds_it_finished(self, scans, listed, tmp_path, model):
        run_all(scans, tmp_path, listed, model)
        merge_reports(tmp_path, scans)
        report = standardize_folder(scans, tmp_path, model=model)
        assert (report["written"], report["finished_before"], report["others"]) == (0, 6, [])


class TestBytes:
    """Of a slice: they hang on its series' estimate alone."""

    def test_do_not_depend_on_the_neighbours_that_are_there(self, scans, whole, tmp_path, model):
        parts = [(1,), (2,), (3,), (1, 3), (2, 3)]
        for part in parts:
            late = tmp_path / f"late {part}"
            late.mkdir()
            for number in part:
                shutil.copy(scans / f"1/{number}.dcm", late)
            out = tmp_path / f"out {part}"
            standardize_folder(late, out, model=model, known_source=whole / REPORT)
            assert tree(out) == {f"{number}.dcm": tree(whole)[f"1/{number}.dcm"] for number in part}

    def test_do_not_depend_on_the_number_of_cores(self, tmp_path):
        """With the embedded checkpoint and a whole slice, whose sums are long enough to differ on one thread and on two."""
        y, x = np.mgrid[:512, :512]
        body = np.where(np.hypot(y - 256, x - 256) < 200, 40.0, -1000.0)
        hu = (body + np.random.default_rng(0).normal(0, 20, body.shape)).round()
        scans = write_scans(tmp_path / "in", ((1, 1),), hu=hu)
        code = "import sys; from diffusionct_pipeline.commands._main import main; sys.exit(main())"
        for threads in ("1", "2"):
            names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
            environment = {**os.environ, **dict.fromkeys(names, threads), "PYTHONPATH": str(Path(__file__).parents[2])}
            line = [sys.executable, "-c", code, "standardize", scans, tmp_path / threads, "--device", "cpu"]
            done = subprocess.run(line, env=environment, capture_output=True, text=True)
            assert done.returncode in (0, 3), done.stderr
        assert tree(tmp_path / "1") == tree(tmp_path / "2") != {}
        one, two = (json.loads((tmp_path / threads / REPORT).read_text())["series"][0] for threads in "12")
        assert one["source"] is not None and one["source"] == two["source"], "to the last bit"
