"""Pairs of reconstructions of one noisy scan, generated on the fly in the image domain at almost no cost per step.

Validation and test pairs come from the projection domain (`diffusionct_pipeline.simulation`), so that a model is never
tested on data of the simulator that it was trained on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ...image_processor import HIGHEST_SEEN_HU, LOWEST_SEEN_HU, to_model
from ...models.texture.frequency import radial_frequency
from ...physics.kernels import transfer
from ...simulation import KERNELS, mtf
from .objects import TrainingObject

MARGIN = 16  # pixels around a crop, cut off after filtering: FFT filters wrap around
RANDOM_SHARE = 0.2  # of the objects, which are random fields
TABLE_SHARE = 0.75  # of the kernels, which are near one of `simulation.KERNELS`
MTF50_LP_CM = (2.0, 11.0)  # of all kernels: sharper tabulated ones are for detectors that are not simulated here
SECTORS = 4  # of views, each with its own noise
NOISE_HU = 27.0  # white noise before the ramp at 0.7 mm: 18 HU with Br40, 80 with Bl64 in 20 cm water, 200 mAs, 1 mm


@dataclass
class ImagePairs:
    """Pairs of slices.

    Attributes:
        a, b: (B, 1, n, n), model range.
        spacing: (B,) side of a pixel in mm.
        standard: (B,) bool, whether `b` has the generator's standard kernel.
    """

    a: torch.Tensor
    b: torch.Tensor
    spacing: torch.Tensor
    standard: torch.Tensor


class PairGenerator:
    """Generates random crops of random objects under random pairs of kernels, doses and pixel spacings.

    Args:
        objects: See objects.py; without any, all are random fields.
        crop: Side n of a crop in pixels.
        device: Where pairs are generated.
        standard_kernel: Name in `simulation.KERNELS` of the kernel that `b` has in `standard_share` of the pairs.
        standard_share: 0 to 1.
    """

    def __init__(
        self,
        objects: Sequence[TrainingObject],
        crop: int,
        device: torch.device | str = "cpu",
        standard_kernel: str = "Bl64",
        standard_share: float = 0.0,
    ):
        self.standard_kernel, self.standard_share = standard_kernel, standard_share
        self.crop, self.device = crop, torch.device(device)
        self.objects = [item.hu.to(self.device) for item in objects]  # int16
        grids = [(*item.hu.shape, item.spacing_mm) for item in objects]
        self.grids = torch.tensor(grids, dtype=torch.float32, device=self.device)  # [N,3]: height, width, mm
        known = [kernel for kernel in KERNELS.values() if kernel.mtf50 <= MTF50_LP_CM[1]]
        table = [(*kernel.roll_off(), kernel.boost, kernel.boost_peak) for kernel in known]
        self.table = torch.tensor(table, dtype=torch.float32, device=self.device)
        self.fine = 2 * (
            crop + 2 * MARGIN
        )  # kernels act at half the pixel spacing, so that sampling aliases as in a scan

    def __call__(self, batch: int, generator: torch.Generator) -> ImagePairs:
        """Generate `batch` pairs by a `torch.Generator` on `device`."""
        self.g = generator
        spacing = self._uniform(batch, 0.4, 1.0)  # [B]
        hu = self._tumours(self._objects(batch, spacing / 2), spacing / 2)  # [B,1,F,F]
        frequency = _frequency(self.fine, spacing / 2)  # [B,1,F,F/2+1] lp/cm
        dose = torch.exp(0.5 + self._normal(batch))  # 11 to 80 HU with Br40
        spectrum = torch.fft.rfft2(hu) + self._noise(spacing / 2, dose, frequency)
        lowest = torch.where(self._column(batch, 0, 1) < 0.5, -1024.0, LOWEST_SEEN_HU)  # by vendor
        standard = self._column(batch, 0, 1) < self.standard_share  # [B,1,1,1]
        sides = []
        for side in "ab":
            kernel = self._kernel(batch, frequency)
            if side == "b" and self.standard_share:
                kernel = torch.where(standard, mtf(frequency, self.standard_kernel), kernel)
            sampled = torch.fft.irfft2(spectrum * kernel, s=hu.shape[-2:])[..., ::2, ::2]
            smoothed = self._iterative(batch, sampled)
            if side == "b":  # the standard is plain filtered backprojection
                smoothed = torch.where(standard, sampled, smoothed)
            reconstructed = smoothed[..., MARGIN:-MARGIN, MARGIN:-MARGIN]
            stored = reconstructed.round().clamp(max=HIGHEST_SEEN_HU).maximum(lowest)
            sides.append(to_model(stored))
        a, b = sides
        return ImagePairs(a, b, spacing, standard.flatten())

    # ------------------------------------------------------------------ objects
    def _objects(self, batch: int, spacing: torch.Tensor) -> torch.Tensor:
        """Draw noise-free or sharp real anatomy on a grid of `spacing` mm, rotated and mirrored at random."""
        if not self.objects:
            return self._random_anatomy(batch, spacing)
        drawn = self._uniform(batch, 0, 1) < RANDOM_SHARE
        index = self._uniform(batch, 0, len(self.objects)).long()
        height, width, spacing_mm = self.grids[index].view(batch, 3, 1, 1).unbind(1)  # [B,1,1]
        angle, mirror = self._uniform(batch, 0, 2 * math.pi), 1.0 - 2.0 * (self._uniform(batch, 0, 1) < 0.5).float()
        cos, sin, mirror = (each.view(-1, 1, 1) for each in (torch.cos(angle), torch.sin(angle), mirror))
        axis = torch.arange(self.fine, device=self.device) - self.fine / 2
        y, x = (side * spacing.view(-1, 1, 1) / spacing_mm for side in (axis[:, None], axis[None] * mirror))
        grid_x = (width * self._uniform(batch, 0.2, 0.8).view(-1, 1, 1) + x * cos - y * sin) / (width - 1) * 2 - 1
        grid_y = (height * self._uniform(batch, 0.2, 0.8).view(-1, 1, 1) + x * sin + y * cos) / (height - 1) * 2 - 1
        grid = torch.stack([grid_x, grid_y], -1)  # [B,F,F,2]
        hu = torch.empty(batch, 1, self.fine, self.fine, device=self.device)
        if drawn.any():
            hu[drawn] = self._random_anatomy(int(drawn.sum()), spacing[drawn])
        picked = index.tolist()
        for i in (~drawn).nonzero().flatten().tolist():
            image = self.objects[picked[i]][None, None].float() + 1000
            sampled = F.grid_sample(image, grid[i : i + 1], mode="bicubic", align_corners=True)
            hu[i] = (sampled[0] - 1000).clamp(-1024, 3071)  # air beyond the slice
        return hu

    def _field(self, batch: int, correlation_mm: float, spacing: torch.Tensor) -> torch.Tensor:
        """Draw a Gaussian random field of unit variance, (B, 1, F, F)."""
        frequency = _frequency(self.fine, spacing) / 10  # per mm
        gain = torch.exp(-2 * (math.pi * correlation_mm * frequency) ** 2)
        field = torch.fft.irfft2(torch.fft.rfft2(self._normal(batch, 1, self.fine, self.fine)) * gain)
        return (field - field.mean((2, 3), keepdim=True)) / field.std((2, 3), keepdim=True).clamp(min=1e-6)

    def _random_anatomy(self, batch: int, spacing: torch.Tensor) -> torch.Tensor:
        """Draw lung, vessels and bone from random fields: every texture scale without real anatomy."""
        large, medium, small, patch = (self._field(batch, mm, spacing) for mm in (20, 6, 2, 4))
        hu = torch.where(large > 0.1, 40 + 15 * medium, -850 + 30 * medium)
        hu = torch.where((small.abs() < 0.08) & (large <= 0.1) & (patch > 0.3), 20 + 20 * medium, hu)
        return torch.where(large > 1.3, 500 + 150 * small, hu)

    def _tumours(self, hu: torch.Tensor, spacing: torch.Tensor) -> torch.Tensor:
        """Add a lesion of random position, size, density and texture to a third of the crops."""
        batch = len(hu)
        axis = torch.arange(self.fine, device=self.device) - self.fine / 2
        centre = (self._uniform(batch, -0.25, 0.25) * self.fine, self._uniform(batch, -0.25, 0.25) * self.fine)
        x, y = (axis - c[:, None] for c in centre)
        radius = (y[:, None, :, None] ** 2 + x[:, None, None, :] ** 2).sqrt() * spacing.view(-1, 1, 1, 1)  # mm
        edge, inner = self._field(batch, 5, spacing), self._field(batch, 1.5, spacing)
        size = self._column(batch, 4, 20) * (1 + 0.2 * edge)
        lesion = self._column(batch, -150, 100) + self._column(batch, 5, 40) * inner + 15 * edge
        return torch.where((radius < size) & (self._column(batch, 0, 1) < 0.33), lesion, hu)

    # ------------------------------------------------------------------ scan and kernels
    def _noise(self, spacing: torch.Tensor, dose: torch.Tensor, frequency: torch.Tensor) -> torch.Tensor:
        """Draw the spectrum of the noise before the kernel.

        A view contributes noise at the frequencies across its rays. A few sectors represent all views, each with its own
        level, so that the noise is streaked and varies over the slice, as in a scan.
        """
        batch, _, height, width = frequency.shape
        fy = torch.fft.fftfreq(height, device=self.device)[:, None]
        angle = torch.atan2(fy, torch.fft.rfftfreq(2 * width - 2, device=self.device)[None])
        base = (NOISE_HU * 0.7 * dose / spacing).view(-1, 1, 1, 1)  # HU at this pixel spacing, equal noise density
        first = self._column(batch, 0, math.pi)
        sectors = [first + sector * math.pi / SECTORS for sector in range(SECTORS)]  # directions across the rays
        levels = self._levels(spacing, sectors)
        mean = sum(level.mean((2, 3), keepdim=True) for level in levels) / SECTORS
        total = 0.0
        for sector, level in zip(sectors, levels):
            off = (angle - sector + math.pi / 2).remainder(math.pi) - math.pi / 2
            share = torch.cos(off * SECTORS / 2).where(off.abs() < math.pi / SECTORS, 0.0)  # squares sum to 1
            white = base * self._normal(batch, 1, height, height) * torch.exp(level - mean)
            total = total + torch.fft.rfft2(white) * share
        return total * self._ramp(frequency)

    def _levels(self, spacing: torch.Tensor, sectors: list[torch.Tensor]) -> list[torch.Tensor]:
        """Draw the log noise level of each sector: highest along rays with the longest path through the patient, an ellipse."""
        batch = len(spacing)
        x = (torch.arange(self.fine, device=self.device) - self.fine / 2) * spacing.view(-1, 1, 1, 1)  # mm
        y = x.transpose(2, 3)
        centre_y, centre_x = self._column(batch, -120, 120), self._column(batch, -120, 120)  # mm
        radius, loss, flat = self._column(batch, 120, 200), self._column(batch, 0, 1.5), self._column(batch, 0, 0.4)
        uneven, levels = self._column(batch, 0, 0.6), []
        for sector in sectors:
            across = y * torch.sin(sector) + x * torch.cos(sector)
            off = across - centre_y * torch.sin(sector) - centre_x * torch.cos(sector)
            path = (1 - (off / radius) ** 2).clamp(min=0).sqrt() * (1 + flat * torch.cos(2 * sector))
            waves = self._normal(batch, 1, 1, 1)  # bones, arms
            for _ in range(3):
                wave = 2 * math.pi * across / torch.exp(self._column(batch, math.log(15), math.log(300)))
                waves = waves + self._normal(batch, 1, 1, 1) * torch.cos(wave + self._column(batch, 0, 2 * math.pi))
            levels.append(loss * path + uneven * waves)
        return levels

    def _ramp(self, frequency: torch.Tensor) -> torch.Tensor:
        """Return the noise amplitude of filtered backprojection before the kernel: sqrt(f) over the blur of the detector.

        The reconstruction divides the blur of cell and focal spot out of the object, and so amplifies the noise, which
        does not have it. Without this, sharp noise would be too weak by a third.
        """
        batch, per_mm = len(frequency), frequency / 10
        blur = torch.sinc(self._column(batch, 0.3, 0.6) * per_mm) * torch.sinc(self._column(batch, 0.3, 0.5) * per_mm)
        return frequency.sqrt() / blur.clamp(min=0.15)

    def _kernel(self, batch: int, frequency: torch.Tensor) -> torch.Tensor:
        """Draw a kernel (1 + b g(f)) exp(-(f / f0)^p) for each pair.

        Most are near a kernel of the table; the others range from softer than Br36 to sharper than Bl64.
        """

        def each(low: float, high: float) -> torch.Tensor:
            return self._column(batch, low, high)

        # Wider than the table: at the ends of its range a network is biased inwards.
        mtf50, ratio = each(*MTF50_LP_CM), each(1.3, 1.9)
        power = math.log(math.log(10) / math.log(2)) / torch.log(ratio)
        f0 = mtf50 / math.log(2) ** (1 / power)
        peak = each(1.5, 6.0)  # real edge-enhancing kernels gain 1.4 over soft ones already at 2 lp/cm
        boost = each(0, 1.5) * (each(0, 1) < 0.6)
        # Real soft kernels do not fall to zero: at 6.5 lp/cm, a B31f series keeps a third of its amplitude at 3.5 lp/cm.
        floor = each(0, 0.25) * (each(0, 1) < 0.5) * torch.exp(-((frequency / each(7, 14)) ** 4))

        known, scale = each(0, 1) < TABLE_SHARE, each(0.96, 1.04)
        entry = self.table[each(0, len(self.table)).long().flatten()].view(-1, 4, 1, 1, 1)
        f0 = torch.where(known, entry[:, 0] * scale, f0)
        power = torch.where(known, entry[:, 1], power)
        boost = torch.where(known, entry[:, 2], boost)
        peak = torch.where(known, entry[:, 3] * scale, peak)
        floor = torch.where(known, 0.0, floor)

        kernel = transfer(frequency, f0, power, boost, peak)
        return kernel + floor * (1 - kernel).clamp(min=0)

    def _iterative(self, batch: int, hu: torch.Tensor) -> torch.Tensor:
        """Smooth 40 % of the slices with preserved edges, in place of iterative reconstruction."""
        strength = self._column(batch, 0, 0.7) * (self._column(batch, 0, 1) < 0.4)
        edge_hu = self._column(batch, 20, 90)
        low = _gauss(hu)
        high = hu - low
        local = _gauss(high**2).sqrt()
        return low + high * (1 - strength * torch.exp(-((local / edge_hu) ** 2)))

    # ------------------------------------------------------------------ randomness
    def _normal(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=self.g, device=self.device)

    def _uniform(self, n: int, low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(n, generator=self.g, device=self.device)

    def _column(self, n: int, low: float, high: float) -> torch.Tensor:
        return self._uniform(n, low, high).view(-1, 1, 1, 1)


def _frequency(size: int, spacing: torch.Tensor) -> torch.Tensor:
    """Return the radial frequency of `rfft2` for square crops, (B, 1, size, size // 2 + 1) in lp/cm."""
    return radial_frequency(size, size, spacing)[:, None]


def _gauss(image: torch.Tensor, sigma: float = 1.5, radius: int = 4) -> torch.Tensor:
    taps = torch.exp(-(torch.arange(-radius, radius + 1, device=image.device) ** 2) / (2 * sigma**2))
    taps = (taps / taps.sum()).view(1, 1, 1, -1)
    padded = F.pad(image, (radius,) * 4, mode="reflect")
    return F.conv2d(F.conv2d(padded, taps), taps.transpose(2, 3))
