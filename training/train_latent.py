"""Train the conditional latent DDPM (phase two) on a frozen autoencoder, and save the whole pipeline.

    accelerate launch training/train_latent.py --scans runs/scans --autoencoder runs/autoencoder/autoencoder \\
        --output runs/latent
    accelerate launch --multi_gpu --mixed_precision bf16 training/train_latent.py ... --resume latest
"""

from diffusionct_pipeline.train import LatentOptions, LatentPhase, parse_options, train

if __name__ == "__main__":
    train(parse_options(LatentOptions, __doc__), LatentPhase)
