"""Train the autoencoder (phase one) on scans of simulate_scans.py: how much of a texture another kernel keeps.

accelerate launch training/train_autoencoder.py --scans runs/scans --output runs/autoencoder
accelerate launch --multi_gpu --mixed_precision bf16 training/train_autoencoder.py ... --resume latest
"""

from diffusionct_pipeline.train import AutoencoderOptions, AutoencoderPhase, parse_options, train

if __name__ == "__main__":
    train(parse_options(AutoencoderOptions, __doc__), AutoencoderPhase)
