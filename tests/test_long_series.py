"""A series of a thousand slices: memory and open files do not grow with it, nor does the log."""

import json
import subprocess
import sys

import pytest
from helpers.runs import REPORT, tree, write_scans
from helpers.tiny import tiny_pipeline

SLICES = 1000
GROWTH_MB = 10.0  # between slice 200 and the last; HU and cells of 800 slices of 48 x 64, if kept, would take 20 MB

MEASURED = """
import gc, json, sys
import psutil
from diffusionct_pipeline.commands import _main as cli
from diffusionct_pipeline.commands._shared import ProgressBar

process, seen = psutil.Process(), {}

def call(bar, done, total, original=ProgressBar.__call__):
    original(bar, done, total)
    if done in (200, total):
        gc.collect()
        seen[done] = (process.memory_info().rss / 2**20, process.num_fds())

ProgressBar.__call__ = call
code = cli.main()
with open(sys.argv[3] + ".json", "w") as file:
    json.dump(seen, file)
sys.exit(code)
"""


@pytest.mark.slow
def test_a_thousand_slices_take_the_memory_of_two_hundred(tmp_path):
    tiny_pipeline().save_pretrained(tmp_path / "model")
    scans = write_scans(tmp_path / "in", [(1, number) for number in range(1, SLICES + 1)])
    sizes = []
    command = [sys.executable, "-c", MEASURED, "standardize", scans, tmp_path / "out", "--model", tmp_path / "model"]
    for _ in range(2):  # all made, then all found finished
        with open(tmp_path / "log", "wb") as log:
            assert subprocess.run(command, stdout=log, stderr=subprocess.STDOUT).returncode == 0
        seen = json.loads((tmp_path / "out.json").read_text())
        (before, files), (after, files_after) = seen["200"], seen[str(SLICES)]
        assert after - before < GROWTH_MB, seen
        assert files_after == files, seen
        sizes.append((tmp_path / "log").stat().st_size)
    report = json.loads((tmp_path / "out" / REPORT).read_text())
    assert (report["written"], report["finished_before"]) == (0, SLICES) and len(tree(tmp_path / "out")) == SLICES
    assert max(sizes) < 1000, "bytes of a log"
