"""Train the conditional latent DDPM (phase two) on a frozen autoencoder, and save the whole pipeline.

    accelerate launch training/train_latent.py --autoencoder runs/autoencoder/autoencoder --output runs/latent
    accelerate launch --multi_gpu --mixed_precision bf16 training/train_latent.py ... --resume latest
"""

from diffusionct_pipeline.train import LatentOptions, parse_options, train_latent

if __name__ == "__main__":
    train_latent(parse_options(LatentOptions, __doc__))
