"""The measured tables of the pages say what the record of the embedded checkpoint says."""

import copy
import json
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "benchmarks/results.py"
RESULTS = runpy.run_path(str(SCRIPT))
RECORD = json.loads(RESULTS["RECORD"].read_text())


def run(monkeypatch, *arguments):
    """Run the script; its exit code."""
    monkeypatch.setattr(sys, "argv", ["results.py", *map(str, arguments)])
    with pytest.raises(SystemExit) as done:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    return int(done.value.code)


def test_the_pages_are_up_to_date(monkeypatch, capsys):
    """If not: `make results`."""
    assert run(monkeypatch, "--check") == 0, capsys.readouterr().out


def test_every_score_of_the_record_has_a_table():
    assert [name for name in RECORD["scores"] if not RESULTS["is_shown"](name)] == []


def test_every_table_stands_on_a_page():
    text = "".join(page.read_text() for page in RESULTS["PAGES"])
    assert [name for name in RESULTS["TABLES"] if text.count(f"<!-- measured: {name} -->") != 1] == []


def test_the_readme_shows_three_real_scans_and_then_the_simulated_ones():
    header, rule, *rows = RESULTS["readme_rows"](RECORD).splitlines()
    assert len(rows) == 4 and "simulated" in rows[-1] and not any("simulated" in row for row in rows[:3])


def test_another_record_changes_the_page(tmp_path, monkeypatch):
    record = copy.deepcopy(RECORD)
    scan = next(iter(record["scores"]["two_reconstructions_to_Bl64"].values()))
    scan["mean"]["standardized"] = [0.123, 0.0449]
    (tmp_path / "metrics.json").write_text(json.dumps(record))
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- measured: readme rows -->\nold\n<!-- end -->\nafter\n")
    arguments = ("--record", tmp_path / "metrics.json", "--pages", page)
    assert run(monkeypatch, "--check", *arguments) == 1 and "old" in page.read_text()
    assert run(monkeypatch, *arguments) == 0
    text = page.read_text()
    assert "12 %, .04" in text and "old" not in text and text.startswith("before\n") and text.endswith("after\n")
    assert run(monkeypatch, "--check", *arguments) == 0


def test_a_table_that_there_is_not_is_refused():
    with pytest.raises(KeyError):
        RESULTS["filled"]("<!-- measured: nothing -->\n<!-- end -->", RECORD)


@pytest.mark.parametrize(("value", "text"), [(0.931, ".93"), (0.999, "1.00"), (-0.041, "-.04"), (0.0, ".00")])
def test_numbers_are_written_as_in_the_trade(value, text):
    assert RESULTS["short"](value) == text
