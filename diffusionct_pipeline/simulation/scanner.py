"""Simulate a CT scanner: HU object -> noisy sinogram -> one reconstruction per kernel.

Parallel (rebinned) geometry. Projection and backprojection go through the Fourier slice theorem with exact adjoint
NUFFTs, so no interpolation blurs the image and the measured MTF is that of the kernel.
Lengths in mm, frequencies in cycles/mm unless a name says lp/cm, attenuation in 1/mm.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from ..physics.kernels import Kernel, mtf
from .nufft import Nufft

MU_WATER = 0.0192  # 1/mm, water near 70 keV, the effective energy of 120 kV
LOWEST_STORED_HU, HIGHEST_STORED_HU = -1024, 3071  # 12 bit
DETECTOR_MM = 0.35  # scaled to the isocentre
# Transfer of the scanner below which blur is no longer divided out. With 0.35 to 0.45, noise falls beyond 6 lp/cm as in a real B70f
# series; with less, sharp kernels would alias noise on coarse pixels that no real series shows.
SMALLEST_BLUR = 0.35
MIN_COUNT = 2.0  # of a starved ray; below about 20 mAs this leaves a bias of some HU
CACHED_TRANSFORMS = 4  # one forward and up to three kernels; each takes about 50 MB


def hu_to_mu(hu: torch.Tensor) -> torch.Tensor:
    """Convert HU to attenuation in 1/mm; values below air become air."""
    return MU_WATER * (1 + hu.clamp(min=-1000) / 1000)


def mu_to_hu(mu: torch.Tensor) -> torch.Tensor:
    """Convert attenuation in 1/mm to HU."""
    return 1000 * (mu / MU_WATER - 1)


def quantize(hu: torch.Tensor, lowest: float = LOWEST_STORED_HU) -> torch.Tensor:
    """Round HU to whole numbers in 12 bits as a scanner stores them, still float32; signed files go below -1024."""
    return hu.round().clamp(lowest, HIGHEST_STORED_HU)


class Scanner:
    """Model the geometry and noise of an energy-integrating scanner, similar to a Siemens Force.

    Args:
        device: Device on which everything except the random numbers is computed.
        n_views: Views over half a turn. n_detectors, detector_mm: Detector, scaled to the isocentre; the object must
            lie inside the circle that it covers (403 mm across by default).
        aperture_mm, focal_mm: Effective widths of detector cell and focal spot at the isocentre. They blur the projections,
            not their noise, and the reconstruction divides them out within bounds: so edges have the MTF of the kernel, and
            noise is whiter than that by exp(`whitening` f^2) in power at low frequency f in lp/cm. Real scanners have a
            whitening of 0.045 to 0.07 cm^2 with filtered backprojection.
        photons: Counts per ray, mAs and mm of slice thickness without an object. Tuned so that 20 cm of water at
            200 mAs, 1 mm, give 17.6 HU with Br40 (published: 18.3; benchmarks/simulation_speed.py --noise).
        electronic: Standard deviation of the electronic noise, counts.
        bowtie_radius_mm, bowtie: Water circle that the bowtie filter compensates, and to what share.
    """

    def __init__(
        self,
        device: torch.device | str = "cpu",
        *,
        n_views: int = 1000,
        n_detectors: int = 1152,
        detector_mm: float = DETECTOR_MM,
        aperture_mm: float = 0.90,
        focal_mm: float = 0.85,
        photons: float = 460.0,
        electronic: float = 6.0,
        bowtie_radius_mm: float = 170.0,
        bowtie: float = 0.6,
    ):
        self.device = torch.device(device)
        self.n_views, self.n_detectors, self.detector_mm = n_views, n_detectors, detector_mm
        self.aperture_mm, self.focal_mm = aperture_mm, focal_mm
        self.photons, self.electronic = photons, electronic
        self.angle = torch.arange(n_views, device=self.device, dtype=torch.float64) * math.pi / n_views
        self.position_mm = (torch.arange(n_detectors, device=self.device) - n_detectors // 2) * detector_mm
        chord = torch.sqrt((bowtie_radius_mm**2 - self.position_mm**2).clamp(min=0))
        filter_path = MU_WATER * 2 * (bowtie_radius_mm - chord)
        self.flux = photons * torch.exp(-bowtie * filter_path.clamp(max=4.0))  # [n_detectors]
        self._transforms: dict[tuple, Nufft] = {}

    @property
    def radius_mm(self) -> float:
        """Return the radius of the circle that the detector covers."""
        return self.n_detectors // 2 * self.detector_mm

    @property
    def whitening(self) -> float:
        """Return the growth of log(noise power / (f MTF^2)) with f^2 at low frequency, in cm^2."""
        return math.pi**2 / 3 * (self.aperture_mm**2 + self.focal_mm**2) / 100

    def log_noise_gain(self, frequency: torch.Tensor) -> torch.Tensor:
        """Return the logarithm of the gain in noise power from dividing out the blur, at frequencies in 1/mm."""
        return -2 * torch.log(self.blur(frequency).clamp(min=SMALLEST_BLUR))

    # 1. Projection ------------------------------------------------------------------------------------------------
    def project(
        self, mu: torch.Tensor, spacing_mm: float, object_transfer: Callable[[torch.Tensor], torch.Tensor] | None = None
    ) -> torch.Tensor:
        """Return noise-free line integrals of an object, blurred by detector and focal spot.

        Args:
            mu: (M, M) attenuation in 1/mm on square pixels of `spacing_mm`, air outside.
            object_transfer: Function of frequency (1/mm) that multiplies the object's spectrum, or None.

        Returns:
            float32 (n_views, n_detectors).
        """
        frequency = torch.fft.rfftfreq(self.n_detectors, self.detector_mm).to(self.device)
        used = int((frequency <= 0.5 / spacing_mm).sum())
        transform = self._transform(mu.shape[-1], spacing_mm, frequency[:used])
        spectrum = torch.zeros(self.n_views, len(frequency), dtype=torch.complex64, device=self.device)
        spectrum[:, :used] = transform.forward(mu.to(self.device)).reshape(self.n_views, used)
        spectrum *= self.blur(frequency) * (spacing_mm**2 / self.detector_mm)
        if object_transfer is not None:
            spectrum *= object_transfer(frequency)
        return torch.fft.fftshift(torch.fft.irfft(spectrum, n=self.n_detectors, dim=-1), dim=-1)

    def blur(self, frequency: torch.Tensor) -> torch.Tensor:
        """Return the transfer of detector cell and focal spot."""
        return torch.sinc(self.aperture_mm * frequency) * torch.sinc(self.focal_mm * frequency)

    def harden(self, sinogram: torch.Tensor, mu: torch.Tensor, spacing_mm: float, strength: float) -> torch.Tensor:
        """Add residual beam hardening of bone after a water correction: p - strength * p_bone^2.

        Bone is everything above 200 HU. A strength of .01 darkens the image between the shoulders by tens of HU.
        """
        bone = torch.where(mu > hu_to_mu(torch.tensor(200.0)).item(), mu - MU_WATER, 0.0)
        return sinogram - strength * self.project(bone, spacing_mm).clamp(min=0) ** 2

    # 2. Noise -----------------------------------------------------------------------------------------------------
    def add_noise(
        self, sinogram: torch.Tensor, mas: float, thickness_mm: float, generator: torch.Generator
    ) -> torch.Tensor:
        """Add Poisson and electronic noise to the counts, and take the logarithm.

        Args:
            sinogram: (n_views, n_detectors) line integrals.
            mas: Tube load per turn. thickness_mm: Slice thickness; counts grow with both.
            generator: CPU generator; the noise is drawn on the CPU, so that it is the same on every device.
        """
        flux = (self.flux * mas * thickness_mm).cpu()
        expected = flux * torch.exp(-sinogram.cpu())
        counts = torch.poisson(expected, generator=generator)
        counts = counts + self.electronic * torch.randn(expected.shape, generator=generator)
        counts = counts.clamp(min=MIN_COUNT)
        # The logarithm of a noisy count is biased; this removes the second-order term.
        bias = (counts + self.electronic**2) / (2 * counts**2 + 8 * self.electronic**2)
        return (torch.log(flux) - torch.log(counts) - bias).to(self.device)

    # 3. Reconstruction --------------------------------------------------------------------------------------------
    def reconstruct(
        self,
        sinogram: torch.Tensor,
        kernel: Kernel | str,
        *,
        size: int = 512,
        spacing_mm: float = 0.7,
        centre_mm: tuple[float, float] = (0.0, 0.0),
    ) -> torch.Tensor:
        """Reconstruct by filtered backprojection with one kernel.

        Args:
            sinogram: (n_views, n_detectors) line integrals.
            kernel: Name from `KERNELS` or a `Kernel`.
            size, spacing_mm, centre_mm: Image grid; pixel (size // 2, size // 2) lies at `centre_mm` (x, y). Pixels
                are point samples, so sharp kernels alias on coarse grids, as on a real scanner.

        Returns:
            float32 (size, size) HU, not yet quantized.
        """
        padded_length = 2 * self.n_detectors
        padded = torch.zeros(self.n_views, padded_length, device=self.device)
        start = (padded_length - self.n_detectors) // 2
        padded[:, start : start + self.n_detectors] = sinogram
        spectrum = torch.fft.rfft(torch.fft.ifftshift(padded, dim=-1), dim=-1) * self.detector_mm
        frequency, response = self._filter(kernel, padded_length)
        used = int((response.abs() > 1e-4 * response.abs().max()).nonzero().max()) + 1
        frequency_step = 1 / (padded_length * self.detector_mm)
        values = spectrum[:, :used] * (response[:used] * (2 * frequency_step * math.pi / self.n_views))
        values[:, 0] *= 0.5  # the two half spectra share frequency 0
        if tuple(centre_mm) != (0.0, 0.0):
            shift = torch.cos(self.angle) * centre_mm[0] + torch.sin(self.angle) * centre_mm[1]
            phase = 2 * math.pi * shift[:, None] * frequency[:used].double()
            values = values * torch.polar(torch.ones_like(phase), phase).to(values.dtype)
        return mu_to_hu(self._transform(size, spacing_mm, frequency[:used]).adjoint(values.flatten()))

    def _filter(self, kernel: Kernel | str, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return frequency and response: band-limited ramp (Kak and Slaney 1988, Eq. 3.61) times kernel over scanner blur."""
        frequency = torch.fft.rfftfreq(length, self.detector_mm).to(self.device)
        n = torch.arange(length, device=self.device, dtype=torch.float64)
        n = torch.minimum(n, length - n)
        tap = torch.where(n % 2 == 1, -1 / (math.pi * n.clamp(min=1)) ** 2, 0.0)
        tap[0] = 0.25
        ramp = torch.fft.rfft(tap).real.float() / self.detector_mm
        return frequency, ramp * mtf(10 * frequency, kernel) / self.blur(frequency).clamp(min=SMALLEST_BLUR)

    def _transform(self, size: int, spacing_mm: float, frequency: torch.Tensor) -> Nufft:
        key = (size, float(spacing_mm), len(frequency), float(frequency[-1]))
        if key not in self._transforms:
            while len(self._transforms) >= CACHED_TRANSFORMS:
                del self._transforms[next(iter(self._transforms))]
            x = torch.cos(self.angle)[:, None] * frequency.double() * spacing_mm
            y = torch.sin(self.angle)[:, None] * frequency.double() * spacing_mm
            self._transforms[key] = Nufft(size, x.flatten(), y.flatten())
        return self._transforms[key]
