"""CVH-CT: CycleGAN with self-attention and a domain loss on features of a VGG-19."""

from __future__ import annotations

import torch
from diffusers.configuration_utils import register_to_config
from torch import nn

from .cyclegan import CycleGAN, CycleGANTraining
from .networks import VGG19Features, gram
from .trained import SystemTraining, TrainedSystem

MOMENTUM = 0.99  # of the running mean of the Gram matrices [G]: without pairs it must average many slices of a domain
DOMAIN_WEIGHT = 10.0  # [G]: as of the cycle loss; the abstract gives no weight


class CVHCT(CycleGAN):
    """Selim et al. 2021 ("Cross-Vendor CT Image Data Harmonization Using CVH-CT", arXiv:2110.09693), abstract [A].

    The abstract describes CycleGAN, self-attention in the generator and a VGG-19 domain loss. Where the attention is and
    how the domain is measured (Gram matrices of relu1_2, relu2_2, relu3_4, relu4_4) is our reading [G].

    Args:
        base_channels, blocks: As of `CycleGAN`.
        vgg_channels: First width of the VGG-19.
        pretrained_vgg: Whether the VGG-19 had its published weights in training, which sets this.
    """

    attention = True

    @register_to_config
    def __init__(self, base_channels: int = 64, blocks: int = 9, vgg_channels: int = 64, pretrained_vgg: bool = False):
        TrainedSystem.__init__(self)  # its networks differ from those of its parent class
        self.generator = self.make_generator()

    @property
    def remark(self) -> str:
        """Mention a random VGG-19."""
        return "" if self.config["pretrained_vgg"] else "random VGG-19"

    def make_training(self, crop: int) -> SystemTraining:
        """Return the training of CycleGAN with the domain loss."""
        return CVHCTTraining(self, crop)


class CVHCTTraining(CycleGANTraining):
    """Adds mean |Gram(generated) - running mean of Gram(domain)| for both domains."""

    system: CVHCT

    def __init__(self, system: CVHCT, crop: int):
        super().__init__(system, crop)
        self.vgg = VGG19Features(system.config["vgg_channels"]).requires_grad_(False)
        self.domains = nn.ModuleDict({name: GramMean(self.vgg.widths) for name in ("target", "source")})

    def domain_losses(
        self, like_y: torch.Tensor, like_x: torch.Tensor, y: torch.Tensor, x: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Return the domain loss, weighted."""
        with torch.no_grad():
            self._domain("target").see([gram(features) for features in self.vgg(y)])
            self._domain("source").see([gram(features) for features in self.vgg(x)])
        loss = self._domain("target").distance([gram(features) for features in self.vgg(like_y)])
        loss = loss + self._domain("source").distance([gram(features) for features in self.vgg(like_x)])
        return {"domain": DOMAIN_WEIGHT * loss}

    def _domain(self, name: str) -> GramMean:
        mean = self.domains[name]
        assert isinstance(mean, GramMean)
        return mean


class GramMean(nn.Module):
    """Running means of Gram matrices, one per block; unbiased from the first batch on."""

    weight: torch.Tensor

    def __init__(self, widths: list[int]):
        super().__init__()
        for number, width in enumerate(widths):
            self.register_buffer(f"mean_{number}", torch.zeros(width, width))
        self.register_buffer("weight", torch.zeros(()))
        self.blocks = len(widths)

    @property
    def means(self) -> list[torch.Tensor]:
        """The running means, not yet divided by `weight`."""
        return [getattr(self, f"mean_{number}") for number in range(self.blocks)]

    def see(self, grams: list[torch.Tensor]) -> None:
        """Update the means by a batch of Gram matrices (B, C, C) of every block."""
        for mean, seen in zip(self.means, grams):
            mean.lerp_(seen.mean(0), 1 - MOMENTUM)
        self.weight.lerp_(torch.ones_like(self.weight), 1 - MOMENTUM)

    def distance(self, grams: list[torch.Tensor]) -> torch.Tensor:
        """Return the mean absolute distance of (B, C, C) from the means, relative to them, so that all blocks count."""
        relative = []
        for mean, seen in zip(self.means, grams):
            mean = mean / self.weight
            relative.append((seen - mean).abs().mean() / mean.abs().mean().clamp(min=1e-12))
        return torch.stack(relative).mean()
