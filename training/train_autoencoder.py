"""Train the autoencoder (phase one): the latent learns the texture style of a kernel, the skips keep the anatomy.

    accelerate launch training/train_autoencoder.py --output runs/autoencoder --objects DIR [DIR ...]
    accelerate launch --multi_gpu --mixed_precision bf16 training/train_autoencoder.py ... --resume latest
"""

from diffusionct_pipeline.train import AutoencoderOptions, parse_options, train_autoencoder

if __name__ == "__main__":
    train_autoencoder(parse_options(AutoencoderOptions, __doc__))
