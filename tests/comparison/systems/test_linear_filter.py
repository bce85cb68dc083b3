import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from diffusionct_pipeline.comparison.systems import LinearFilter


@pytest.fixture
def pair():
    target = np.random.default_rng(0).normal(0, 50, (96, 96))
    return gaussian_filter(target, 0.8, mode="mirror"), target, 0.7


@pytest.mark.parametrize("fit", ["least_squares", "power"])
class TestLinearFilter:
    def test_undoes_a_linear_blur(self, pair, fit):
        source, target, spacing_mm = pair
        restored = LinearFilter(fit).fit([pair]).standardize(source, spacing_mm)
        assert np.abs(restored - target).mean() < 0.2 * np.abs(source - target).mean()

    def test_fitted_on_equal_images_changes_nothing(self, pair, fit):
        _, target, spacing_mm = pair
        same = LinearFilter(fit).fit([(target, target, spacing_mm)]).standardize(target, spacing_mm)
        np.testing.assert_allclose(same, target, atol=1e-2)

    def test_gain_belongs_to_the_physical_frequency(self, pair, fit):
        source, target, spacing_mm = pair
        fitted = LinearFilter(fit).fit([pair])
        finer = fitted.standardize(source, spacing_mm / 2)  # the same pixels are twice the frequency now
        assert np.abs(finer - fitted.standardize(source, spacing_mm)).max() > 1


def test_unfitted_filter_says_so():
    with pytest.raises(ValueError, match="fit"):
        LinearFilter().standardize(np.zeros((64, 64)), 0.7)


def test_unknown_fit_is_refused():
    with pytest.raises(ValueError, match="'lsq'"):
        LinearFilter("lsq")
