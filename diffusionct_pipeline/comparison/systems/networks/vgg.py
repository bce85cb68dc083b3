"""VGG-19 up to its fourth block, for losses or as an encoder; the user provides the pretrained weights."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

LAYERS = (2, 2, 4, 4)  # convolutions of the first four blocks, Simonyan and Zisserman 2015, table 1, column E
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, which the published weights expect


class VGG19Features(nn.Module):
    """Features of the first four blocks, before each pooling: relu1_2, relu2_2, relu3_4, relu4_4.

    Its weights are named as in torchvision ("features.0.weight"): `load` takes the `state_dict()` of torchvision's
    `vgg19(weights="DEFAULT")`, stored by `safetensors.torch.save_file`.

    Args:
        base_channels: 64 in the paper; other widths are for tests and cannot load pretrained weights.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, base_channels: int = 64):
        super().__init__()
        self.widths = [base_channels * factor for factor in (1, 2, 4, 8)]
        layers: list[nn.Module] = []
        into = 3
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
                nn.init.kaiming_normal_(
                    layer.weight, nonlinearity="relu"
                )  # otherwise the signal would vanish over 12 layers
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Return the features of the four blocks for (B, 1, H, W) in -1 to 1, used as three equal channels."""
        hidden, features = ((image + 1) / 2 - self.mean) / self.std, []
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                features.append(hidden)
            hidden = layer(hidden)
        return [*features, hidden]

    def load(self, path: str | Path) -> VGG19Features:
        """Load pretrained weights from a .safetensors file and freeze them; return the module itself.

        Raises:
            ValueError: if the file holds no VGG-19 in torchvision's layout.
        """
        stored, own = load_file(path), dict(self.named_parameters())
        missing = [name for name in own if name not in stored or stored[name].shape != own[name].shape]
        if missing:
            raise ValueError(
                f'"{path}" must hold a VGG-19 in torchvision\'s layout, but {missing[0]} is missing or of another shape.'
            )
        self.load_state_dict({name: stored[name] for name in own}, strict=False)
        return self.requires_grad_(False)
