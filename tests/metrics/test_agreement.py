import numpy as np
import pytest

from diffusionct_pipeline.metrics.agreement import (
    agreement_by_class,
    ccc,
    ccc_by_class,
    feature_ccc,
    relative_error,
    reproducible_fraction,
)
from diffusionct_pipeline.radiomics import feature_class, feature_names

NAMES = ("ID/GlobalMean", "ID/Variance", "GOH/Skewness", "GOH/Range", "GLCM25/Contrast/d=1/dir=0/bins=64")


def samples(n=12, features=len(NAMES), seed=0):  # noqa: B008
    rng = np.random.default_rng(seed)
    target = rng.normal(10, 3, (n, features))
    return target + rng.normal(0, 1, target.shape), target


class TestRelativeError:
    def test_divides_by_the_size_of_the_target(self):
        np.testing.assert_allclose(relative_error([11.0, -11.0, 9.0], [10.0, -10.0, 10.0]), 0.1)

    def test_is_undefined_for_a_target_of_zero_and_for_undefined_values(self):
        assert np.isnan(relative_error([0.0, 1.0, np.nan, 1.0], [0.0, 0.0, 1.0, np.nan])).all()

    def test_identity_is_zero(self):
        source, _ = samples()
        assert (relative_error(source, source) == 0).all()


class TestReproducibleFraction:
    def test_counts_what_lies_strictly_below(self):
        assert reproducible_fraction([1.0, 1.1, 1.25, 2.0], [1.0, 1.0, 1.0, 1.0], 0.25) == 0.5

    def test_undefined_features_are_not_reproducible(self):
        assert reproducible_fraction([1.0, np.nan, 0.0], [1.0, 1.0, 0.0]) == pytest.approx(1 / 3)

    def test_a_curve_rises_to_one(self):
        curve = reproducible_fraction(*samples(), np.linspace(0, 10, 50))
        assert curve[0] == 0 and curve[-1] == 1 and (np.diff(curve) >= 0).all()
        assert curve[5] == reproducible_fraction(*samples(), np.linspace(0, 10, 50)[5])


class TestCCC:
    def test_equals_lins_formula(self):
        x, y = (v[:, 0] for v in samples())
        covariance = np.mean((x - x.mean()) * (y - y.mean()))
        assert ccc(x, y) == pytest.approx(2 * covariance / (x.var() + y.var() + (x.mean() - y.mean()) ** 2), rel=1e-12)

    def test_identity_is_one_and_mirror_is_minus_one(self):
        x, _ = samples()
        assert (ccc(x, x) == 1).all()
        np.testing.assert_allclose(ccc(x, 2 * x.mean(0) - x), -1)

    def test_is_symmetric_and_ignores_common_scale_and_offset(self):
        x, y = samples()
        np.testing.assert_allclose(ccc(y, x), ccc(x, y), rtol=1e-12)
        np.testing.assert_allclose(ccc(1e6 + 3 * x, 1e6 + 3 * y), ccc(x, y), rtol=1e-6)

    def test_punishes_bias_that_correlation_does_not_see(self):
        x, _ = samples()
        assert (ccc(x + 5, x) < 0.6).all()

    def test_undefined_pairs_are_left_out(self):
        x, y = samples()
        holed = x.copy()
        holed[3, 0] = np.nan
        assert ccc(holed, y)[0] == pytest.approx(ccc(np.delete(x, 3, 0), np.delete(y, 3, 0))[0])
        np.testing.assert_array_equal(ccc(holed, y)[1:], ccc(x, y)[1:])

    def test_constant_and_single_samples_are_undefined(self):
        assert np.isnan(ccc([0.1, 0.1, 0.1], [0.1, 0.1, 0.1]))
        assert np.isnan(ccc([1.0], [1.0]))
        assert np.isnan(ccc([1.0, np.nan], [1.0, 2.0]))
        assert ccc([1.0, 1.0], [1.0, 2.0]) == 0

    def test_different_shapes_are_refused(self):
        with pytest.raises(ValueError, match=r"\(12, 5\) and \(12, 4\)"):
            ccc(np.zeros((12, 5)), np.zeros((12, 4)))


class TestByClass:
    def test_both_readings(self):
        source, target = samples()
        rows = ccc_by_class(source, target, NAMES)
        assert list(rows) == ["GOH", "GLCM", "ID"]
        mean, std, pooled = rows["ID"]
        each = ccc(source[:, :2], target[:, :2])
        assert (mean, std) == pytest.approx((each.mean(), each.std()))
        assert pooled == pytest.approx(ccc(source[:, :2].ravel(), target[:, :2].ravel()))

    def test_identity(self):
        _, target = samples()
        for row in agreement_by_class(target, target, NAMES).values():
            assert (row.ccc_mean, row.ccc_std, row.ccc_pooled) == (1, 0, 1)
            assert row.reproducible == row.features

    def test_counts_of_the_undefined(self):
        source, target = samples()
        source[:, 2] = np.nan
        target[0, 3] = 0
        row = agreement_by_class(source, target, NAMES)["GOH"]
        assert (row.features, row.undefined_features) == (2, 1)
        assert row.undefined_pairs == 0.5
        assert row.zero_targets == pytest.approx(1 / 24)
        assert row.ccc_mean == pytest.approx(ccc(source[:, 3], target[:, 3]))

    def test_a_feature_that_is_defined_in_few_pairs_has_no_concordance(self):
        source, target = samples()
        source[:7, 2] = np.nan  # 5 of 12 are left
        source[:6, 3] = np.nan  # 6 are
        assert np.isnan(feature_ccc(source, target)).tolist() == [False, False, True, False, False]
        row = agreement_by_class(source, target, NAMES)["GOH"]
        assert row.undefined_features == 1
        assert row.ccc_mean == pytest.approx(ccc(source[:, 3], target[:, 3]))

    def test_only_what_has_a_relative_error_is_attainable(self):
        source, target = samples()
        source[:6, 0] = np.nan
        target[:3, 1] = 0
        rows = agreement_by_class(source, target, NAMES)
        assert (rows["ID"].attainable, rows["all"].attainable) == (0.5 + 0.75, 4.25)

    def test_counts_over_all_features_add_up(self):
        rows = agreement_by_class(*samples(), NAMES)
        total = rows.pop("all")
        assert total.features == len(NAMES)
        assert total.reproducible == pytest.approx(sum(r.reproducible for r in rows.values()))
        assert total.reproducible == pytest.approx(len(NAMES) * reproducible_fraction(*samples()))

    def test_all_1401(self):
        source, target = samples(features=1401)
        rows = agreement_by_class(source, target, feature_names())
        counts = {name: row.features for name, row in rows.items()}
        assert counts == {"GOH": 26, "GLCM": 1254, "GLRLM": 33, "ID": 47, "IH": 31, "NID": 10, "all": 1401}
        assert feature_class(feature_names()[0]) == "GLCM"

    def test_names_that_do_not_fit_are_refused(self):
        with pytest.raises(ValueError, match="one column per name"):
            agreement_by_class(*samples(), NAMES[:3])


class TestBootstrap:
    def test_interval_holds_the_estimate_and_is_repeatable(self):
        source, target = samples(n=30)
        row = agreement_by_class(source, target, NAMES, resamples=300)["ID"]
        assert row.ccc_mean_interval[0] < row.ccc_mean < row.ccc_mean_interval[1]
        assert row.ccc_pooled_interval[0] < row.ccc_pooled < row.ccc_pooled_interval[1]
        assert row.reproducible_interval[0] <= row.reproducible <= row.reproducible_interval[1]
        assert row == agreement_by_class(source, target, NAMES, resamples=300)["ID"]
        assert row != agreement_by_class(source, target, NAMES, resamples=300, seed=1)["ID"]

    def test_without_resamples_there_is_none(self):
        assert agreement_by_class(*samples(), NAMES)["ID"].ccc_mean_interval is None

    def test_copies_of_a_tumour_do_not_narrow_the_interval(self):
        source, target = samples(n=10)
        copies = [np.tile(v, (5, 1)) for v in (source, target)]
        tumours = np.tile(np.arange(10), 5)
        one = agreement_by_class(source, target, NAMES, resamples=200)["ID"].ccc_mean_interval
        grouped = agreement_by_class(*copies, NAMES, resamples=200, tumours=tumours)["ID"].ccc_mean_interval
        naive = agreement_by_class(*copies, NAMES, resamples=200)["ID"].ccc_mean_interval
        assert grouped == pytest.approx(one)
        assert naive[1] - naive[0] < 0.7 * (one[1] - one[0])

    def test_labels_that_do_not_fit_are_refused(self):
        with pytest.raises(ValueError, match="`tumours` must have one label .*, got 2"):
            agreement_by_class(*samples(), NAMES, tumours=[0, 1])
