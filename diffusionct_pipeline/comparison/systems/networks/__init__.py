"""Networks and losses that several systems of the comparison share."""

from .gan_losses import gram, is_real, least_squares, logistic, total
from .image_pool import ImagePool
from .padding import reflected_to
from .patch_discriminator import PatchDiscriminator
from .resnet_generator import ResNetGenerator
from .unet_generator import UNetGenerator
from .vgg import VGG19Features

__all__ = [
    "ImagePool",
    "PatchDiscriminator",
    "ResNetGenerator",
    "UNetGenerator",
    "VGG19Features",
    "gram",
    "is_real",
    "least_squares",
    "logistic",
    "reflected_to",
    "total",
]
