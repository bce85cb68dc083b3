"""Agreement of features against published tables and its own definitions; intervals by patient; what is told apart."""

import numpy as np
import pytest

from diffusionct_pipeline.cohort import icc, robustness, tell_apart
from diffusionct_pipeline.evaluation import ccc
from diffusionct_pipeline.metrics.combat import ReferenceComBat

# Six subjects and four judges: Shrout and Fleiss, Psychological Bulletin 86, 1979, Table 2.
RATINGS = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]


def cohort(patients=12, features=4, seed=0, noise=0.5, shift=1.0):
    generator = np.random.default_rng(seed)
    target = generator.normal(10, 2, (patients, features))
    return target + shift + generator.normal(0, noise, target.shape), target


class TestICC:
    def test_of_the_published_table(self):
        found = icc(RATINGS)
        assert found["icc_a1"][0] == pytest.approx(0.2898, abs=5e-5)  # ICC(2,1) = .29
        assert found["icc_c1"][0] == pytest.approx(0.7148, abs=5e-5)  # ICC(3,1) = .71
        # Intervals of McGraw and Wong: .019 to .761 and .342 to .946.
        assert found["icc_a1"][1:] == pytest.approx((0.0188, 0.7611), abs=5e-4)
        assert found["icc_c1"][1:] == pytest.approx((0.3425, 0.9459), abs=5e-4)

    def test_a_table_of_features_has_that_of_each(self):
        source, target = cohort()
        rows = robustness(source, target, list("abcd"), range(12), resamples=10)
        for k in range(4):
            expected = icc(np.stack([source[:, k], target[:, k]], axis=1))
            for name in ("icc_a1", "icc_c1"):
                assert rows.values[name][k] == pytest.approx(expected[name][0], rel=1e-9)

    def test_identity_is_one_and_a_shift_is_consistent(self):
        x = np.arange(6.0)
        assert icc(np.stack([x, x], 1))["icc_a1"] == (1, 1, 1)
        shifted = icc(np.stack([x, x + 3], 1))
        assert shifted["icc_c1"][0] == pytest.approx(1) and shifted["icc_a1"][0] < 0.5

    def test_gaps_are_refused(self):
        with pytest.raises(ValueError, match="`ratings` must be finite"):
            icc([[1, np.nan], [2, 3]])


class TestRobustness:
    def test_values_are_those_of_their_definitions(self):
        source, target = cohort()
        rows = robustness(source, target, list("abcd"), range(12), resamples=50)
        np.testing.assert_allclose(rows.values["ccc"], ccc(source, target))
        np.testing.assert_allclose(rows.bias, (source - target).mean(0))
        np.testing.assert_allclose(rows.limits[1] - rows.bias, 1.96 * (source - target).std(0, ddof=1))
        assert (rows.pairs == 12).all() and (rows.patients == 12).all()
        for name in rows.values:
            assert (rows.low[name] <= rows.values[name]).all() and (rows.values[name] <= rows.high[name]).all()

    def test_undefined_pairs_are_left_out_and_counted(self):
        source, target = cohort()
        source[:3, 0] = np.nan
        source[:7, 1] = np.nan
        rows = robustness(source, target, list("abcd"), range(12), resamples=10)
        assert rows.pairs.tolist() == [9, 5, 12, 12]
        assert rows.values["ccc"][0] == pytest.approx(ccc(source[3:, 0], target[3:, 0]))
        assert np.isnan(rows.values["icc_a1"]).tolist() == [False, True, False, False]
        assert rows.bias[1] == pytest.approx((source - target)[7:, 1].mean())

    def test_regions_of_a_patient_are_resampled_together(self):
        source, target = cohort(patients=10)
        copies = [np.tile(part, (5, 1)) for part in (source, target)]
        one = robustness(source, target, list("abcd"), range(10), resamples=200)
        grouped = robustness(*copies, list("abcd"), np.tile(np.arange(10), 5), resamples=200)
        np.testing.assert_allclose(grouped.low["ccc"], one.low["ccc"])
        assert one.count("ccc", 0.75)[1] == grouped.count("ccc", 0.75)[1]

    def test_few_patients_have_no_intervals(self):
        source, target = cohort(patients=4)
        rows = robustness(source, target, list("abcd"), range(4))
        assert np.isnan(rows.low["ccc"]).all() and rows.count("ccc", 0.75)[1] is None

    def test_names_that_do_not_fit_are_refused(self):
        with pytest.raises(ValueError, match="a column for each of `names`"):
            robustness(*cohort(), ["a"], range(12))


class TestTelling:
    @pytest.fixture(autouse=True)
    def with_sklearn(self):
        pytest.importorskip("sklearn")

    def test_kinds_that_differ_are_told_and_equal_ones_are_not(self):
        generator = np.random.default_rng(1)
        patients, kinds = np.tile(np.arange(30), 2), ["soft"] * 30 + ["sharp"] * 30
        values = generator.normal(size=(60, 5))
        equal = tell_apart(values, kinds, patients)
        assert 0.3 < equal.accuracy < 0.7 and equal.kinds == {"sharp": 30, "soft": 30}
        values[30:, 2] += 5
        told = tell_apart(values, kinds, patients)
        assert told.accuracy > 0.95 and told.interval[0] > 0.8

    def test_a_patient_is_no_teacher_of_itself(self):
        """What is special about a patient, and not about a kind, tells nothing."""
        generator = np.random.default_rng(2)
        own = np.repeat(generator.normal(size=(8, 50)) * 10, 5, axis=0)
        kinds, patients = np.repeat(["a", "b"] * 4, 5), np.repeat(np.arange(8), 5)
        assert tell_apart(own + generator.normal(size=own.shape), kinds, patients).accuracy < 0.9

    def test_undefined_and_constant_features_are_left_out(self):
        values = np.random.default_rng(3).normal(size=(12, 4))
        values[:, 1], values[3, 2] = 7, np.nan
        assert tell_apart(values, ["a", "b"] * 6, range(12)).features == 2

    def test_too_few_patients_are_refused(self):
        with pytest.raises(ValueError, match="'a': 2"):
            tell_apart(np.ones((4, 2)), list("aabb"), range(4))


class TestReferenceComBat:
    def test_moves_the_batch_and_leaves_the_reference(self):
        generator = np.random.default_rng(4)
        reference = generator.normal(5, 1, (200, 30))
        batch = generator.normal(5, 1, (200, 30)) * 2 + 3 + generator.normal(0, 0.3, 30)
        moved = ReferenceComBat.fit(batch, reference).transform(batch)
        np.testing.assert_allclose(moved.mean(0), reference.mean(0), atol=0.1)
        np.testing.assert_allclose(moved.std(0), reference.std(0), rtol=0.1)

    def test_what_does_not_vary_is_refused(self):
        with pytest.raises(ValueError, match="`batch` must not have constant features"):
            ReferenceComBat.fit(np.ones((4, 3)), np.random.default_rng(0).normal(size=(4, 3)))
