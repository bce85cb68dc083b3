"""The losses of reconstruction and of diffusion, each with its source.

The paper's phase one sums any of `RECONSTRUCTION_LOSSES`; to add one, write it here and give its name and weight on the
command line. The loss of our phase one is beside its network, in models/texture/coherence.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

BOUND = 0.03  # mean squared error of a pair above which it counts less than linearly
AIR_WEIGHT = 0.1  # in a loss, of a position in air, which shows texture too; 1 in the patient


@dataclass(frozen=True)
class Reconstruction:
    """Input of the losses of phase one.

    Attributes:
        drawn, target: (B, 1, H, W), model range.
        latent: (B, C, L), not normalized.
    """

    drawn: torch.Tensor
    target: torch.Tensor
    latent: torch.Tensor


class SquaredError(nn.Module):
    """L2 between slices (Selim et al. 2023)."""

    def forward(self, made: Reconstruction) -> torch.Tensor:
        return error_of_slices(made).mean()


def error_of_slices(made: Reconstruction) -> torch.Tensor:
    """Return the mean squared error (B,) of each slice, in model range^2."""
    return (made.drawn.float() - made.target.float()).square().mean((1, 2, 3))


class LocalSpectrumLoss(nn.Module):
    """L1 between log local power spectra, which keeps the texture power that L2 would regress to the mean.

    Not in Selim et al. 2023; it replaces the paper's "anatomic loss".

    Args:
        window: Side of the Hann windows in pixels.
        stride: Distance of the windows in pixels.
        rings: Rings of equal width up to the Nyquist frequency; the corners belong to the last.
        floor: Added to the power; 1e-3 is the power of a noise of 0.8 HU in a 32 x 32 window.
    """

    hann: torch.Tensor
    averages: torch.Tensor

    def __init__(self, window: int = 32, stride: int = 16, rings: int = 10, floor: float = 1e-3):
        super().__init__()
        self.window_size, self.stride, self.rings, self.floor = window, stride, rings, floor
        hann = torch.hann_window(window, periodic=False)
        fy, fx = torch.fft.fftfreq(window), torch.fft.rfftfreq(window)
        radius = (fy[:, None] ** 2 + fx[None] ** 2).sqrt() / 0.5
        ring = (radius * (rings - 1)).long().clamp(max=rings - 1).flatten()
        membership = nn.functional.one_hot(ring, rings).float()
        self.register_buffer("hann", hann[:, None] * hann[None], persistent=False)
        self.register_buffer("averages", membership / membership.sum(0), persistent=False)  # [32*17,rings]

    def log_spectrum(self, image: torch.Tensor) -> torch.Tensor:
        """Return the log power (windows, rings) of (B, 1, H, W)."""
        windows = image[:, 0].float().unfold(1, self.window_size, self.stride).unfold(2, self.window_size, self.stride)
        windows = windows.flatten(0, 2)
        windows = (windows - windows.mean((1, 2), keepdim=True)) * self.hann
        spectrum = torch.fft.rfft2(windows)
        power = (spectrum.real.square() + spectrum.imag.square()).flatten(1)
        return torch.log(power @ self.averages + self.floor)

    def forward(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss, a scalar, of two images (B, 1, H, W) in model range."""
        with torch.autocast(prediction.device.type, enabled=False):  # bfloat16 has 3 digits, the power spans 8
            return (self.log_spectrum(prediction) - self.log_spectrum(target)).abs().mean()


class SpectrumOfDrawn(nn.Module):
    """`LocalSpectrumLoss` of the decoder's slices."""

    def __init__(self) -> None:
        super().__init__()
        self.spectrum = LocalSpectrumLoss()

    def forward(self, made: Reconstruction) -> torch.Tensor:
        return self.spectrum(made.drawn, made.target)


class SquaredLatent(nn.Module):
    """Keeps the latent near unit scale. Not in Selim et al. 2023."""

    def forward(self, made: Reconstruction) -> torch.Tensor:
        return made.latent.float().square().mean()


# Name -> module from a `Reconstruction` to a scalar.
RECONSTRUCTION_LOSSES: dict[str, type[nn.Module]] = {
    "l2": SquaredError,
    "spectrum": SpectrumOfDrawn,
    "latent": SquaredLatent,
}


class WeightedLosses(nn.Module):
    """A sum of some of `RECONSTRUCTION_LOSSES`.

    Args:
        weights: Name -> weight; a weight of 0 only logs the loss.

    Raises:
        ValueError: for an unknown name, or none.
    """

    def __init__(self, weights: dict[str, float]):
        super().__init__()
        unknown = sorted(set(weights) - set(RECONSTRUCTION_LOSSES))
        if unknown or not weights:
            raise ValueError(f"`losses` must be among {', '.join(RECONSTRUCTION_LOSSES)}, got {unknown or 'none'}.")
        self.weights = dict(weights)
        self.losses = nn.ModuleDict({name: RECONSTRUCTION_LOSSES[name]() for name in weights})

    def forward(self, made: Reconstruction) -> dict[str, torch.Tensor]:
        """Return every loss by name, and their weighted sum as "loss"."""
        losses = {name: loss(made) for name, loss in self.losses.items()}
        return losses | {"loss": sum(self.weights[name] * loss for name, loss in losses.items())}


class NoiseScheduler(Protocol):
    """A diffusers scheduler that adds noise to what is diffused. Diffusers types times more narrowly than it takes them."""

    @property
    def config(self) -> Any:
        """Its settings."""

    def add_noise(self, original_samples: torch.Tensor, noise: torch.Tensor, timesteps: Any) -> torch.Tensor:
        """Add noise by times (B,)."""


class VelocityScheduler(NoiseScheduler, Protocol):
    """A diffusers scheduler with v-prediction."""

    def get_velocity(self, sample: torch.Tensor, noise: torch.Tensor, timesteps: Any) -> torch.Tensor:
        """Return v of a sample and its noise at times (B,)."""


def draw_noise_and_time(
    scheduler: NoiseScheduler, latent: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw noise in the shape of what is diffused, (B, C, L), and times (B,), uniform over those of the scheduler."""
    noise = torch.randn(latent.shape, generator=generator, device=latent.device)
    steps = scheduler.config["num_train_timesteps"]
    return noise, torch.randint(steps, (len(latent),), generator=generator, device=latent.device)


class DiffusionLoss(nn.Module):
    """L2 of Ho et al. 2020 plus the L1 term of Selim et al. 2023, both on the noise.

    Args:
        scheduler: A diffusers scheduler that can add noise.
        l1_weight: Weight of the L1 term.
    """

    def __init__(self, scheduler: NoiseScheduler, l1_weight: float):
        super().__init__()
        self.scheduler, self.l1_weight = scheduler, l1_weight

    def draw(self, latent_b: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw noise and times, see `draw_noise_and_time`."""
        return draw_noise_and_time(self.scheduler, latent_b, generator)

    def forward(
        self,
        denoiser: nn.Module,
        latent_a: torch.Tensor,
        latent_b: torch.Tensor,
        noise: torch.Tensor,
        timestep: torch.Tensor,
    ) -> torch.Tensor:
        """Return the loss, a scalar, of normalized Z_A and Z_B (B, C, L) with noise and times of `draw`."""
        z_t = self.scheduler.add_noise(latent_b, noise, timestep)
        error = denoiser(z_t, timestep, latent_a).sample.float() - noise
        return error.square().mean() + self.l1_weight * error.abs().mean()


class PlacewiseDiffusionLoss(nn.Module):
    """Squared error of the scheduler's prediction target, weighted by position, for a network that sees a reference.

    Not in Selim et al. 2023: positions in the patient count most, and the error e of a pair counts as m log(1 + e / m),
    where m is `BOUND`. Two kernels of one sinogram differ by little more than a curve, which must be right to 5 %, while
    what a smoother removed scatters widely; it would dominate a plain mean.

    Args:
        scheduler: A diffusers scheduler with v-prediction.
        last_step_share: Share of the draws at the last time, pure noise, where the network predicts the mean of what it
            would sample. This is the first step of sampling, and the only one of a regression, for which the share is 1.
    """

    def __init__(self, scheduler: VelocityScheduler, last_step_share: float):
        super().__init__()
        self.scheduler, self.last_step_share = scheduler, last_step_share

    def draw(self, residual: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw noise like residuals (B, C, L), and times (B,)."""
        noise, timestep = draw_noise_and_time(self.scheduler, residual, generator)
        is_last = torch.rand(len(residual), generator=generator, device=residual.device) < self.last_step_share
        return noise, torch.where(is_last, self.scheduler.config["num_train_timesteps"] - 1, timestep)

    def forward(
        self,
        denoiser: nn.Module,
        residual: torch.Tensor,
        latent_a: torch.Tensor,
        condition: tuple[torch.Tensor, ...],
        weight: torch.Tensor,
        noise: torch.Tensor,
        timestep: torch.Tensor,
    ) -> torch.Tensor:
        """Return the loss, a scalar.

        Args:
            denoiser: `ReferenceUNet1DModel`.
            residual: What is diffused, (B, C, L).
            latent_a: Z_A, (B, C, L), normalized.
            condition: Further arguments of the denoiser: tokens, shift, whitening and tails.
            weight: Share of the patient in every position, (B, 1, L).
            noise, timestep: From `draw`.
        """
        noisy = self.scheduler.add_noise(residual, noise, timestep)
        predicted = denoiser(noisy, timestep, latent_a, *condition).sample.float()
        error = (predicted - self.scheduler.get_velocity(residual, noise, timestep)).square().mean(1, keepdim=True)
        weight = AIR_WEIGHT + (1 - AIR_WEIGHT) * weight
        of_pair = (error * weight).sum((1, 2)) / weight.sum((1, 2))  # [B]
        return BOUND * torch.log1p(of_pair / BOUND).mean()
