"""What goes beyond Selim et al. 2023: a latent that holds the local noise power, and what is made of it."""

from .autoencoder import StyleAutoencoder
from .style_predictor import StylePredictor

__all__ = ["StyleAutoencoder", "StylePredictor"]
