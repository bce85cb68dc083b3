"""GANai: discriminators and generator train in alternating phases, each until one side clearly wins."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from accelerate.utils import reduce
from diffusers.configuration_utils import register_to_config
from torch import nn
from torch.optim import Optimizer

from .networks import PatchDiscriminator, UNetGenerator, is_real, logistic, total
from .trained import CT_RANGE, Recipe, SystemTraining, TrainedSystem, adam

L1_WEIGHT = 100.0  # Liang et al. 2019, as in pix2pix
PREVIOUS_GENERATOR_SHARE = 0.3  # of the discriminators' steps use the generator of before the last phase
PREVIOUS_FOOLED = 0.9  # score that the discriminators of the phase before must give to fakes
LONGEST_PHASE = 2000  # steps [G]: a phase might never be won
LONGEST_SHARE = 0.05  # of the budget [G]: otherwise one phase could fill a short training
HISTOGRAM_BINS = 32  # of the joint histogram that pairs are compared by [G]


class GANai(TrainedSystem):
    """Liang et al. 2019 (ICHI, "GANai: Standardizing CT Images using GAN with Alternative Improvement") [C].

    The released code uses only the unconditional discriminator in the generator's loss, and never its ensemble. This is
    what the paper intends: the generator faces both, and must also fool those of the phase before.

    Args:
        downs: Halvings.
        base_channels: First width of the networks.
    """

    recipe = Recipe(crop=256, batch_size=1, learning_rate=2e-4, candidates=3)  # patches of 256; pix2pix' optimizer
    real_wins = 0.95  # a phase ends when real (or, for the generator, fake) scores this

    @register_to_config
    def __init__(self, downs: int = 8, base_channels: int = 64):
        super().__init__()
        self.generator = UNetGenerator(downs, base_channels)

    def translate(self, hu: torch.Tensor) -> torch.Tensor:
        """Give (B, 1, H, W) HU the target's texture, within -1024 to 3072; same shape."""
        return CT_RANGE.to_hu(self.generator(CT_RANGE.scaled(hu)))

    def make_training(self, crop: int) -> SystemTraining:
        """Return the training in alternating phases."""
        return GANaiTraining(self)


class GANaiTraining(SystemTraining):
    """A generator against D_c, which sees source and image, and D_u, which sees the image alone.

    The present phase, its length and whether it is won are buffers, beside copies of the networks of before the last
    phase, so that a resumed run continues in the phase that it left.
    """

    system: GANai
    of_generator: torch.Tensor
    won: torch.Tensor
    steps: torch.Tensor
    began: torch.Tensor

    def __init__(self, system: GANai):
        super().__init__(system)
        width = system.config["base_channels"]
        self.conditional, self.unconditional = PatchDiscriminator(2, width), PatchDiscriminator(1, width)
        previous = (system.generator, self.conditional, self.unconditional)
        self.previous = nn.ModuleList(copy.deepcopy(network).requires_grad_(False) for network in previous)
        for name in ("of_generator", "won"):
            self.register_buffer(name, torch.zeros((), dtype=torch.bool))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.register_buffer("began", torch.zeros((), dtype=torch.float64))  # share of the budget that was spent

    def optimizers(self, learning_rate: float) -> dict[str, Optimizer]:
        """Return that of the generator and that of both discriminators."""
        return {
            "generator": adam(learning_rate, self.system),
            "discriminator": adam(learning_rate, self.conditional, self.unconditional),
        }

    def turns(self, done: float) -> Sequence[str]:
        """Return the turn of the present phase; the next phase begins once this one is won or has lasted too long."""
        if self.won or self.steps >= LONGEST_PHASE or done - self.began > LONGEST_SHARE:
            if self.of_generator:  # the generator has just fooled these
                self.previous[1].load_state_dict(self.conditional.state_dict())
                self.previous[2].load_state_dict(self.unconditional.state_dict())
            else:  # the discriminators have just seen through this
                self.previous[0].load_state_dict(self.system.generator.state_dict())
            self.of_generator.logical_not_()
            self.won.zero_()
            self.steps.zero_()
            self.began.fill_(done)
        self.steps += 1
        return ("generator",) if self.of_generator else ("discriminator",)

    def forward(
        self, source: torch.Tensor, target: torch.Tensor, generator: torch.Generator, turn: str
    ) -> dict[str, torch.Tensor]:
        x, y = CT_RANGE.scaled(source), CT_RANGE.scaled(target)
        order = difficulty(x, y).argsort()
        easy, average, hard = order.chunk(3) if len(order) >= 3 else (order, order, order)
        if turn == "discriminator":
            return self.discriminators(x[hard], y[hard], generator)
        chosen = torch.cat([easy, average])[::2]  # as many as the hard pairs
        return self.generators(x[chosen], y[chosen])

    def discriminators(self, x: torch.Tensor, y: torch.Tensor, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Return the loss of both discriminators; some fakes are from the previous generator."""
        old = torch.rand((), generator=generator, device=generator.device).item() < PREVIOUS_GENERATOR_SHARE
        with torch.no_grad():
            fake = (self.previous[0] if old else self.system.generator)(x)
        scores = self.scores(x, y), self.scores(x, fake)
        loss = total(logistic(score, real) for side, real in zip(scores, (True, False)) for score in side)
        real, false = (torch.stack([is_real(score) for score in side]) for side in scores)
        wins = self.system.real_wins
        self._judge(not old and bool((real > wins).all() and (false < 1 - wins).all()))
        return {"discriminator": loss, "loss": loss}

    def generators(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the loss of the generator against both discriminators."""
        fake = self.system.generator(x)
        scores = self.scores(x, fake)
        with torch.no_grad():
            before = self.previous[1](torch.cat([x, fake], 1)), self.previous[2](fake)
        fooled = all(is_real(score) > self.system.real_wins for score in scores)
        self._judge(fooled and all(is_real(score) > PREVIOUS_FOOLED for score in before))
        adversarial = total(logistic(score, True) for score in scores)
        l1 = (fake.float() - y).abs().mean()
        more = self.further_losses(x, y, fake)
        loss = adversarial + L1_WEIGHT * l1 + sum(more.values())
        return {"adversarial": adversarial, "l1": l1, **more, "loss": loss}

    def scores(self, x: torch.Tensor, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits of D_c and D_u."""
        return self.conditional(torch.cat([x, image], 1)), self.unconditional(image)

    def further_losses(self, x: torch.Tensor, y: torch.Tensor, fake: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return weighted losses of the generator that a variant adds."""
        return {}

    def _judge(self, won: bool) -> None:
        """Record whether all processes have won: in different phases they would wait for each other forever."""
        votes = reduce(torch.tensor(float(won), device=self.won.device), "mean")
        self.won.fill_(votes.item() == 1)


def difficulty(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Measure how different the images of each pair are, (B,): cosine distance + (1 - NMI) + KL divergence.

    NMI is 2 I(x; y) / (H(x) + H(y)); both it and KL(y || x) are of grey-level histograms over -1 to 1 [G].
    """
    cosine = 1 - nn.functional.cosine_similarity(x.flatten(1) + 1, y.flatten(1) + 1)  # air is 0
    further = []
    levels = [((side.flatten(1) + 1) / 2 * HISTOGRAM_BINS).long().clamp(0, HISTOGRAM_BINS - 1) for side in (x, y)]
    for source, target in zip(*levels):
        counts = torch.bincount(source * HISTOGRAM_BINS + target, minlength=HISTOGRAM_BINS**2)
        joint = (counts / counts.sum()).view(HISTOGRAM_BINS, HISTOGRAM_BINS)
        of_x, of_y = joint.sum(1), joint.sum(0)
        entropies = entropy(of_x) + entropy(of_y)
        nmi = 2 * (entropies - entropy(joint)) / entropies.clamp(min=1e-6)
        floor = 1 / counts.sum()
        kl = (of_y * torch.log((of_y + floor) / (of_x + floor))).sum()
        further.append(1 - nmi + kl)
    return cosine + torch.stack(further)


def entropy(probabilities: torch.Tensor) -> torch.Tensor:
    """Return the entropy in nats."""
    return -torch.special.xlogy(probabilities, probabilities).sum()
