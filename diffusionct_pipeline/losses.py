"""The losses, each with its source."""

import torch
from torch import nn


def reconstruction_loss(prediction, target, limit=None):
    """L2 between slices (Eq. 1 of Selim et al. 2023), on request sublinear for slices of much noise.

    A sharp kernel shows noise that a soft one does not hold. Plain L2 would smooth the texture of noisy slices to be
    rid of it, against the spectrum loss; with a limit m the error e of a slice counts as m log(1 + e / m).

    Args:
        prediction, target: (B, 1, H, W), model range.
        limit: Squared error of a slice, in model range, from where on it counts less; None for plain L2.

    Returns:
        A scalar.
    """
    error = (prediction.float() - target.float()).square().mean((1, 2, 3))
    return error.mean() if limit is None else limit * torch.log1p(error / limit).mean()


class LocalSpectrumLoss(nn.Module):
    """L1 between log local power spectra: keeps texture power, which L2 regresses to its mean.

    Not in Selim et al. 2023; takes the place of its "anatomic loss".

    Args:
        window: Side of the Hann windows in pixels.
        stride: Distance of the windows in pixels.
        rings: Rings of equal width up to the corner-free Nyquist frequency; the corners count to the last.
        floor: Added to the power; 1e-3 is the power that a noise of 0.8 HU leaves in a 32 x 32 window.
    """

    def __init__(self, window=32, stride=16, rings=10, floor=1e-3):
        super().__init__()
        self.window_size, self.stride, self.rings, self.floor = window, stride, rings, floor
        hann = torch.hann_window(window, periodic=False)
        fy, fx = torch.fft.fftfreq(window), torch.fft.rfftfreq(window)
        radius = (fy[:, None] ** 2 + fx[None] ** 2).sqrt() / 0.5
        ring = (radius * (rings - 1)).long().clamp(max=rings - 1).flatten()
        membership = nn.functional.one_hot(ring, rings).float()
        self.register_buffer("hann", hann[:, None] * hann[None], persistent=False)
        self.register_buffer("averages", membership / membership.sum(0), persistent=False)  # [32*17,rings]

    def log_spectrum(self, image):
        """(B, 1, H, W) -> (windows, rings)."""
        windows = image[:, 0].float().unfold(1, self.window_size, self.stride).unfold(2, self.window_size, self.stride)
        windows = windows.flatten(0, 2)
        windows = (windows - windows.mean((1, 2), keepdim=True)) * self.hann
        spectrum = torch.fft.rfft2(windows)
        power = (spectrum.real.square() + spectrum.imag.square()).flatten(1)
        return torch.log(power @ self.averages + self.floor)

    def forward(self, prediction, target):
        """(B, 1, H, W) in model range, twice -> a scalar."""
        with torch.autocast(prediction.device.type, enabled=False):  # bfloat16 has 3 digits, the power spans 8
            return (self.log_spectrum(prediction) - self.log_spectrum(target)).abs().mean()


def diffusion_loss(prediction, target, l1_weight):
    """L2 of Ho et al. 2020 plus the L1 term of Selim et al. 2023 (Eq. 5), both on the prediction target."""
    error = prediction.float() - target.float()
    return error.square().mean() + l1_weight * error.abs().mean()
