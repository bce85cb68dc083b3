"""A history of fakes, so that a discriminator does not forget (Shrivastava et al. 2017, section 2.3)."""

from __future__ import annotations

import torch
from torch import nn


class ImagePool(nn.Module):
    """Returns a batch with about half of its images swapped for earlier ones, which they replace in the pool.

    Its images are buffers, so that checkpoints include them and a resumed run equals an uninterrupted one.

    Args:
        size: Images kept; 50 in CycleGAN (Zhu et al. 2017, section 4).
        image_size: Side of the images in pixels.
    """

    images: torch.Tensor
    filled: torch.Tensor

    def __init__(self, size: int, image_size: int):
        super().__init__()
        self.register_buffer("images", torch.zeros(size, 1, image_size, image_size))
        self.register_buffer("filled", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def forward(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Exchange images (B, 1, n, n), chosen by a random generator; return (B, 1, n, n) without gradients."""
        images = images.detach().float()
        size, filled, given = len(self.images), int(self.filled), []
        for image in images:
            kept, swap = torch.rand(2, generator=generator, device=generator.device).tolist()
            if filled < size:
                self.images[filled] = image
                filled += 1
            elif swap < 0.5:
                earlier = self.images[int(kept * size)].clone()
                self.images[int(kept * size)] = image
                image = earlier
            given.append(image)
        self.filled.fill_(filled)
        return torch.stack(given)
