"""Encoder-decoder: the paper's phase one alone, which reproduces a slice and knows no target."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ...image_processor import to_hu, to_model
from ...models import AutoencoderResNet18
from ...models.autoencoder_resnet18 import DOWNSAMPLING
from .networks import reflected_to
from .protocol import FittingPair, System

AUTOENCODER = "autoencoder"  # subfolder of the output of training/train_literal_autoencoder.py


class EncoderDecoder(nn.Module, System):
    """decode(encode(A)) (Selim et al. 2023, section 3.1).

    Its oracle is decode(encode(B)), its output for the target itself: nothing that uses this decoder can come closer.

    Args:
        autoencoder: Trained by training/train_literal_autoencoder.py; None for random weights.
    """

    target_kernel = ""

    def __init__(self, autoencoder: AutoencoderResNet18 | None = None):
        super().__init__()
        self.autoencoder = (autoencoder or AutoencoderResNet18()).eval()

    def fit(self, pairs: Iterable[FittingPair]) -> EncoderDecoder:
        """Do nothing, as there is no target; return the system itself."""
        return self

    @torch.no_grad()
    def standardize(self, hu: np.ndarray, pixel_spacing: float) -> np.ndarray:
        """Encode and decode (H, W) HU; return (H, W) float32 HU."""
        height, width = hu.shape
        image = torch.from_numpy(np.array(hu, np.float32))[None, None].to(self.autoencoder.device)
        latent, skips = self.autoencoder.encode(reflected_to(to_model(image), DOWNSAMPLING))
        return to_hu(self.autoencoder.decode(latent, skips))[0, 0, :height, :width].float().cpu().numpy()

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the autoencoder, as phase one does."""
        self.autoencoder.save_pretrained(Path(folder) / AUTOENCODER)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> EncoderDecoder:
        """Load what `save_pretrained` or training/train_literal_autoencoder.py wrote.

        Raises:
            ValueError, OSError: naming the folder and the reason.
        """
        return cls(AutoencoderResNet18.from_pretrained(Path(folder) / AUTOENCODER))
