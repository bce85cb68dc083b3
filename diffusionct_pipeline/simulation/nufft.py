"""Compute the non-uniform fast Fourier transform between an image and its spectrum at arbitrary points.

Kaiser-Bessel gridding: 6 taps, 2x oversampling (Fessler and Sutton 2003, Beatty et al. 2005). `forward` and `adjoint`
use the same taps, so they are adjoint to each other up to rounding; both are accurate to about 1e-5.
"""

from __future__ import annotations

import math

import torch

TAPS = 6
OVERSAMPLING = 2
TABLE = 4096  # entries of the window's look-up table; the error of linear interpolation is below 1e-7


class Nufft:
    """Transform (size, size) images for one set of frequencies.

    Args:
        size: Pixels along each side; the origin is pixel (size // 2, size // 2).
        frequency_x, frequency_y: (K,) cycles per pixel; any value, the spectrum has period 1.
    """

    def __init__(self, size: int, frequency_x: torch.Tensor, frequency_y: torch.Tensor):
        self.size, self.grid = size, OVERSAMPLING * size
        device = frequency_x.device
        # Beatty's optimal shape for this width and oversampling.
        self.shape = math.pi * math.sqrt((TAPS / OVERSAMPLING) ** 2 * (OVERSAMPLING - 0.5) ** 2 - 0.8)
        scale = torch.special.i0(torch.tensor(self.shape, dtype=torch.float64))
        u = torch.linspace(0, 1, TABLE + 1, dtype=torch.float64)
        self.window = (torch.special.i0(self.shape * torch.sqrt(1 - u**2)) / scale).float().to(device)
        position = (torch.arange(size, dtype=torch.float64) - size // 2) / self.grid
        root = torch.sqrt((self.shape**2 - (math.pi * TAPS * position) ** 2).to(torch.complex128))
        self.correction = (scale / ((torch.sinh(root) / root).real * TAPS)).float().to(device)  # 1 / FT of the window
        self.weight_x, self.column = self._taps(frequency_x)  # [TAPS,K] each
        self.weight_y, row = self._taps(frequency_y)
        self.row_start = row * self.grid

    def _taps(self, frequency: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        position = (frequency.double() * self.grid).float()
        first = torch.ceil(position - TAPS / 2)
        weights, indices = [], []
        for tap in range(TAPS):
            at = (first - position + tap).abs() * (2 / TAPS * TABLE)
            lower = at.long().clamp(max=TABLE - 1)
            weights.append(torch.lerp(self.window[lower], self.window[lower + 1], at - lower))
            indices.append(torch.remainder(first.long() + tap, self.grid).int())
        return torch.stack(weights), torch.stack(indices)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Transform an image (size, size), rows are y, to (K,) complex: the sum of image * exp(-2 pi i (fx x + fy y))."""
        start = self.grid // 2 - self.size // 2
        padded = torch.zeros(self.grid, self.grid, device=image.device)
        padded[start : start + self.size, start : start + self.size] = self._corrected(image)
        spectrum = torch.fft.fft2(torch.fft.ifftshift(padded)).flatten()
        values = torch.zeros(self.column.shape[1], dtype=spectrum.dtype, device=image.device)
        for a in range(TAPS):
            row = torch.zeros_like(values)
            for b in range(TAPS):
                row += spectrum.index_select(0, self.row_start[a] + self.column[b]) * self.weight_x[b]
            values += row * self.weight_y[a]
        return values

    def adjoint(self, values: torch.Tensor) -> torch.Tensor:
        """Return the image (size, size) of (K,) complex values: the real part of the sum of values * exp(2 pi i (fx x + fy y))."""
        spectrum = torch.zeros(self.grid**2, dtype=values.dtype, device=values.device)
        for a in range(TAPS):
            row = values * self.weight_y[a]
            for b in range(TAPS):
                spectrum.index_add_(0, self.row_start[a] + self.column[b], row * self.weight_x[b])
        image = torch.fft.ifft2(spectrum.reshape(self.grid, self.grid)).real * self.grid**2
        start = self.grid // 2 - self.size // 2
        return self._corrected(torch.fft.fftshift(image)[start : start + self.size, start : start + self.size])

    def _corrected(self, image: torch.Tensor) -> torch.Tensor:
        return image * self.correction[:, None] * self.correction[None, :]
