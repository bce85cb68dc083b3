"""The losses, each with its source.

Phase one weighs any of `RECONSTRUCTION_LOSSES`; to add one, write it here and name it with its weight on the command line.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import SchedulerMixin
from torch import nn

UNPREDICTABLE = 0.003  # model range^2, (27 HU)^2: errors beyond are mostly noise that the source does not hold


@dataclass(frozen=True)
class Reconstruction:
    """What the losses of phase one look at.

    Attributes:
        drawn, target: (B, 1, H, W), model range.
        latent: (B, C, L), not normalized.
        filtered: (B, 1, H, W), what the decoder's linear filter alone makes; None where there is none.
    """

    drawn: torch.Tensor
    target: torch.Tensor
    latent: torch.Tensor
    filtered: torch.Tensor | None = None


class SquaredError(nn.Module):
    """L2 between slices (Selim et al. 2023)."""

    def forward(self, made: Reconstruction) -> torch.Tensor:
        return error_of_slices(made).mean()


class BoundedSquaredError(nn.Module):
    """L2, sublinear for slices of much noise: with a limit m the error e of a slice counts as m log(1 + e / m).

    Not in Selim et al. 2023. A sharp kernel shows noise that a soft one does not hold. Plain L2 would smooth the texture
    of noisy slices to be rid of it, against the spectrum loss.
    """

    def forward(self, made: Reconstruction) -> torch.Tensor:
        return UNPREDICTABLE * torch.log1p(error_of_slices(made) / UNPREDICTABLE).mean()


def error_of_slices(made: Reconstruction) -> torch.Tensor:
    """Mean squared error (B,) of each slice, model range^2."""
    return (made.drawn.float() - made.target.float()).square().mean((1, 2, 3))


class LocalSpectrumLoss(nn.Module):
    """L1 between log local power spectra: keeps texture power, which L2 regresses to its mean.

    Not in Selim et al. 2023; takes the place of its "anatomic loss".

    Args:
        window: Side of the Hann windows in pixels.
        stride: Distance of the windows in pixels.
        rings: Rings of equal width up to the corner-free Nyquist frequency; the corners count to the last.
        floor: Added to the power; 1e-3 is the power that a noise of 0.8 HU leaves in a 32 x 32 window.
    """

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
        """(B, 1, H, W) -> (windows, rings)."""
        windows = image[:, 0].float().unfold(1, self.window_size, self.stride).unfold(2, self.window_size, self.stride)
        windows = windows.flatten(0, 2)
        windows = (windows - windows.mean((1, 2), keepdim=True)) * self.hann
        spectrum = torch.fft.rfft2(windows)
        power = (spectrum.real.square() + spectrum.imag.square()).flatten(1)
        return torch.log(power @ self.averages + self.floor)

    def forward(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """(B, 1, H, W) in model range, twice -> a scalar."""
        with torch.autocast(prediction.device.type, enabled=False):  # bfloat16 has 3 digits, the power spans 8
            return (self.log_spectrum(prediction) - self.log_spectrum(target)).abs().mean()


class SpectrumOfDrawn(LocalSpectrumLoss):
    """`LocalSpectrumLoss` of the decoder's slices."""

    def forward(self, made: Reconstruction) -> torch.Tensor:
        return super().forward(made.drawn, made.target)


class SpectrumOfFiltered(LocalSpectrumLoss):
    """`LocalSpectrumLoss` of the linear filter by itself: its gain comes straight from the latent, which this trains."""

    def forward(self, made: Reconstruction) -> torch.Tensor:
        return super().forward(made.filtered, made.target)


class SquaredLatent(nn.Module):
    """Keeps the latent near unit scale. Not in Selim et al. 2023."""

    def forward(self, made: Reconstruction) -> torch.Tensor:
        return made.latent.float().square().mean()


# Name -> module from a `Reconstruction` to a scalar.
RECONSTRUCTION_LOSSES: dict[str, type[nn.Module]] = {
    "l2": SquaredError,
    "bounded_l2": BoundedSquaredError,
    "spectrum": SpectrumOfDrawn,
    "filter_spectrum": SpectrumOfFiltered,
    "latent": SquaredLatent,
}


class WeightedLosses(nn.Module):
    """A sum of some of `RECONSTRUCTION_LOSSES`.

    Args:
        weights: Name -> weight; 0 for one that is only logged.

    Raises:
        ValueError: for an unknown name.
    """

    def __init__(self, weights: dict[str, float]):
        super().__init__()
        unknown = sorted(set(weights) - set(RECONSTRUCTION_LOSSES))
        if unknown or not weights:
            raise ValueError(f"`losses` names {unknown or 'nothing'}; legal are {', '.join(RECONSTRUCTION_LOSSES)}.")
        self.weights = dict(weights)
        self.losses = nn.ModuleDict({name: RECONSTRUCTION_LOSSES[name]() for name in weights})

    def forward(self, made: Reconstruction) -> dict[str, torch.Tensor]:
        """Every loss by name, and their weighted sum as "loss"."""
        losses = {name: loss(made) for name, loss in self.losses.items()}
        return losses | {"loss": sum(self.weights[name] * loss for name, loss in losses.items())}


class DiffusionLoss(nn.Module):
    """L2 of Ho et al. 2020 plus the L1 term of Selim et al. 2023, both on what the scheduler asks for: noise, v or Z_B.

    Args:
        scheduler: A diffusers scheduler that can add noise.
        l1_weight: Of the L1 term.
        draws: Noise levels for each pair: encoding a pair costs more than denoising it.
    """

    def __init__(self, scheduler: SchedulerMixin, l1_weight: float, draws: int = 1):
        super().__init__()
        self.scheduler, self.l1_weight, self.draws = scheduler, l1_weight, draws

    def draw(self, latent_b: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Noise (B * draws, C, L) and times (B * draws,) for latents (B, C, L)."""
        shape = (self.draws * len(latent_b), *latent_b.shape[1:])
        noise = torch.randn(shape, generator=generator, device=latent_b.device)
        steps = self.scheduler.config.num_train_timesteps
        return noise, torch.randint(steps, shape[:1], generator=generator, device=latent_b.device)

    def forward(
        self,
        denoiser: nn.Module,
        latent_a: torch.Tensor,
        latent_b: torch.Tensor,
        condition: torch.Tensor | None,
        noise: torch.Tensor,
        timestep: torch.Tensor,
    ) -> torch.Tensor:
        """Normalized Z_A and Z_B (B, C, L), a condition (B, K) or None, and what `draw` gave -> a scalar."""
        latent_a, latent_b = (latent.repeat_interleave(self.draws, 0) for latent in (latent_a, latent_b))
        condition = None if condition is None else condition.repeat_interleave(self.draws, 0)
        z_t = self.scheduler.add_noise(latent_b, noise, timestep)
        predicted = denoiser(z_t, timestep, latent_a, condition).sample.float()
        wanted = {
            "epsilon": lambda: noise,
            "sample": lambda: latent_b,
            "v_prediction": lambda: self.scheduler.get_velocity(latent_b, noise, timestep),
        }[self.scheduler.config.prediction_type]()
        error = predicted - wanted.float()
        return error.square().mean() + self.l1_weight * error.abs().mean()
