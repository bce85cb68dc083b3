"""DDPM in image space: the costlier, less stable alternative to latent diffusion."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from diffusers.configuration_utils import register_to_config
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from scipy.ndimage import gaussian_filter
from torch.optim import AdamW, Optimizer

from ...image_processor import to_hu, to_model
from .networks import reflected_to
from .protocol import slice_seed
from .trained import Recipe, SystemTraining, TrainedSystem

STEPS = 50  # of DDIM [G]: more gain little (Song et al. 2021, table 1)
TRAIN_TIMESTEPS = 1000
# A kernel does not change low frequencies. A slice has failed if its local mean (Gaussian of so many pixels) differs from
# the source's by more than this (root mean square over the slice): it shows other anatomy, or none.
SLOW_PIXELS, FAILED_HU = 8.0, 50.0


class DDPM(TrainedSystem):
    """Conditional diffusion of slices, with A as a channel beside the noisy B (Saharia et al. 2021, SR3; 2022, Palette).

    The network and the schedule are diffusers'; v-prediction (Salimans and Ho 2022) over a cosine schedule (Nichol and
    Dhariwal 2021). No attention, so that a network trained on crops can sample whole slices.

    Args:
        block_out_channels: Widths; 64 times 1, 2, 4, 8.
        layers_per_block: Residual layers at each.
        norm_groups: Groups of group normalization.
        num_inference_steps: Steps of DDIM.

    Attributes:
        seed: Seed of the noise of `standardize`.
        slices, failed: Number of standardized slices, and how many of them failed.
    """

    recipe = Recipe(crop=128, batch_size=4, learning_rate=1e-4)  # SR3, section 4: 1e-4; crops of 128 to 256

    @register_to_config
    def __init__(
        self,
        block_out_channels: tuple[int, ...] = (64, 128, 256, 512),
        layers_per_block: int = 2,
        norm_groups: int = 32,
        num_inference_steps: int = STEPS,
    ):
        super().__init__()
        levels = len(block_out_channels)
        self.unet = UNet2DModel(
            in_channels=2, out_channels=1, block_out_channels=block_out_channels, layers_per_block=layers_per_block,
            down_block_types=("DownBlock2D",) * levels, up_block_types=("UpBlock2D",) * levels,
            norm_num_groups=norm_groups, add_attention=False,
        )  # fmt: skip
        self.multiple = 2 ** (levels - 1)
        self.scheduler = DDIMScheduler(
            num_train_timesteps=TRAIN_TIMESTEPS, beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction",
            timestep_spacing="trailing", clip_sample=False, rescale_betas_zero_snr=True,
        )  # fmt: skip
        self.seed = self.slices = self.failed = 0

    @property
    def remark(self) -> str:
        """Mention failed slices."""
        return f"{self.failed} of {self.slices} slices failed" if self.failed else ""

    def standardize_slice(
        self, hu: np.ndarray, pixel_spacing: float, position_mm: float, thickness_mm: float | None, seed: int
    ) -> np.ndarray:
        """Standardize one slice of a scan; see `System.standardize_slice`. Each position gets noise of its own."""
        return self._apply_to_slice(partial(self.sample, seed=slice_seed(seed, position_mm)), hu)

    def translate(self, hu: torch.Tensor) -> torch.Tensor:
        """Sample (B, 1, H, W) HU with the target's texture by noise of `seed`; same shape."""
        return self.sample(hu, self.seed)

    @torch.no_grad()
    def sample(self, hu: torch.Tensor, seed: int) -> torch.Tensor:
        """Sample (B, 1, H, W) HU with the target's texture; same shape. Failed slices are counted, not repaired."""
        condition = reflected_to(to_model(hu), self.multiple)
        noise = torch.randn(condition.shape, generator=torch.Generator().manual_seed(seed))
        sample = noise.to(condition)
        self.scheduler.set_timesteps(self.config["num_inference_steps"])
        for timestep in self.scheduler.timesteps:
            velocity = self.unet(torch.cat([sample, condition], 1), timestep).sample
            sample = self.scheduler.step(velocity, int(timestep), sample, return_dict=False)[0]
        drawn = to_hu(sample[..., : hu.shape[-2], : hu.shape[-1]].float())
        self.slices += len(hu)
        self.failed += sum(has_failed(slice_hu, source) for slice_hu, source in zip(drawn[:, 0], hu[:, 0]))
        return drawn

    def make_training(self, crop: int) -> SystemTraining:
        """Return the training by the mean squared error of v."""
        return DDPMTraining(self)


class DDPMTraining(SystemTraining):
    """Mean squared error of v at a random time."""

    system: DDPM

    def optimizers(self, learning_rate: float) -> dict[str, Optimizer]:
        """Return the only one."""
        return {"network": AdamW(self.system.parameters(), learning_rate)}

    def turns(self, done: float) -> Sequence[str]:
        """Return the only turn."""
        return ("network",)

    def forward(
        self, source: torch.Tensor, target: torch.Tensor, generator: torch.Generator, turn: str
    ) -> dict[str, torch.Tensor]:
        x, y = to_model(source), to_model(target)
        noise = torch.randn(y.shape, generator=generator, device=y.device)
        timestep = torch.randint(TRAIN_TIMESTEPS, (len(y),), generator=generator, device=y.device)
        scheduler = self.system.scheduler
        noisy, velocity = scheduler.add_noise(y, noise, timestep), scheduler.get_velocity(y, noise, timestep)
        predicted = self.system.unet(torch.cat([noisy, x], 1), timestep).sample.float()
        return {"loss": (predicted - velocity).square().mean()}


def has_failed(drawn_hu: torch.Tensor, source_hu: torch.Tensor) -> bool:
    """Return whether a slice (H, W) is not finite, or its low frequencies differ from the source's."""
    if not drawn_hu.isfinite().all():
        return True
    difference = gaussian_filter((drawn_hu - source_hu).float().cpu().numpy(), SLOW_PIXELS)
    return bool((difference**2).mean() ** 0.5 > FAILED_HU)
