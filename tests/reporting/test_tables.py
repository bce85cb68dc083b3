import csv
import io

import numpy as np
import pytest

from diffusionct_pipeline.evaluation import Table, agreement_by_class, class_table, table1
from diffusionct_pipeline.radiomics import feature_names


@pytest.fixture(scope="module")
def systems():
    rng = np.random.default_rng(0)
    target = rng.normal(10, 3, (8, 1401))
    noisy = {name: target + rng.normal(0, std, target.shape) for name, std in (("Input", 3.0), ("Filter_1", 0.5))}
    return {n: agreement_by_class(v, target, feature_names(), resamples=20) for n, v in noisy.items()}


def test_csv_reads_back(systems):
    table = table1(systems)
    columns, *rows = csv.reader(io.StringIO(table.csv()))
    assert tuple(columns) == table.columns
    assert tuple(map(tuple, rows)) == table.rows


def test_table1_gives_ours_first_then_the_papers(systems):
    rows = {row[0]: dict(zip(table1(systems).columns, row)) for row in table1(systems).rows}
    assert list(rows)[:2] == ["Input", "Filter_1"]
    paper = rows["DiffusionCT (published, other data)"]
    assert (paper["ID"], paper["IH"], paper["gain over input"]) == ("0.89", "0.41", "+64%")
    assert not any("published" in row[0] for row in table1(systems, published=False).rows)


def test_gain_refers_to_the_input(systems):
    rows = {row[0]: dict(zip(table1(systems).columns, row)) for row in table1(systems).rows}
    expected = systems["Filter_1"]["all"].reproducible / systems["Input"]["all"].reproducible - 1
    assert rows["Filter_1"]["gain over input"] == f"{expected:+.0%}"
    assert rows["Input"]["gain over input"] == "–"


def test_both_readings_are_named_and_differ(systems):
    per_feature, pooled = table1(systems), table1(systems, pooled=True)
    assert "per feature" in per_feature.title and "one pool" in pooled.title
    assert "±" in per_feature.rows[0][1] and "±" not in pooled.rows[0][1]
    assert f"{systems['Input']['GOH'].ccc_pooled:.2f}" in pooled.rows[0][1]


def test_class_table_has_a_row_per_class_and_one_for_all(systems):
    table = class_table(systems["Input"], "Input against the standard")
    assert [row[0] for row in table.rows] == ["GOH", "GLCM", "GLRLM", "ID", "IH", "NID", "all"]
    assert [row[1] for row in table.rows] == ["26", "1254", "33", "47", "31", "10", "1401"]


def test_markdown_and_latex_have_every_row(systems):
    table = table1(systems)
    lines = table.markdown().splitlines()
    assert len([line for line in lines if line.startswith("|")]) == 2 + len(table.rows)
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
    latex = table.latex()
    assert latex.count(r"\\") == 1 + len(table.rows)
    assert r"Filter\_1" in latex and r"+64\%" in latex and "±" not in latex


def test_files_are_written_whole(systems, tmp_path):
    paths = table1(systems).write(tmp_path, "table1")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["table1.csv", "table1.md", "table1.tex"]
    assert paths[1].read_text(encoding="utf-8") == table1(systems).markdown()


def test_a_short_row_is_refused():
    with pytest.raises(ValueError, match="must have 2 cells, one per column, got 1"):
        Table("t", ("a", "b"), (("1",),))
