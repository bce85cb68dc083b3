"""Training of both phases; the scripts in training/ are thin."""

from .autoencoder_phase import train_autoencoder
from .latent_phase import train_latent
from .options import AutoencoderOptions, LatentOptions, parse_options

__all__ = ["AutoencoderOptions", "LatentOptions", "parse_options", "train_autoencoder", "train_latent"]
