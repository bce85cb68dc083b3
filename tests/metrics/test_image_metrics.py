import numpy as np
import pytest
from scipy import ndimage
from scipy.special import erf

from diffusionct_pipeline.metrics.image_metrics import (
    bias_hu,
    edge_mtf,
    noise_power_spectrum,
    nps_distance,
    psnr,
    rmse_hu,
    ssim,
)


def noise(shape=(256, 256), std=20.0, seed=0):
    return np.random.default_rng(seed).normal(-800, std, shape)


class TestError:
    def test_a_constant_offset(self):
        hu = noise()
        assert bias_hu(hu + 7, hu) == pytest.approx(7)
        assert rmse_hu(hu + 7, hu) == pytest.approx(7)

    def test_only_the_mask_counts(self):
        hu, mask = noise(), np.zeros((256, 256), bool)
        mask[:10] = True
        other = np.where(mask, hu - 3, 0)
        assert (bias_hu(other, hu, mask), rmse_hu(other, hu, mask)) == pytest.approx((-3, 3))

    def test_shapes_must_agree(self):
        with pytest.raises(ValueError, match=r"`reference`, \(4, 5\), got \(4, 4\)"):
            rmse_hu(np.zeros((4, 4)), np.zeros((4, 5)))


class TestPSNRAndSSIM:
    def test_identity(self):
        assert psnr(noise(), noise()) == np.inf
        assert ssim(noise(), noise()) == pytest.approx(1)

    def test_the_window_sets_the_peak(self):
        hu = noise()
        assert psnr(hu + 14, hu) == pytest.approx(40)  # 1400 HU over 14 HU
        assert psnr(hu + 14, hu, (-1000, 13000)) == pytest.approx(60)

    def test_what_lies_outside_the_window_does_not_count(self):
        hu = noise()
        assert psnr(np.full_like(hu, 900.0), np.full_like(hu, 500.0)) == np.inf

    def test_ssim_falls_with_noise(self):
        hu = ndimage.gaussian_filter(noise(std=500), 3)
        assert 1 > ssim(hu + noise(std=10) + 800, hu) > ssim(hu + noise(std=50) + 800, hu)

    def test_a_bad_window_is_refused(self):
        with pytest.raises(ValueError, match="window_hu"):
            ssim(noise(), noise(), (400, -1000))


class TestNoisePowerSpectrum:
    def test_white_noise_is_flat_at_variance_times_pixel_area(self):
        frequency, power = noise_power_spectrum(noise((4, 256, 256)), spacing_mm=0.7)
        assert frequency[0] == pytest.approx(10 / (64 * 0.7)) and frequency[-1] < 5 / 0.7
        np.testing.assert_allclose(power[2:], 20**2 * 0.7**2, rtol=0.1)

    def test_filtered_noise_has_the_filters_power(self):
        sigma = 1.2  # pixels
        hu = ndimage.gaussian_filter(noise((6, 256, 256)), (0, sigma, sigma), mode="wrap")
        frequency, power = noise_power_spectrum(hu, spacing_mm=0.5)
        cycles = frequency / 10 * 0.5  # per pixel
        expected = 20**2 * 0.5**2 * np.exp(-((2 * np.pi * cycles * sigma) ** 2))
        np.testing.assert_allclose(power[3:14], expected[3:14], rtol=0.15)

    def test_a_slope_of_the_tissue_is_not_noise(self):
        hu = noise()
        slope = hu + np.arange(256) * 3.0
        np.testing.assert_allclose(noise_power_spectrum(slope, 0.7)[1], noise_power_spectrum(hu, 0.7)[1], rtol=1e-6)

    def test_only_patches_inside_the_mask_count(self):
        hu, mask = noise(), np.zeros((256, 256), bool)
        mask[:64, :64] = True
        masked = noise_power_spectrum(np.where(mask, hu, 3000), 0.7, mask)[1]
        np.testing.assert_allclose(masked, noise_power_spectrum(hu[:64, :64], 0.7)[1])
        with pytest.raises(ValueError, match="no 64 x 64 patch"):
            noise_power_spectrum(hu, 0.7, mask & (np.indices(mask.shape)[0] < 63))

    def test_distance_in_decibels(self):
        hu = noise()
        assert nps_distance(hu, hu, 0.7) == 0
        assert nps_distance(-800 + 2 * (hu + 800), hu, 0.7) == pytest.approx(20 * np.log10(2))
        assert nps_distance(hu, 2 * hu, 0.7) == pytest.approx(nps_distance(2 * hu, hu, 0.7))


class TestEdgeMTF:
    sigma_mm = 0.6

    def expected(self, frequency_lp_cm):
        return np.exp(-2 * (np.pi * self.sigma_mm * frequency_lp_cm / 10) ** 2)

    @pytest.mark.parametrize("spacing_mm", [0.4, 0.7])
    def test_a_blurred_disc(self, spacing_mm):
        y, x = np.indices((256, 256)) * spacing_mm
        distance = np.hypot(y - 128.3 * spacing_mm, x - 127.6 * spacing_mm) - 30
        hu = -1000 + 500 * (1 - erf(distance / self.sigma_mm / np.sqrt(2)))
        frequency, mtf = edge_mtf(hu, distance, spacing_mm, reach_mm=8)
        assert mtf[0] == 1 and frequency[-1] <= 5 / spacing_mm
        np.testing.assert_allclose(mtf, self.expected(frequency), atol=0.02)

    def test_a_slanted_edge_of_either_sign(self):
        y, x = np.indices((128, 128)) * 0.5
        distance = (x - 32) * np.cos(np.radians(5)) + (y - 32) * np.sin(np.radians(5))
        hu = 200 * erf(distance / self.sigma_mm / np.sqrt(2))
        frequency, mtf = edge_mtf(hu, distance, 0.5)
        np.testing.assert_allclose(mtf, self.expected(frequency), atol=0.02)
        np.testing.assert_allclose(edge_mtf(-hu, distance, 0.5)[1], mtf)

    def test_too_few_pixels_and_no_step_are_refused(self):
        y, x = np.indices((128, 128)) * 0.5
        with pytest.raises(ValueError, match="hold no pixel"):
            edge_mtf(x, x - 32, 0.5)  # along the grid: one phase only
        distance = (x - 32) * np.cos(0.1) + (y - 32) * np.sin(0.1)
        with pytest.raises(ValueError, match="must have a step"):
            edge_mtf(np.zeros_like(x), distance, 0.5)
