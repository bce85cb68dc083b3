"""Define the networks, which know neither HU nor DICOM: the paper's two here, those that go beyond it in `texture`."""

from .autoencoder_resnet18 import AutoencoderResNet18
from .conditional_unet_1d import ConditionalUNet1DModel
from .texture import ReferenceUNet1DModel, TextureAutoencoder

__all__ = ["AutoencoderResNet18", "ConditionalUNet1DModel", "ReferenceUNet1DModel", "TextureAutoencoder"]
