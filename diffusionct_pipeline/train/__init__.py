"""Training of both phases, ours and the paper's own; the scripts in training/ are thin."""

from .autoencoder_phase import AutoencoderPhase
from .latent_phase import LatentPhase
from .literal_phases import LiteralAutoencoderPhase, LiteralLatentPhase
from .loop import train
from .options import AutoencoderOptions, LatentOptions, LiteralAutoencoderOptions, LiteralLatentOptions, parse_options
from .rivals import RIVALS, RivalsOptions, train_rivals
from .system_options import SystemOptions
from .system_phase import SystemPhase, train_system

__all__ = [
    "RIVALS",
    "AutoencoderOptions",
    "AutoencoderPhase",
    "LatentOptions",
    "LatentPhase",
    "LiteralAutoencoderOptions",
    "LiteralAutoencoderPhase",
    "LiteralLatentOptions",
    "LiteralLatentPhase",
    "RivalsOptions",
    "SystemOptions",
    "SystemPhase",
    "parse_options",
    "train",
    "train_rivals",
    "train_system",
]
