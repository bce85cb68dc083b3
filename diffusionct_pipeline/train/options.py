"""Options of the training scripts: a dataclass is the command line, its comments are the help."""

import argparse
import dataclasses
from dataclasses import dataclass, field
from typing import get_args, get_type_hints


def option(default, text):
    """A field with its explanation; lists need a copy each."""
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata={"help": text})
    return field(default=default, metadata={"help": text})


@dataclass
class TrainOptions:
    """What both phases share."""

    output: str = option("runs/train", "folder for checkpoints, metrics.jsonl and the trained model")
    objects: list[str] = option([], "folders of sharp CT (DICOM) or .npz packs to re-kernel; none: phantoms only")
    phantom_slices: int = option(48, "noise-free phantom slices to make as further training objects")
    batch_size: int = option(16, "pairs a step and process; even")
    crop: int = option(128, "side of a training crop in pixels, a multiple of 32")
    max_steps: int = option(20000, "optimizer steps")
    max_seconds: float = option(0.0, "stop after this much wall-clock time, saved and annealed; 0 means no limit")
    learning_rate: float = option(5e-4, "peak learning rate of AdamW; linear warm-up, cosine decay to 0")
    warmup_steps: int = option(100, "steps of linear warm-up")
    weight_decay: float = option(0.01, "weight decay of AdamW")
    gradient_accumulation: int = option(1, "batches summed into one step")
    max_grad_norm: float = option(1.0, "gradients are clipped to this norm")
    ema_decay: float = option(0.999, "decay of the averaged weights, which are what is saved")
    mixed_precision: str = option("no", 'accelerate\'s mixed precision: "no", "bf16" or "fp16"')
    seed: int = option(0, "seed of weights, objects, crops, kernels and noise")
    checkpoint_steps: int = option(1000, "steps between resumable checkpoints; 0 means only at the end")
    resume: str = option("", '"latest" or a checkpoint folder to go on from')
    validation_steps: int = option(1000, "steps between validations on simulated pairs; 0 means never")
    validation_pairs: int = option(4, "simulated Br40/Bl64 pairs to validate on, from phantoms of their own")
    tracker: str = option("", 'an accelerate tracker beside metrics.jsonl, such as "tensorboard" or "wandb"')
    cpu: bool = option(False, "train on the CPU even where there is a GPU")

    def __post_init__(self):
        if self.batch_size < 2 or self.batch_size % 2:
            raise ValueError(f"`batch_size` is {self.batch_size}; legal are even numbers from 2.")
        if self.crop < 64 or self.crop % 32:
            raise ValueError(f"`crop` is {self.crop}; legal are multiples of 32 from 64.")
        for name in ("max_steps", "gradient_accumulation"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` is {getattr(self, name)}; legal are whole numbers from 1.")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"`ema_decay` is {self.ema_decay}; legal is 0 up to below 1.")


@dataclass
class AutoencoderOptions(TrainOptions):
    """Phase one."""

    init: str = option("", "folder of an autoencoder to go on training; none: random weights")
    freeze_encoder: bool = option(False, "train the decoder only: the latent and a denoiser trained on it stay valid")
    imagenet: str = option("", 'pretrained ResNet-18 on the Hub for the encoder, e.g. "microsoft/resnet-18"')
    paper_literal: bool = option(False, "the paper's network and loss: no filter, no cross reconstruction")
    skip_mode: str = option("all", 'skip connections, "all" or "none"')
    latent_channels: int = option(32, "channels of the latent")
    block_out_channels: list[int] = option([64, 64, 128, 256, 512], "widths of the encoder; the default is ResNet-18")
    decoder_channels: list[int] = option([256, 128, 64, 32, 16], "widths of the decoder")
    spectrum_weight: float = option(0.4, "weight of the local-spectrum loss")
    filter_weight: float = option(0.1, "weight of the local-spectrum loss of the linear filter by itself")
    latent_weight: float = option(1e-4, "weight of the squared latent, which keeps it near unit scale")


@dataclass
class LatentOptions(TrainOptions):
    """Phase two."""

    autoencoder: str = option("runs/autoencoder", "folder of the trained, frozen autoencoder")
    init: str = option("", "folder of a denoiser to go on training; none: random weights")
    style_only: bool = option(False, "train the prediction of the target's style only, the denoiser stays as it is")
    block_out_channels: list[int] = option([96, 128, 192], "widths of the denoiser")
    prediction_type: str = option("v_prediction", 'what the denoiser predicts: "v_prediction", "epsilon" or "sample"')
    beta_schedule: str = option("squaredcos_cap_v2", 'noise schedule; the paper\'s reading is "linear"')
    l1_weight: float = option(0.1, "weight of the L1 term beside the L2 term")
    noise_draws: int = option(4, "noise levels a pair: to encode a pair costs ten times what a denoiser step costs")
    stored_pairs: int = option(0, "pairs to make once and draw every batch from, as a CPU is slow to make them; 0: ever new")
    stored_scans: int = option(0, "groups of two phantom scans to make (projection domain) and draw from, instead of pairs")
    stored_object_scans: int = option(0, "groups of two scans of `objects` to make and draw from beside them")
    scan_size: int = option(512, "side of those slices in pixels, a multiple of 32")
    fixed_target: bool = option(False, "paper-literal: always the standard kernel, no reference style")
    standard_kernel: str = option("Bl64", "kernel of the standard that is stored with the denoiser")
    standard_share: float = option(0.5, "share of the training pairs whose target is the standard kernel")
    default_steps: int = option(20, "denoising steps that the saved pipeline recommends")

    def __post_init__(self):
        super().__post_init__()
        if self.stored_object_scans and not self.objects:
            raise ValueError("`stored_object_scans` needs `objects`.")


def parse_options(cls, description=None, argv=None):
    """Command line -> `cls`, every field an option `--name`; wrong usage exits with code 2."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    hints = get_type_hints(cls)
    for item in dataclasses.fields(cls):
        default = item.default if item.default is not dataclasses.MISSING else item.default_factory()
        arguments = {"help": f"{item.metadata['help']} (default: {default!r})".replace("%", "%%"), "default": default}
        if hints[item.name] is bool:
            arguments["action"] = argparse.BooleanOptionalAction
        elif isinstance(default, list):
            arguments |= {"nargs": "*", "type": get_args(hints[item.name])[0]}
        else:
            arguments["type"] = hints[item.name]
        parser.add_argument(f"--{item.name}", **arguments)
    values = vars(parser.parse_args(argv))
    try:
        return cls(**values)
    except ValueError as error:
        parser.error(str(error))
