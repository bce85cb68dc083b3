"""Training of both phases, ours and the paper's own; the scripts in training/ only call it."""

from .autoencoder_phase import AutoencoderPhase
from .latent_phase import LatentPhase
from .literal_phases import LiteralAutoencoderPhase, LiteralLatentPhase
from .loop import train
from .options import AutoencoderOptions, LatentOptions, LiteralAutoencoderOptions, LiteralLatentOptions, parse_options

__all__ = [
    "AutoencoderOptions",
    "AutoencoderPhase",
    "LatentOptions",
    "LatentPhase",
    "LiteralAutoencoderOptions",
    "LiteralAutoencoderPhase",
    "LiteralLatentOptions",
    "LiteralLatentPhase",
    "parse_options",
    "train",
]
