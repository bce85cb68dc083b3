"""DiffusionCT: standardize CT images between reconstruction kernels with a conditional latent diffusion model."""

__version__ = "0.1.0"
