"""Reading and writing go on while the networks work, one batch ahead and one behind, and nobody can tell by the result."""

import json
import os
import signal
import threading
import time

import pytest
from helpers.runs import REPORT, tree, write_scans
from helpers.tiny import tiny_pipeline

from diffusionct_pipeline import standardize_folder as module
from diffusionct_pipeline.image_processor import CTImageProcessor
from diffusionct_pipeline.standardize_folder import standardize_folder

SECONDS = 30.0  # that one side waits for the other: where nothing overlaps it never comes
COUNT = 5


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    tiny_pipeline().save_pretrained(folder)
    return str(folder)


@pytest.fixture
def scans(tmp_path):
    return write_scans(tmp_path / "in", [(1, number) for number in range(1, COUNT + 1)])


def meet(barrier, original, at):
    """`original`, whose calls numbered `at` wait for somebody else at a barrier."""
    calls = []

    def call(*arguments):
        calls.append(None)
        if len(calls) in at:
            barrier.wait(SECONDS)
        return original(*arguments)

    return call


class TestOverlap:
    def test_a_slice_is_written_while_the_next_is_made(self, scans, tmp_path, model, monkeypatch):
        standardize_folder(scans, tmp_path / "serial", model=model)
        barrier = threading.Barrier(2)
        last_has_no_next = range(1, COUNT)
        monkeypatch.setattr(module, "write_result", meet(barrier, module.write_result, last_has_no_next))
        made = meet(barrier, module.standardize_slices, range(2, COUNT + 1))
        monkeypatch.setattr(module, "standardize_slices", made)
        report = standardize_folder(scans, tmp_path / "out", model=model)
        assert (report["written"], report["failures"]) == (COUNT, 0)
        assert tree(tmp_path / "out") == tree(tmp_path / "serial")

    def test_a_slice_is_read_while_the_one_before_is_made(self, scans, tmp_path, model, monkeypatch):
        barrier = threading.Barrier(2)
        load = meet(barrier, CTImageProcessor.load, range(2, COUNT + 1))
        monkeypatch.setattr(CTImageProcessor, "load", lambda *arguments: load(*arguments))
        made = meet(barrier, module.standardize_slices, range(1, COUNT))
        monkeypatch.setattr(module, "standardize_slices", made)
        report = standardize_folder(scans, tmp_path / "out", model=model, batch_size=1)
        assert (report["written"], report["failures"]) == (COUNT, 0)

    def test_no_more_than_one_batch_waits_on_either_side(self, scans, tmp_path, model, monkeypatch):
        counts = {"read": 0, "made": 0, "written": 0}
        ahead, behind = [], []

        def counted(name, original):
            def call(*arguments):
                result = original(*arguments)
                counts[name] += 1
                ahead.append(counts["read"] - counts["made"])
                behind.append(counts["made"] - counts["written"])
                return result

            return call

        def write_slowly(*arguments, original=module.write_result):
            time.sleep(0.3)  # the networks would be far ahead
            return original(*arguments)

        monkeypatch.setattr(CTImageProcessor, "load", counted("read", CTImageProcessor.load))
        monkeypatch.setattr(module, "standardize_slices", counted("made", module.standardize_slices))
        monkeypatch.setattr(module, "write_result", counted("written", write_slowly))
        standardize_folder(scans, tmp_path / "out", model=model, batch_size=1)
        assert max(ahead) <= 2 and max(behind) <= 2


class TestWhatGoesWrong:
    def test_is_listed_in_the_order_of_the_slices(self, scans, tmp_path, model, monkeypatch):
        """The second slice cannot be written, which is known after the third could not be read."""
        (scans / "1/3.dcm").write_bytes((scans / "1/3.dcm").read_bytes()[:-1000])

        def write_result(job, hu_slice, *arguments, original=module.write_result):
            if hu_slice.source.path.name == "2.dcm":
                time.sleep(0.2)
                raise ValueError("no")
            return original(job, hu_slice, *arguments)

        monkeypatch.setattr(module, "write_result", write_result)
        report = standardize_folder(scans, tmp_path / "out", model=model, batch_size=1)
        failures = [os.path.basename(failure["path"]) for failure in report["series"][0]["failures"]]
        assert (failures, report["written"]) == (["2.dcm", "3.dcm"], COUNT - 2)

    def test_an_interruption_waits_for_the_file_that_is_being_written_and_counts_it(
        self, scans, tmp_path, model, monkeypatch
    ):
        def write_result(job, hu_slice, *arguments, original=module.write_result):
            if hu_slice.source.path.name == "2.dcm":
                time.sleep(0.1)
                os.kill(os.getpid(), signal.SIGINT)  # reaches the main thread, as Ctrl-C does
                time.sleep(0.2)
            return original(job, hu_slice, *arguments)

        monkeypatch.setattr(module, "write_result", write_result)
        threads = threading.active_count()
        with pytest.raises(KeyboardInterrupt):
            standardize_folder(scans, tmp_path / "out", model=model)
        assert set(tree(tmp_path / "out")) == {os.path.join("1", "1.dcm"), os.path.join("1", "2.dcm")}
        report = json.loads((tmp_path / "out" / REPORT).read_text())
        assert (report["stopped"], report["written"]) == ("interrupted", 2)
        assert threading.active_count() == threads
