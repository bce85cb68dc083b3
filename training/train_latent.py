"""Train the conditional latent DDPM (phase two) on a frozen autoencoder, and save the whole pipeline: first the curve of a
slice's power, then the diffusion of what differs from place to place.

    accelerate launch training/train_latent.py --scans runs/scans --autoencoder runs/autoencoder/autoencoder \\
        --part curve --output runs/curve
    accelerate launch training/train_latent.py ... --part diffusion --init runs/curve/denoiser --output runs/latent
    accelerate launch --multi_gpu --mixed_precision bf16 training/train_latent.py ... --resume latest
"""

from diffusionct_pipeline.train import LatentOptions, LatentPhase, parse_options, train

if __name__ == "__main__":
    train(parse_options(LatentOptions, __doc__), LatentPhase)
