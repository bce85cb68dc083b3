"""The linear part of a change of kernel: a radial filter in lp/cm, driven by the latent's style.

Not in Selim et al. 2023. A kernel is defined per physical frequency, so a network that does not know the pixel spacing
mis-sharpens every other field of view.
"""

import torch
import torch.nn.functional as F
from torch import nn

from .frequency import knot_position, radial_frequency, ramp
from .local_spectrum import LOG_POWER_UNIT

PADDING = 32  # pixels, by reflection: more than the support of any kernel, so that the borders do not wrap around
BAND_CENTRES = (3.0, 5.0, 7.0, 9.0)  # lp/cm; the last band is open-ended
TRUSTED_LP_CM = (0.5, 2.0)  # the weight of the power that styles hold grows from 0 to 1 in between
# All kernels have MTF 1 at 0: what is slower than this keeps its HU by construction. The checkpoint was trained with 0.6;
# 0.9 leaves its texture as it is and halves what bone loses.
KEPT_LP_CM = 0.9


class StyleFilter(nn.Module):
    """Filter a slice by exp(log-gain(frequency)), the log-gain following from source and target style.

    Where style channels hold log power, the gain is that which matches it (as `LinearFilter("power")` does): a network
    on top of that was tried, and learnt gains that held in the image domain of the training pairs only. Without such
    channels a network gives the gain. Either way the same style on both sides gives a gain of exactly 1, and what is
    slower than 0.9 lp/cm keeps its HU.

    Args:
        style_channels: C of the styles (B, C).
        spectrum: Slice of the channels that hold the log power at the knots in units of `LOG_POWER_UNIT`, or None.
        knots: Number of frequencies from 0 to 12 lp/cm with a gain of their own.
        hidden: Width of the network.
    """

    def __init__(self, style_channels, spectrum=None, knots=24, hidden=128):
        super().__init__()
        self.knots, self.spectrum = knots, spectrum
        if spectrum is not None:
            # Slow content is anatomy, whose power says nothing of the kernel. Amplitude: half the log power.
            trust = ramp(knots, *TRUSTED_LP_CM)
            self.register_buffer("power_to_gain", trust * LOG_POWER_UNIT / 2, persistent=False)
        else:
            self.mlp = nn.Sequential(
                nn.Linear(2 * style_channels, hidden),
                nn.SiLU(),
                nn.Linear(hidden, hidden),
                nn.SiLU(),
                nn.Linear(hidden, knots),
            )

    def log_gain(self, source_style, target_style):
        """(B, C) styles -> (B, knots) log-gains over 0 to 12 lp/cm."""
        if self.spectrum is not None:
            return (target_style - source_style)[:, self.spectrum] * self.power_to_gain
        gain = self.mlp(torch.cat([source_style, target_style], 1))
        gain = gain - self.mlp(torch.cat([source_style, source_style], 1))
        return torch.cat([torch.zeros_like(gain[:, :1]), gain[:, 1:]], 1)

    def forward(self, sample, source_style, target_style, pixel_spacing):
        """Filter a slice.

        Args:
            sample: (B, 1, H, W), model range.
            source_style, target_style: (B, C) pooled latents.
            pixel_spacing: (B,) in mm.

        Returns:
            The filtered slice (B, 1, H, W) and its bands around `BAND_CENTRES` (B, 4, H, W), float32.
        """
        spectrum, frequency = _spectrum(sample, pixel_spacing)
        position = knot_position(frequency, self.knots).clamp(max=self.knots - 1.001)
        index = position.long()
        log_gain = self.log_gain(source_style.float(), target_style.float())
        low = torch.gather(log_gain, 1, index.flatten(1)).view_as(position)
        high = torch.gather(log_gain, 1, index.flatten(1) + 1).view_as(position)
        log_gain = (low + (high - low) * (position - index)) * _changeable(frequency)
        spectrum = spectrum * torch.exp(log_gain)[:, None]
        weights = torch.cat([torch.ones_like(frequency)[:, None], band_weights(frequency)], 1)
        filtered = _image(spectrum * weights, sample.shape[-2:])
        return filtered[:, :1], filtered[:, 1:]


def keep_slow_content(residual, pixel_spacing):
    """Remove from a correction (B, 1, H, W) what would change the mean HU of a region."""
    spectrum, frequency = _spectrum(residual, pixel_spacing)
    return _image(spectrum * _changeable(frequency)[:, None], residual.shape[-2:])


def _changeable(frequency):
    """0 for slow content, which keeps its HU, to 1."""
    return 1 - torch.exp(-((frequency / KEPT_LP_CM) ** 2))


def band_weights(frequency):
    """Overlapping bands that sum to 1 above the first centre: (B, H, W) lp/cm -> (B, 4, H, W)."""
    width = BAND_CENTRES[1] - BAND_CENTRES[0]
    hats = [(1 - (frequency - centre).abs() / width).clamp(min=0) for centre in BAND_CENTRES[:-1]]
    hats.append(((frequency - BAND_CENTRES[-1]) / width + 1).clamp(0, 1))
    return torch.stack(hats, 1)


def _spectrum(image, pixel_spacing):
    # Reflection needs more pixels than it adds: small images are padded by what they have.
    pad_y, pad_x = (min(PADDING, size - 1) for size in image.shape[-2:])
    padded = F.pad(image.float(), (pad_x, pad_x, pad_y, pad_y), mode="reflect")
    return torch.fft.rfft2(padded), radial_frequency(*padded.shape[-2:], pixel_spacing)


def _image(spectrum, size):
    height, width = size
    pad_y, pad_x = (min(PADDING, length - 1) for length in size)
    padded = torch.fft.irfft2(spectrum, s=(height + 2 * pad_y, width + 2 * pad_x))
    return padded[..., pad_y : pad_y + height, pad_x : pad_x + width]
