"""A learnt eye: how sharp a patch of a CT slice is, from its edges and its texture, where no skin is in view."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

NORM_GROUPS = 8
CELL = 4  # pixels on a side become channels: the first filters see 12 x 12 pixels, as wide as a wave of 1.2 lp/cm
NEIGHBOURHOOD = 7  # pixels: detail is what exceeds the mean of so many in a square
LOWEST_SAMPLE, HIGHEST_SAMPLE = -2.1, 3.5  # model range: air to dense bone
FINE_DETAIL, FAINTEST = 0.03, 1e-3  # model range: detail that soft tissue has, and detail that no image lacks
USUAL_NYQUIST, NYQUIST_SCALE = 6.0, 2.0  # lp/cm
# Natural logarithm of the MTF of a common kernel at 1, 2, ... lp/cm: where an untrained eye begins.
USUAL_LOG_MTF = (-0.05, -0.2, -0.45, -0.85, -1.3, -1.8, -2.3, -2.9, -3.4, -4.0)
LOG_VARIANCE = (-6.0, 3.0)


class KernelEye(ModelMixin, ConfigMixin):
    r"""ResNet-18 on patches: mean and variance of log T, the logarithm of the kernel's MTF, at 1, 2, ... lp/cm.

    Three views of a patch go in: its values, its detail, and its detail relative to the median of that, which depends
    neither on dose nor on contrast. Group normalization makes the answer for a patch the same in every batch, in
    training and after. What held-out series showed of its errors is stored with the weights.

    Args:
        frequencies: N: the answer is log T at 1, 2, ... N lp/cm.
        width: Channels of the first stage, a multiple of 8; they double three times.
        layers_per_stage: Residual blocks of a stage; 2 makes it ResNet-18.
        pixel_mm: Side of a pixel of the patches.
        patch_pixels: Side of a patch, a multiple of 32.
    """

    config_name = "config.json"
    _supports_gradient_checkpointing = False
    _keep_in_fp32_modules = ["error_moments"]

    @register_to_config
    def __init__(
        self,
        frequencies: int = 7,
        width: int = 16,
        layers_per_stage: int = 2,
        pixel_mm: float = 0.7,
        patch_pixels: int = 96,
    ):
        super().__init__()
        if not 1 <= frequencies <= len(USUAL_LOG_MTF):
            raise ValueError(f"`frequencies` must be between 1 and {len(USUAL_LOG_MTF)}, got {frequencies}")
        if width < NORM_GROUPS or width % NORM_GROUPS:
            raise ValueError(f"`width` must be a multiple of {NORM_GROUPS}, got {width}")
        if patch_pixels < 32 or patch_pixels % 32:
            raise ValueError(f"`patch_pixels` must be a multiple of 32, got {patch_pixels}")
        self.stem = nn.Sequential(
            nn.Conv2d(3 * CELL**2, width, 3, padding=1, bias=False), nn.GroupNorm(NORM_GROUPS, width), nn.ReLU()
        )
        widths = [width * 2**stage for stage in range(4)]
        blocks = []
        for stage, (before, after) in enumerate(zip([width, *widths], widths)):
            blocks.append(ResidualBlock(before, after, stride=1 if stage == 0 else 2))
            blocks += [ResidualBlock(after, after) for _ in range(layers_per_stage - 1)]
        self.stages = nn.Sequential(*blocks)
        self.head = nn.Sequential(nn.Linear(2 * widths[-1] + 1, 64), nn.ReLU(), nn.Linear(64, 2 * frequencies))
        with torch.no_grad():
            self.head[-1].bias[:frequencies] = torch.tensor(USUAL_LOG_MTF[:frequencies])
            self.head[-1].bias[frequencies:] = -1.0
        # Second moments of a series' errors in units of its stated deviations; see `estimation.eye`.
        self.register_buffer("error_moments", torch.eye(frequencies))

    def forward(self, sample: torch.Tensor, nyquist: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Say how sharp patches are.

        Args:
            sample: (B, 1, P, P), model range, pixels of `config.pixel_mm`.
            nyquist: (B,) Nyquist frequency in lp/cm of the pixels that the scan has.

        Returns:
            Mean and logarithm of the variance of log T, (B, N) each.

        Raises:
            ValueError: if P is not `config.patch_pixels`.
        """
        side = self.config.patch_pixels
        if sample.ndim != 4 or sample.shape[1:] != (1, side, side):
            raise ValueError(f"`sample` must have the shape (B, 1, {side}, {side}), got {tuple(sample.shape)}")
        hidden = self.stages(self.stem(F.pixel_unshuffle(self.views(sample), CELL)))  # [B,8W,P/32,P/32]
        relative = (nyquist.to(hidden.dtype)[:, None] - USUAL_NYQUIST) / NYQUIST_SCALE
        mean, log_variance = self.head(torch.cat([hidden.mean((2, 3)), hidden.amax((2, 3)), relative], 1)).chunk(2, 1)
        return mean, log_variance.clamp(*LOG_VARIANCE)

    def views(self, sample: torch.Tensor) -> torch.Tensor:
        """Return values, detail, and detail relative to the patch's own: (B, 1, P, P) -> (B, 3, P, P)."""
        reach = NEIGHBOURHOOD // 2
        local_mean = F.avg_pool2d(F.pad(sample, (reach,) * 4, mode="reflect"), NEIGHBOURHOOD, 1)
        detail = sample - local_mean
        typical = (detail.abs() + FAINTEST).log().mean((2, 3), keepdim=True).exp()
        values = sample.clamp(LOWEST_SAMPLE, HIGHEST_SAMPLE)
        return torch.cat([values, torch.asinh(detail / FINE_DETAIL), torch.asinh(detail / typical)], 1)


class ResidualBlock(nn.Module):
    """Two convolutions and a shortcut; the basic block of He et al. 2016 with group normalization."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(NORM_GROUPS, out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(NORM_GROUPS, out_channels)
        self.shortcut = nn.Identity()
        if stride > 1 or in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        changed = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(hidden)))))
        return F.relu(self.shortcut(hidden) + changed)
