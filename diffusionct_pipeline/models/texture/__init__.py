"""Define the networks that go beyond Selim et al. 2023: the latent is the local noise power, which the decoder realizes."""

from .autoencoder import TextureAutoencoder
from .reference_unet_1d import ReferenceUNet1DModel

__all__ = ["ReferenceUNet1DModel", "TextureAutoencoder"]
