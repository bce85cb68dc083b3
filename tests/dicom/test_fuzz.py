"""Thousands of damaged files: each is refused by name, or has the HU that pydicom gives it."""

import logging

import numpy as np
import pytest
from helpers import fuzz

FEW, MANY, PORTION = 500, 10_000, 500


@pytest.fixture(scope="module")
def files():
    return fuzz.corpus()


def check(files, numbers, folder):
    counts, wrong = fuzz.run(files, numbers, folder)
    assert wrong == []
    # Neither is the damage so great that all are refused, nor so small that all are read.
    assert counts["equal"] > 0.3 * len(numbers) and counts["refused"] > 0.3 * len(numbers)
    assert counts["alone"] < 0.03 * len(numbers)


def test_500_damaged_files(files, tmp_path, caplog):
    caplog.set_level(logging.CRITICAL)
    check(files, range(FEW), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(FEW, FEW + MANY, PORTION))
def test_10000_more(files, first, tmp_path, caplog):
    caplog.set_level(logging.CRITICAL)
    check(files, range(first, first + PORTION), tmp_path)


class TestTheMutator:
    """The tests above must not pass because nothing is damaged or nothing is compared."""

    def test_whole_files_are_equal(self, files, tmp_path):
        for name, data in files:
            path = tmp_path / "whole.dcm"
            path.write_bytes(data)
            accepted = fuzz.verdict(path)
            assert accepted == "equal", (name, accepted)

    def test_the_same_number_is_the_same_file(self, files):
        assert [fuzz.damaged(files, n) for n in range(40)] == [fuzz.damaged(files, n) for n in range(40)]

    @pytest.mark.parametrize("mutation", fuzz.MUTATIONS, ids=lambda mutation: mutation.__name__)
    def test_each_kind_changes_files(self, mutation, files):
        changed = [mutation(data, np.random.default_rng(n)) != data for _, data in files for n in range(8)]
        assert sum(changed) > len(changed) / 4

    def test_other_hu_are_noticed(self, files, tmp_path, monkeypatch):
        path = tmp_path / "whole.dcm"
        path.write_bytes(files[0][1])
        read = fuzz.read_slice
        monkeypatch.setattr(fuzz, "independent_hu", lambda path: read(path).hu + 1.0)
        assert fuzz.verdict(path) == "other HU than pydicom's"
        monkeypatch.setattr(fuzz, "read_slice", lambda path: {}["x"])
        assert fuzz.verdict(path) == "KeyError: 'x'"
