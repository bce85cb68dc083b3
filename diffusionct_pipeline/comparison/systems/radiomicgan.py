"""RadiomicGAN: a pretrained encoder, trained in successively wider windows of HU."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from torch import nn
from torch.optim import Optimizer

from .networks import PatchDiscriminator, VGG19Features, logistic, reflected_to
from .trained import HURange, Recipe, SystemTraining, TrainedSystem, adam

L1_WEIGHT = 100.0  # Selim et al. 2021
WINDOW_LOW, WINDOW_WIDTHS = -1024.0, (255.0, 511.0, 1023.0, 1500.0)  # HU, window training
WINDOWS = tuple(HURange(WINDOW_LOW, WINDOW_LOW + width) for width in WINDOW_WIDTHS)
DOWNSAMPLING = 8  # block four of the encoder is at an eighth


class RadiomicGAN(TrainedSystem):
    """Selim et al. 2021 ("CT image harmonization for enhancing radiomics studies") [C].

    A VGG-19 sees the slice as three equal channels. A 3 x 3 convolution with batch normalization adapts each of its
    four blocks, the decoder upsamples by nearest neighbours, and the output is a tanh. What the last window clips is
    kept as a residual.

    Args:
        vgg_channels: First width of the VGG-19 and of the decoder.
        base_channels: First width of the discriminator.
        pretrained_vgg: Whether the encoder has its published weights, which are then frozen; otherwise it is trained [G].
    """

    recipe = Recipe(crop=512, batch_size=1, learning_rate=2e-4)  # full slices; pix2pix' optimizer [G]

    @register_to_config
    def __init__(self, vgg_channels: int = 64, base_channels: int = 64, pretrained_vgg: bool = False):
        super().__init__()
        self.encoder = VGG19Features(vgg_channels)
        widths = self.encoder.widths
        self.adapters = nn.ModuleList(convolution(width, width) for width in widths)
        self.decoder = nn.ModuleList(convolution(a + b, b) for a, b in zip(widths[:0:-1], widths[-2::-1]))
        self.last = nn.Sequential(nn.Conv2d(widths[0], 1, 3, padding=1), nn.Tanh())

    @property
    def remark(self) -> str:
        """Mention an encoder that started from random weights."""
        return "" if self.config["pretrained_vgg"] else "random VGG-19"

    def draw(self, scaled: torch.Tensor) -> torch.Tensor:
        """Give (B, 1, H, W) in -1 to 1 of a window the target's texture; same shape."""
        features = self.encoder(reflected_to(scaled, DOWNSAMPLING))
        *skips, hidden = (adapter(feature) for adapter, feature in zip(self.adapters, features))
        for block, skip in zip(self.decoder, reversed(skips)):
            hidden = block(torch.cat([F.interpolate(hidden, scale_factor=2, mode="nearest"), skip], 1))
        return self.last(hidden)[..., : scaled.shape[-2], : scaled.shape[-1]]

    def translate(self, hu: torch.Tensor) -> torch.Tensor:
        """Give (B, 1, H, W) HU the target's texture inside the last window, unchanged outside; same shape."""
        window = WINDOWS[-1]
        return window.to_hu(self.draw(window.scaled(hu)).float()) + window.excess(hu)

    def make_training(self, crop: int) -> SystemTraining:
        """Return the training in four stages of windows."""
        return RadiomicGANTraining(self)


class RadiomicGANTraining(SystemTraining):
    """GAN and L1; each quarter of the budget uses a wider window and starts from the weights of the one before."""

    system: RadiomicGAN

    def __init__(self, system: RadiomicGAN):
        super().__init__(system)
        self.discriminator = PatchDiscriminator(2, system.config["base_channels"])
        self.window = WINDOWS[0]

    def optimizers(self, learning_rate: float) -> dict[str, Optimizer]:
        """Return those of generator and discriminator."""
        return {
            "generator": adam(learning_rate, self.system),
            "discriminator": adam(learning_rate, self.discriminator),
        }

    def turns(self, done: float) -> Sequence[str]:
        """Return both turns; the share of the budget that is spent determines the window."""
        self.window = WINDOWS[min(int(done * len(WINDOWS)), len(WINDOWS) - 1)]
        return ("discriminator", "generator")

    def forward(
        self, source: torch.Tensor, target: torch.Tensor, generator: torch.Generator, turn: str
    ) -> dict[str, torch.Tensor]:
        x, y = self.window.scaled(source), self.window.scaled(target)
        if turn == "discriminator":
            with torch.no_grad():
                fake = self.system.draw(x)
            real, false = (self.discriminator(torch.cat([x, image], 1)) for image in (y, fake))
            loss = (logistic(real, True) + logistic(false, False)) / 2
            return {"discriminator": loss, "loss": loss}
        fake = self.system.draw(x)
        adversarial = logistic(self.discriminator(torch.cat([x, fake], 1)), True)
        l1 = (fake.float() - y).abs().mean()
        return {"adversarial": adversarial, "l1": l1, "loss": adversarial + L1_WEIGHT * l1}


def convolution(into: int, out: int) -> nn.Sequential:
    """Return a 3 x 3 convolution with batch normalization."""
    return nn.Sequential(nn.Conv2d(into, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU())
