import math

import pytest
import torch

from diffusionct_pipeline.simulation import KERNELS, Scanner
from diffusionct_pipeline.simulation.nufft import Nufft
from diffusionct_pipeline.simulation.scanner import MU_WATER, SMALLEST_BLUR, hu_to_mu


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def disc_object(size, spacing_mm, radius_mm):
    axis = (torch.arange(size) - size // 2) * spacing_mm
    radius = torch.sqrt(axis[:, None] ** 2 + axis[None, :] ** 2)
    return MU_WATER * (0.5 + (radius_mm - radius) / spacing_mm).clamp(0, 1), radius


def wire_sinogram(scanner, x_mm, y_mm):
    """Projections of a thin wire (a point with unit area), blurred as the scanner blurs."""
    frequency = torch.fft.rfftfreq(scanner.n_detectors, scanner.detector_mm).double()
    position = x_mm * torch.cos(scanner.angle) + y_mm * torch.sin(scanner.angle)
    phase = -2 * math.pi * frequency[None] * position[:, None]
    spectrum = scanner.blur(frequency) / scanner.detector_mm * torch.polar(torch.ones_like(phase), phase)
    sinogram = torch.fft.irfft(spectrum, n=scanner.n_detectors, dim=-1)
    return torch.fft.fftshift(sinogram, dim=-1).float()


def measured_mtf_crossings(scanner, kernel, x_mm, y_mm):
    """Frequencies in lp/cm at which the MTF of a reconstructed wire falls to .5 and .1."""
    spacing, size = 0.1, 256
    sinogram = wire_sinogram(scanner, x_mm, y_mm)
    hu = scanner.reconstruct(sinogram, kernel, size=size, spacing_mm=spacing, centre_mm=(x_mm, y_mm))
    profile = (hu + 1000).double().sum(0)
    x = (torch.arange(size, dtype=torch.float64) - size // 2) * spacing
    lp_cm = torch.arange(0, 20, 0.01, dtype=torch.float64)
    transfer = (torch.exp(-2j * math.pi * lp_cm[:, None] / 10 * x) @ profile.to(torch.complex128)).abs()
    transfer = transfer / transfer[0]
    return [float(lp_cm[(transfer < level).nonzero()[0, 0]]) for level in (0.5, 0.1)]


class TestNufft:
    def setup_method(self):
        frequency = torch.rand(2, 50, generator=generator()) - 0.5
        self.frequency = frequency
        self.transform = Nufft(32, frequency[0], frequency[1])

    def test_forward_is_the_fourier_sum(self):
        image = torch.randn(32, 32, generator=generator(1))
        index = (torch.arange(32) - 16).double()
        kernel_x = torch.exp(-2j * math.pi * self.frequency[0].double()[:, None] * index)
        kernel_y = torch.exp(-2j * math.pi * self.frequency[1].double()[:, None] * index)
        expected = torch.einsum("ky,yx,kx->k", kernel_y, image.to(torch.complex128), kernel_x)
        error = (self.transform.forward(image) - expected).abs().max() / expected.abs().max()
        assert error < 1e-4

    def test_adjoint_is_the_adjoint(self):
        image = torch.randn(32, 32, generator=generator(1))
        values = torch.complex(torch.randn(50, generator=generator(2)), torch.randn(50, generator=generator(3)))
        left = torch.vdot(values, self.transform.forward(image)).real
        right = (image * self.transform.adjoint(values)).sum()
        assert left.item() == pytest.approx(right.item(), rel=1e-4)


class TestGeometryAndCalibration:
    def test_a_water_disc_is_zero_hu(self, scanner):
        mu, _ = disc_object(256, 0.7, 60.0)
        hu = scanner.reconstruct(scanner.project(mu, 0.7), "Br40", size=128, spacing_mm=1.4)
        _, radius = disc_object(128, 1.4, 60.0)
        assert abs(hu[radius < 50].mean()) < 0.1
        assert (hu[(radius > 70) & (radius < 85)] + 1000).abs().mean() < 2

    def test_line_integral_through_the_centre(self, scanner):
        mu, _ = disc_object(256, 0.7, 60.0)
        central = scanner.project(mu, 0.7)[:, scanner.n_detectors // 2]
        torch.testing.assert_close(central, torch.full_like(central, 2 * 60 * MU_WATER), rtol=2e-3, atol=0)

    def test_an_off_centre_grid_shows_the_same_pixels(self, scanner, phantom):
        sinogram = scanner.project(hu_to_mu(phantom.slice_hu(20.0)), phantom.spacing_mm)
        whole = scanner.reconstruct(sinogram, "Br40", size=160, spacing_mm=1.0)
        part = scanner.reconstruct(sinogram, "Br40", size=64, spacing_mm=1.0, centre_mm=(20.0, -10.0))
        assert (whole[80 - 10 - 32 : 80 - 10 + 32, 80 + 20 - 32 : 80 + 20 + 32] - part).abs().max() < 0.5

    def test_bone_hardening_darkens(self, scanner, phantom):
        mu = hu_to_mu(phantom.slice_hu(20.0))
        sinogram = scanner.project(mu, phantom.spacing_mm)
        hardened = scanner.harden(sinogram, mu, phantom.spacing_mm, 0.01)
        assert (hardened <= sinogram + 1e-6).all()
        assert (hardened < sinogram - 1e-3).any()


def is_within_reach(kernel):
    """Whether the default scanner's blur can be divided out as far as the kernel goes."""
    return float(Scanner().blur(torch.tensor(kernel.mtf10 / 10))) >= SMALLEST_BLUR


class TestBlur:
    """Of detector and focal spot: edges have the MTF of the kernel all the same, and noise is whiter than they are sharp."""

    @pytest.mark.parametrize("blur_mm", [(0.9, 0.85), (0.5, 0.4), (0.82, 0.78)])
    def test_whitening_is_the_growth_of_the_gain_at_low_frequency(self, blur_mm):
        scanner = Scanner(aperture_mm=blur_mm[0], focal_mm=blur_mm[1])
        lp_cm = torch.tensor([0.0, 0.5, 1.0])
        torch.testing.assert_close(
            scanner.log_noise_gain(lp_cm / 10), scanner.whitening * lp_cm**2, rtol=0.01, atol=1e-6
        )

    def test_by_default_it_is_that_of_real_scanners(self):
        assert 0.045 <= Scanner().whitening <= 0.07

    def test_nothing_is_divided_out_beyond_its_limit(self):
        gain = Scanner().log_noise_gain(torch.linspace(0, 3, 200))
        assert gain.max().item() == pytest.approx(-2 * math.log(SMALLEST_BLUR)) and gain.isfinite().all()

    def test_it_leaves_the_mtf_alone_and_whitens_the_noise(self, scanner, water):
        sharper = Scanner(n_views=scanner.n_views, n_detectors=scanner.n_detectors, detector_mm=scanner.detector_mm,
                          aperture_mm=0.5, focal_mm=0.4)  # fmt: skip
        small = Scanner(n_views=200, n_detectors=256, detector_mm=0.5, aperture_mm=0.5, focal_mm=0.4)
        expected = [KERNELS["Br40"].mtf50, KERNELS["Br40"].mtf10]
        assert measured_mtf_crossings(small, "Br40", 0.0, 0.0) == pytest.approx(expected, abs=0.06)

        def noise(of):
            noisy = of.add_noise(water, 200, 1.0, generator(0))
            return of.reconstruct(noisy, "Bl64", size=64, spacing_mm=0.6) - of.reconstruct(
                water, "Bl64", size=64, spacing_mm=0.6
            )

        assert noise(scanner).std() > 1.1 * noise(sharper).std()


class TestMtf:
    def test_br40_on_a_small_scanner(self):
        # A small focal spot and detector cell: nothing of the blur is left where the kernel passes 10 %.
        small = Scanner(n_views=200, n_detectors=256, detector_mm=0.5, aperture_mm=0.5, focal_mm=0.4)
        expected = [KERNELS["Br40"].mtf50, KERNELS["Br40"].mtf10]
        assert measured_mtf_crossings(small, "Br40", 0.0, 0.0) == pytest.approx(expected, abs=0.06)

    @pytest.mark.slow
    @pytest.mark.parametrize("place", [(0.0, 0.0), (80.0, 30.0)])
    @pytest.mark.parametrize("name", [name for name, kernel in KERNELS.items() if is_within_reach(kernel)])
    def test_every_kernel_that_the_default_scanner_can_have(self, name, place):
        expected = [KERNELS[name].mtf50, KERNELS[name].mtf10]
        assert measured_mtf_crossings(Scanner(), name, *place) == pytest.approx(expected, abs=0.06)


@pytest.fixture(scope="module")
def water(scanner):
    mu, _ = disc_object(256, 0.9, 100.0)
    return scanner.project(mu, 0.9)


class TestNoise:
    def noise(self, scanner, water, kernel, mas, seed=0, thickness_mm=1.0):
        noisy = scanner.add_noise(water, mas, thickness_mm, generator(seed))
        grid = {"size": 64, "spacing_mm": 0.6}
        return scanner.reconstruct(noisy, kernel, **grid) - scanner.reconstruct(water, kernel, **grid)

    def test_noise_falls_with_the_root_of_dose_and_of_thickness(self, scanner, water):
        thin = self.noise(scanner, water, "Br40", 200).std()
        thick = self.noise(scanner, water, "Br40", 200, thickness_mm=4).std()
        assert (thin / self.noise(scanner, water, "Br40", 800).std()).item() == pytest.approx(2, rel=0.1)
        assert (thin / thick).item() == pytest.approx(2, rel=0.1)

    def test_kernels_share_the_noise_of_one_sinogram(self, scanner, water):
        soft, sharp = self.noise(scanner, water, "Br40", 100), self.noise(scanner, water, "Bl64", 100)
        other = self.noise(scanner, water, "Bl64", 100, seed=1)

        def low_frequencies(hu):
            spectrum = torch.fft.fft2(hu - hu.mean())
            frequency = torch.fft.fftfreq(64, 0.6)
            return spectrum[torch.sqrt(frequency[:, None] ** 2 + frequency[None, :] ** 2) < 0.25]

        def correlation(a, b):
            a, b = low_frequencies(a), low_frequencies(b)
            return float(torch.vdot(a, b).real / (a.norm() * b.norm()))

        assert correlation(soft, sharp) > 0.94  # pixels of 0.6 mm fold a little of the sharp one back
        assert abs(correlation(soft, other)) < 0.5
        assert sharp.std() > 2 * soft.std()

    def test_same_seed_same_noise(self, scanner, water):
        first = scanner.add_noise(water, 100, 1.0, generator(7))
        assert torch.equal(first, scanner.add_noise(water, 100, 1.0, generator(7)))
        assert not torch.equal(first, scanner.add_noise(water, 100, 1.0, generator(8)))
