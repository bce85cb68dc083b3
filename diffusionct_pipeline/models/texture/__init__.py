"""What goes beyond Selim et al. 2023: a latent that holds the local noise power, and a decoder that obeys it."""

from .autoencoder import TextureAutoencoder
from .reference_unet_1d import ReferenceUNet1DModel

__all__ = ["ReferenceUNet1DModel", "TextureAutoencoder"]
