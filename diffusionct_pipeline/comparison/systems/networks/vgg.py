"""VGG-19 up to its fourth block, to measure or to encode by; the pretrained weights come from the user."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

LAYERS = (2, 2, 4, 4)  # convolutions of the first four blocks, Simonyan and Zisserman 2015, table 1, column E
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, which the published weights want


class VGG19Features(nn.Module):
    """Features of the first four blocks, before each pooling: relu1_2, relu2_2, relu3_4, relu4_4.

    Its weights are named as in torchvision ("features.0.weight"), whose `vgg19(weights="DEFAULT").state_dict()`, stored
    by `safetensors.torch.save_file`, is what `load` takes.

    Args:
        base_channels: 64 in the paper; others are for tests and cannot take pretrained weights.
    """

    def __init__(self, base_channels: int = 64):
        super().__init__()
        self.widths = [base_channels * factor for factor in (1, 2, 4, 8)]
        layers, into = [], 3
        for width, count in zip(self.widths, LAYERS):
            for _ in range(count):
                layers += [nn.Conv2d(into, width, 3, padding=1), nn.ReLU()]
                into = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers[:-1])
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))
        for layer in self.features:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")  # else 12 layers let nothing through
                nn.init.zeros_(layer.bias)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """(B, 1, H, W) in -1 to 1, taken as three equal channels -> features of the four blocks."""
        hidden, features = ((image + 1) / 2 - self.mean) / self.std, []
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                features.append(hidden)
            hidden = layer(hidden)
        return [*features, hidden]

    def load(self, path: str | Path) -> VGG19Features:
        """Take pretrained weights from a .safetensors file and freeze them; returns itself.

        Raises:
            ValueError: if the file holds no VGG-19 in torchvision's layout.
        """
        stored, own = load_file(path), dict(self.named_parameters())
        missing = [name for name in own if name not in stored or stored[name].shape != own[name].shape]
        if missing:
            raise ValueError(f'"{path}" lacks {missing[0]} of a VGG-19; legal are weights in torchvision\'s layout.')
        self.load_state_dict({name: stored[name] for name in own}, strict=False)
        return self.requires_grad_(False)
