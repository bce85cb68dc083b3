"""Intervals over samples hold a further draw as often as they say, and what is undefined stays so."""

import numpy as np
import pytest

from diffusionct_pipeline.evaluation import coverage_by_class, sample_intervals
from diffusionct_pipeline.metrics.uncertainty import covers, fewest_samples, needed_widening, relative_width
from diffusionct_pipeline.radiomics import FEATURE_CLASSES, feature_names


class TestSampleIntervals:
    @pytest.mark.parametrize("count", [20, 50])
    @pytest.mark.parametrize("draw", ["uniform", "normal", "exponential"])
    def test_hold_a_further_draw_in_9_of_10(self, draw, count):
        values = getattr(np.random.default_rng(0), draw)(size=(count + 1, 20_000))
        low, high = sample_intervals(values[1:])
        assert covers(low, high, values[0]).mean() == pytest.approx(0.9, abs=0.012)  # 3 standard errors are 0.006

    def test_hold_less_where_the_truth_lies_elsewhere(self):
        values = np.random.default_rng(0).normal(size=(20, 5_000))
        assert covers(*sample_intervals(values), 3.0).mean() < 0.1

    def test_are_at_the_ranks_of_weibull(self):
        low, high = sample_intervals(np.arange(1.0, 21)[::-1])
        assert (low, high) == (pytest.approx(1.05), pytest.approx(19.95))

    def test_an_undefined_sample_leaves_none(self):
        values = np.ones((20, 2))
        values[7, 1] = np.nan
        low, high = sample_intervals(values)
        assert (low[0], high[0]) == (1, 1) and np.isnan([low[1], high[1]]).all()

    def test_too_few_samples_are_refused(self):
        assert (fewest_samples(), fewest_samples(0.5)) == (20, 4)
        with pytest.raises(ValueError, match="intervals of 90% need at least 20 samples, got 19"):
            sample_intervals(np.zeros((19, 3)))

    def test_no_end_lies_below_the_least_value(self):
        values = np.arange(1.0, 22)[:, None] * [1, 1]
        low, high = sample_intervals(values, widening=3, least=[0, -np.inf])
        assert low[0] == 0 and low[1] < 0 and high[0] == high[1]


class TestWidening:
    def test_moves_both_ends_away_from_the_median(self):
        values = np.exp(np.random.default_rng(0).normal(size=(21, 4)))
        (low, high), (lower, higher) = sample_intervals(values), sample_intervals(values, widening=3)
        middle = np.median(values, 0)
        np.testing.assert_allclose((middle - lower, higher - middle), (3 * (middle - low), 3 * (high - middle)))

    def test_what_is_needed_just_holds_the_truth(self):
        draw = np.random.default_rng(1)
        values, truth = draw.normal(size=(20, 500)), draw.normal(size=500) * 4
        needed = needed_widening(values, truth)
        widest = np.quantile(needed, 0.9)
        assert covers(*sample_intervals(values), truth).mean() == (needed <= 1).mean() < 0.5
        assert covers(*sample_intervals(values, widening=widest), truth).mean() == pytest.approx(0.9, abs=0.005)

    def test_without_any_spread_nothing_or_infinity(self):
        np.testing.assert_array_equal(needed_widening(np.ones((20, 2)), [1.0, 2.0]), [0, np.inf])


class TestCovers:
    def test_ends_and_rounding_are_inside(self):
        assert covers([1, 1, 1], [2, 2, 2], [1, 2, 2 + 1e-13]).all()
        assert not covers([1, 1, np.nan, 1], [2, 2, 2, 2], [0.99, 2.01, 1.5, np.nan]).any()


class TestRelativeWidth:
    def test_refers_to_the_size_of_the_truth(self):
        np.testing.assert_allclose(relative_width([1, -3], [2, -1], [-4, 4]), [0.25, 0.5])
        assert np.isnan(relative_width(1, 2, 0))


class TestCoverageByClass:
    def test_counts_by_class(self):
        names = feature_names()
        low, high, truth = np.full((3, 2, len(names)), 1.0)
        high[:] = 2
        truth[0] = 5  # one of two tumours outside
        truth[1, 0] = np.nan
        result = coverage_by_class(low, high, truth, names)
        assert list(result) == [*FEATURE_CLASSES, "all"]
        total = result["all"]
        assert (total.features, total.pairs) == (1401, 2801)
        assert total.covered == pytest.approx(1400 / 2801) and total.undefined == pytest.approx(1 / 2802)
        assert total.median_width == pytest.approx(0.2)
        assert sum(row.pairs for name, row in result.items() if name != "all") == 2801

    def test_without_a_pair_there_is_no_share(self):
        row = coverage_by_class(np.full((1, 1401), np.nan), np.ones((1, 1401)), np.ones((1, 1401)), feature_names())
        assert row["all"].pairs == 0 and np.isnan([row["all"].covered, row["all"].median_width]).all()

    def test_shapes_must_fit(self):
        with pytest.raises(ValueError, match=r"\(2, 3\)"):
            coverage_by_class(np.ones((2, 3)), np.ones((2, 3)), np.ones((2, 4)), feature_names())
