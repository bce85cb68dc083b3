"""The networks; none of them knows HU or DICOM. Beside the paper's two, `texture` holds what goes beyond it."""

from .autoencoder_resnet18 import AutoencoderResNet18
from .conditional_unet_1d import ConditionalUNet1DModel
from .kernel_eye import KernelEye
from .texture import ReferenceUNet1DModel, TextureAutoencoder

__all__ = ["AutoencoderResNet18", "ConditionalUNet1DModel", "KernelEye", "ReferenceUNet1DModel", "TextureAutoencoder"]
