"""Options of the training scripts: dataclasses define the command line and its help."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_args, get_type_hints

from ..models.texture.power_shift import SCAN_TOKENS

LITERAL_LOSSES = ["l2=1"]

Options = TypeVar("Options", bound="TrainOptions")


def option(default: Any, text: str) -> Any:
    """Return a dataclass field with its help text; list defaults are copied."""
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata={"help": text})
    return field(default=default, metadata={"help": text})


@dataclass
class TrainOptions:
    """Options that all phases share."""

    output: str = option("runs/train", "folder for checkpoints, metrics.jsonl and the trained model")
    batch_size: int = option(32, "pairs per step and process")
    max_steps: int = option(20000, "optimizer steps")
    max_seconds: float = option(
        0.0, "wall-clock time of the training, with the learning rate annealed by then; 0: no limit"
    )
    learning_rate: float = option(5e-4, "peak learning rate of AdamW; linear warm-up, cosine decay to 0")
    warmup_steps: int = option(100, "steps of linear warm-up")
    weight_decay: float = option(0.01, "weight decay of AdamW")
    gradient_accumulation: int = option(1, "batches summed into one step")
    max_grad_norm: float = option(1.0, "norm that gradients are clipped to; 0: no clipping")
    ema_decay: float = option(0.999, "decay of the averaged weights, which are saved")
    mixed_precision: str = option("no", 'accelerate\'s mixed precision: "no", "bf16" or "fp16"')
    seed: int = option(0, "seed of the weights and of all random draws")
    checkpoint_steps: int = option(1000, "steps between resumable checkpoints; 0: only at the end")
    resume: str = option("", '"latest" or a checkpoint folder to resume from')
    validation_steps: int = option(1000, "steps between validations on simulated pairs; 0: never")
    validation_pairs: int = option(4, "simulated Br40/Bl64 pairs to validate on, from phantoms that are not trained on")
    tracker: str = option("", 'an accelerate tracker beside metrics.jsonl, e.g. "tensorboard" or "wandb"')
    cpu: bool = option(False, "train on the CPU even where there is a GPU")

    def __post_init__(self) -> None:
        for name in ("batch_size", "max_steps", "gradient_accumulation"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"`ema_decay` must be at least 0 and below 1, got {self.ema_decay}.")

    def given(self, name: str) -> bool:
        """Return whether an option differs from its default."""
        return getattr(self, name) != default_of(next(item for item in dataclasses.fields(self) if item.name == name))

    def refuse_together(self, ruling: str, *overridden: str) -> None:
        """Raise ValueError where `ruling` is given with an option that it would silently override."""
        for name in overridden:
            if self.given(ruling) and self.given(name):
                raise ValueError(f"`{name}` has no effect with `{ruling}`; leave one of them out.")


@dataclass
class ScanTrainOptions(TrainOptions):
    """Options that our two phases share: scans simulated beforehand in the projection domain."""

    scans: str = option("runs/scans", "folder of training/simulate_scans.py; encoded scans are kept beside them")
    groups: int = option(0, "groups of two scans to use; 0: all")
    standard_share: float = option(0.5, "share of the training pairs whose target is the standard kernel")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.groups < 0:
            raise ValueError(f"`groups` must be at least 0, got {self.groups}.")
        if not 0 <= self.standard_share <= 1:
            raise ValueError(f"`standard_share` must be between 0 and 1, got {self.standard_share}.")


@dataclass
class AutoencoderOptions(ScanTrainOptions):
    """Phase one."""

    init: str = option("", "folder of an autoencoder to continue training; none: random weights")
    rings: int = option(24, "channels of the latent that hold local power")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.refuse_together("init", "rings")


@dataclass
class LatentOptions(ScanTrainOptions):
    """Phase two."""

    autoencoder: str = option("runs/autoencoder/autoencoder", "folder of the trained, frozen autoencoder")
    init: str = option("", "folder of a denoiser to continue training; none: random weights")
    block_out_channels: list[int] = option([64, 96, 128], "widths of the denoiser")
    standard_tokens: int = option(256, "positions of slices that represent the standard; a divisor of 256")
    last_step_share: float = option(0.3, "share of the draws at pure noise; 1 trains a regression")
    standard_kernel: str = option("Bl64", "kernel of the standard, the first in every scan")
    default_steps: int = option(5, "denoising steps that the saved pipeline recommends")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.refuse_together("init", "block_out_channels", "standard_tokens")
        if not 1 <= self.standard_tokens <= SCAN_TOKENS or SCAN_TOKENS % self.standard_tokens:
            raise ValueError(f"`standard_tokens` must divide {SCAN_TOKENS}, got {self.standard_tokens}.")
        if not 0 <= self.last_step_share <= 1:
            raise ValueError(f"`last_step_share` must be between 0 and 1, got {self.last_step_share}.")


@dataclass
class ImageTrainOptions(TrainOptions):
    """Options that the paper's two phases share: pairs generated on the fly in the image domain."""

    objects: list[str] = option([], "folders of sharp CT (DICOM) or .npz packs to re-kernel; none: phantoms only")
    phantom_slices: int = option(48, "noise-free phantom slices to generate as further training objects")
    crop: int = option(128, "side of a training crop in pixels, a multiple of 32")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.crop < 64 or self.crop % 32:
            raise ValueError(f"`crop` must be a multiple of 32 and at least 64, got {self.crop}.")


@dataclass
class LiteralAutoencoderOptions(ImageTrainOptions):
    """The paper's phase one."""

    init: str = option("", "folder of an autoencoder to continue training; none: random weights")
    imagenet: str = option("", 'pretrained ResNet-18 on the Hub for the encoder, e.g. "microsoft/resnet-18"')
    skip_mode: str = option("all", 'skip connections, "all" or "none"')
    latent_channels: int = option(32, "channels of the latent")
    block_out_channels: list[int] = option([64, 64, 128, 256, 512], "widths of the encoder; the default is ResNet-18")
    decoder_channels: list[int] = option([256, 128, 64, 32, 16], "widths of the decoder")
    losses: list[str] = option([], f"losses and their weights; none: {' '.join(LITERAL_LOSSES)}")

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = ("latent_channels", "block_out_channels", "decoder_channels", "skip_mode")
        self.refuse_together("init", *sizes, "imagenet")
        self.loss_weights  # noqa: B018  raises for a malformed weight

    @property
    def loss_weights(self) -> dict[str, float]:
        """Weights of losses by name, see `losses.RECONSTRUCTION_LOSSES`."""
        try:
            pairs = (item.split("=") for item in self.losses or LITERAL_LOSSES)
            return {name.replace("-", "_"): float(weight) for name, weight in pairs}
        except ValueError as error:
            raise ValueError(f"`losses` must hold items like spectrum=0.4, got {self.losses}.") from error


@dataclass
class LiteralLatentOptions(ImageTrainOptions):
    """The paper's phase two: a fixed target, prediction of the noise, a linear schedule."""

    autoencoder: str = option("runs/literal_autoencoder/autoencoder", "folder of the trained, frozen autoencoder")
    block_out_channels: list[int] = option([96, 128, 192], "widths of the denoiser")
    l1_weight: float = option(1.0, "weight of the L1 term beside the L2 term")
    standard_kernel: str = option("Bl64", "kernel of the target")
    default_steps: int = option(1000, "denoising steps that the saved pipeline recommends; the paper gives none")


def parse_options(cls: type[Options], description: str | None = None, argv: Sequence[str] | None = None) -> Options:
    """Parse a command line into `cls`: the field `batch_size` is the option `--batch-size` (or `--batch_size`).

    Args:
        cls: A dataclass of options.
        description: Description of the script.
        argv: Arguments; None takes those of the process.

    Raises:
        SystemExit: with code 2, for wrong usage.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    hints = get_type_hints(cls)
    for item in dataclasses.fields(cls):
        default = default_of(item)
        arguments: dict[str, Any] = {
            "help": f"{item.metadata['help']} (default: {default!r})".replace("%", "%%"),
            "default": default,
        }
        if hints[item.name] is bool:
            arguments["action"] = argparse.BooleanOptionalAction
        elif isinstance(default, list):
            arguments |= {"nargs": "*", "type": get_args(hints[item.name])[0]}
        else:
            arguments["type"] = hints[item.name]
        parser.add_argument(f"--{item.name.replace('_', '-')}", **arguments)
    values = vars(parser.parse_args([kebab_case(argument) for argument in (sys.argv[1:] if argv is None else argv)]))
    try:
        return cls(**values)
    except ValueError as error:
        parser.error(str(error))


def default_of(item: dataclasses.Field[Any]) -> Any:
    """Return the default value of a field."""
    return item.default_factory() if callable(item.default_factory) else item.default


def kebab_case(argument: str) -> str:
    """Return "--batch-size=4" for "--batch_size=4"; arguments that are not options stay as they are."""
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value if name.startswith("--") else argument
