"""Histogram matching, band energies, transfer ratio and conditional Gaussian sampling."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from diffusionct_pipeline.comparison.systems import (
    BandEnergies,
    ConditionalGaussian,
    FittingPair,
    HistogramMatching,
    LinearFilter,
    TransferRatio,
)
from diffusionct_pipeline.comparison.systems.band_energies import band_energies, split
from diffusionct_pipeline.comparison.systems.histogram_matching import GRID_HU

SPACING = 0.7


def white(seed, scale=50.0, size=128):
    return np.random.default_rng(seed).normal(0, scale, (size, size)).astype(np.float32)


def soft_and_sharp(seed):
    target = gaussian_filter(white(seed, 100), 0.6, mode="mirror")
    return FittingPair(gaussian_filter(target, 0.8, mode="mirror"), target, SPACING)


class TestHistogramMatching:
    def test_look_up_table_never_falls(self):
        table = HistogramMatching().fit([FittingPair(white(0), white(1, 200), SPACING)]).table
        assert len(table) == len(GRID_HU) and (np.diff(table) >= 0).all()

    def test_gives_the_pooled_quantiles_of_the_target(self):
        pair = FittingPair(white(0), 100 + 2 * white(1), SPACING)
        output = HistogramMatching().fit([pair]).standardize(pair.source, SPACING)
        levels = np.linspace(0.05, 0.95, 19)
        np.testing.assert_allclose(np.quantile(output, levels), np.quantile(pair.target, levels), atol=1)

    def test_equal_images_stay_within_a_step(self):
        hu = white(0)
        same = HistogramMatching().fit([FittingPair(hu, hu, SPACING)]).standardize(hu, SPACING)
        np.testing.assert_allclose(same, hu, atol=0.5)

    def test_padding_has_no_say(self):
        source, target = white(0), white(1)
        plain = HistogramMatching().fit([FittingPair(source, target, SPACING)]).table
        padded = [np.pad(hu, 8, constant_values=-1024) for hu in (source, target)]
        np.testing.assert_allclose(HistogramMatching().fit([FittingPair(*padded, SPACING)]).table, plain)


class TestBandEnergies:
    def test_energies_become_those_of_the_reference(self):
        pair = soft_and_sharp(0)
        output = BandEnergies().fit([pair]).standardize(soft_and_sharp(1).source, SPACING)
        reference = band_energies(pair.target, SPACING)
        np.testing.assert_allclose(band_energies(output, SPACING), reference, rtol=0.02)

    def test_bands_sum_to_the_slice(self):
        bands, rest = split(white(0), SPACING)
        np.testing.assert_allclose(bands.sum(0) + rest, white(0), atol=1e-3)

    def test_measures_in_the_lung_where_there_is_one(self):
        hu = np.full((128, 128), 40.0)
        hu[:, 64:] = -850 + white(0, 30)[:, 64:]
        noisier = hu.copy()
        noisier[:, :20] += white(1, 300)[:, :20]
        np.testing.assert_allclose(band_energies(noisier, SPACING)[0], band_energies(hu, SPACING)[0], rtol=0.02)


class TestTransferRatio:
    def test_brings_the_power_of_other_anatomy_to_the_targets(self):
        fitted = TransferRatio().fit([soft_and_sharp(seed) for seed in range(3)])
        source, target, _ = soft_and_sharp(9)
        output = fitted.standardize(source, SPACING)
        assert abs(output.std() / target.std() - 1) < 0.5 * abs(source.std() / target.std() - 1)

    def test_the_mean_stays(self):
        output = TransferRatio().fit([soft_and_sharp(0)]).standardize(soft_and_sharp(1).source + 300, SPACING)
        assert output.mean() == pytest.approx(soft_and_sharp(1).source.mean() + 300, abs=1)


class TestConditionalGaussian:
    @pytest.fixture
    def half_new(self):
        """Half of the target's power is not in the source."""
        return [FittingPair(white(i), white(i) + white(100 + i), SPACING) for i in range(4)]

    def test_has_the_power_of_the_target_where_least_squares_has_not(self, half_new):
        source, target, _ = FittingPair(white(9), white(9) + white(109), SPACING)
        output = ConditionalGaussian().fit(half_new).standardize(source, SPACING)
        least_squares = LinearFilter("least_squares").fit(half_new).standardize(source, SPACING)
        assert output.std() == pytest.approx(target.std(), rel=0.05)
        assert least_squares.std() < 0.8 * target.std()

    def test_keeps_what_is_coherent(self, half_new):
        output = ConditionalGaussian().fit(half_new).standardize(white(9), SPACING)
        assert np.corrcoef(output.ravel(), white(9).ravel())[0, 1] == pytest.approx(0.5**0.5, abs=0.05)

    def test_adds_nothing_where_all_is_predictable(self):
        pair = FittingPair(white(0) / 2, white(0), SPACING)
        output = ConditionalGaussian().fit([pair]).standardize(pair.source, SPACING)
        linear = LinearFilter("least_squares").fit([pair]).standardize(pair.source, SPACING)
        assert (output - linear).std() < 0.02 * pair.target.std()

    def test_the_seed_decides(self, half_new):
        fitted = ConditionalGaussian().fit(half_new)
        first = fitted.standardize(white(9), SPACING)
        np.testing.assert_array_equal(fitted.standardize(white(9), SPACING), first)
        fitted.seed = 1
        assert np.abs(fitted.standardize(white(9), SPACING) - first).max() > 1


@pytest.mark.parametrize("system", [HistogramMatching, BandEnergies, TransferRatio, ConditionalGaussian])
def test_unfitted_says_so(system):
    with pytest.raises(ValueError, match="call `fit`"):
        system().standardize(white(0), SPACING)
