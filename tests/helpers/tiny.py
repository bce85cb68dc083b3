"""The real classes at a size that runs in milliseconds, with random weights that do not leave the input unchanged."""

import torch
from diffusers import DDPMScheduler

from diffusionct_pipeline import DiffusionCTPipeline, ReferenceUNet1DModel, TextureAutoencoder

RINGS = 6
LATENT_CHANNELS = RINGS + 2
TYPICAL_LOG_POWER = -3.0  # of noise of 200 HU with pixels of 0.7 mm, roughly


def tiny_autoencoder():
    """A `TextureAutoencoder` whose share of new power differs from place to place."""
    autoencoder = TextureAutoencoder(RINGS, hidden=16, blocks=1)
    torch.nn.init.normal_(autoencoder.incoherent_share.last.weight, std=0.3)  # zero at first
    power = autoencoder.channels.power
    autoencoder.latent_mean[power] = TYPICAL_LOG_POWER
    autoencoder.latent_std[power] = 0.5
    return autoencoder.eval()


def tiny_denoiser():
    """A `ReferenceUNet1DModel` that looks at the target's texture."""
    denoiser = ReferenceUNet1DModel(
        RINGS,
        block_out_channels=(8, 16),
        layers_per_block=1,
        head_channels=8,
        norm_groups=4,
        standard_tokens=5,
        token_channels=8,
    )
    # Training starts from zero here, which would hide what the network does.
    torch.nn.init.normal_(denoiser.conv_out.weight, std=0.1)
    torch.nn.init.normal_(denoiser.standard, std=0.5)
    for name, weight in denoiser.named_parameters():
        if name.endswith("attention_out.weight"):
            torch.nn.init.normal_(weight, std=0.3)
    denoiser.deviation[denoiser.channels.power] = 0.5
    return denoiser.eval()


def get_dummy_components():
    """Arguments of a tiny `DiffusionCTPipeline`, the same at every call."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        autoencoder, denoiser = tiny_autoencoder(), tiny_denoiser()
    scheduler = DDPMScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        clip_sample=False,
        timestep_spacing="trailing",
    )
    return {
        "autoencoder": autoencoder,
        "denoiser": denoiser,
        "scheduler": scheduler,
        "default_num_inference_steps": 3,
    }


def tiny_pipeline():
    """A pipeline of `get_dummy_components`, without a progress bar."""
    pipe = DiffusionCTPipeline(**get_dummy_components())
    pipe.set_progress_bar_config(disable=True)
    return pipe
