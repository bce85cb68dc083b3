"""The networks; none of them knows HU or DICOM."""

from .autoencoder_resnet18 import AutoencoderResNet18
from .conditional_unet_1d import ConditionalUNet1DModel

__all__ = ["AutoencoderResNet18", "ConditionalUNet1DModel"]
