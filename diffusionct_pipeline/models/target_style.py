"""Which style a slice will have under the target's kernel."""

import torch
from torch import nn


class TargetStyle(nn.Module):
    """Translate the target's style to a slice's own anatomy and dose: a noisy scan is noisier still with a sharp kernel.

    Not in Selim et al. 2023. A pooled style mixes noise with anatomy, and says too little of the kernel behind it; this
    network looks at every position of Z_A and weighs those that show the noise best (attention pooling). It says for
    each channel how far to go towards the reference, and what to add: a kernel sharper than all of the training is
    then followed as far as its share says.

    Args:
        style_channels: C of latents (B, C, L) and styles (B, C).
        hidden: Width.
        heads: Number of ways to weigh the positions.
    """

    def __init__(self, style_channels, hidden=256, heads=8):
        super().__init__()
        # Style of the checkpoint's standard, learnt; stands in where no reference is given.
        self.standard = nn.Parameter(torch.zeros(style_channels))
        seen = 3 * style_channels + 1
        self.features = nn.Sequential(nn.Linear(seen, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU())
        self.weights = nn.Linear(hidden, heads)
        self.values = nn.Linear(hidden, hidden // heads)
        summary = heads * (hidden // heads) + 2 * style_channels + 1
        self.change = nn.Sequential(nn.Linear(summary, hidden), nn.SiLU(), nn.Linear(hidden, 2 * style_channels))
        nn.init.zeros_(self.change[-1].weight)
        nn.init.zeros_(self.change[-1].bias)

    def forward(self, latent_a, source_style, pixel_spacing, reference_style=None):
        """Predict the style of the standardized slice.

        Args:
            latent_a: Z_A, (B, C, L), standardized per channel.
            source_style: Its pooled latent, (B, C), standardized.
            pixel_spacing: (B,) in mm: small pixels show more of the noise of a sharp kernel.
            reference_style: Pooled latent of scans with the target's kernel, (1, C) or (B, C), standardized; None takes
                the checkpoint's own standard.

        Returns:
            (B, C), standardized, float32.
        """
        if reference_style is None:
            reference_style = self.standard[None]
        difference = reference_style - source_style  # [B,C]
        spacing = 4 * torch.log(pixel_spacing / 0.7)[:, None]  # unit-ish range
        known = torch.cat([source_style, difference, spacing], 1)  # [B,2C+1]
        latent_a, known = latent_a.to(self.standard.dtype), known.to(self.standard.dtype)
        each = latent_a.transpose(1, 2)  # [B,L,C]
        features = self.features(torch.cat([each, known[:, None].expand(-1, each.shape[1], -1)], 2))
        weights = self.weights(features).softmax(1)  # [B,L,heads]
        summary = (weights.transpose(1, 2) @ self.values(features)).flatten(1)
        share, change = self.change(torch.cat([summary, known], 1)).float().chunk(2, 1)
        return source_style + torch.sigmoid(share) * difference + change
