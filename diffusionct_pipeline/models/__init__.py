"""The networks; none of them knows HU or DICOM. Beside the paper's two, `style` holds what goes beyond it."""

from .autoencoder_resnet18 import AutoencoderResNet18
from .conditional_unet_1d import ConditionalUNet1DModel
from .style import StyleAutoencoder, StylePredictor

__all__ = ["AutoencoderResNet18", "ConditionalUNet1DModel", "StyleAutoencoder", "StylePredictor"]
