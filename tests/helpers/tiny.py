"""The real classes at a size that runs in milliseconds, with random weights that do not leave the input unchanged."""

import torch
from diffusers import DDPMScheduler

from diffusionct_pipeline import ConditionalUNet1DModel, DiffusionCTPipeline, StyleAutoencoder, StylePredictor

LATENT_CHANNELS, RINGS = 6, 2


def get_dummy_components():
    """Arguments of a tiny `DiffusionCTPipeline`, the same at every call."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        autoencoder = StyleAutoencoder(
            latent_channels=LATENT_CHANNELS,
            block_out_channels=(8, 8, 8, 8, 16),
            layers_per_block=1,
            decoder_channels=(16, 8, 8, 8, 8),
            rings=RINGS,
        )
        denoiser = ConditionalUNet1DModel(
            latent_channels=LATENT_CHANNELS,
            block_out_channels=(8, 16),
            layers_per_block=1,
            head_channels=8,
            norm_groups=4,
            condition_channels=LATENT_CHANNELS,
        )
        style_predictor = StylePredictor(LATENT_CHANNELS, RINGS)
        # Training starts from zero here, which would hide what the networks do.
        torch.nn.init.normal_(autoencoder.tail[-1].weight, std=0.1)
        torch.nn.init.normal_(denoiser.conv_out.weight, std=0.1)
        torch.nn.init.normal_(style_predictor.change[-1].weight, std=0.1)
    scheduler = DDPMScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        clip_sample=False,
        timestep_spacing="trailing",
    )
    return {
        "autoencoder": autoencoder.eval(),
        "denoiser": denoiser.eval(),
        "scheduler": scheduler,
        "style_predictor": style_predictor.eval(),
        "default_num_inference_steps": 3,
    }


def tiny_pipeline():
    """A pipeline of `get_dummy_components`, without a progress bar."""
    pipe = DiffusionCTPipeline(**get_dummy_components())
    pipe.set_progress_bar_config(disable=True)
    return pipe
