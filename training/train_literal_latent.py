"""The paper's phase two: a latent DDPM to one fixed target, saved as a pipeline, as in docs/paper.md.

    accelerate launch training/train_literal_latent.py --output runs/literal \\
        --autoencoder runs/literal_autoencoder/autoencoder
"""

from diffusionct_pipeline.train import LiteralLatentOptions, LiteralLatentPhase, parse_options, train

if __name__ == "__main__":
    train(parse_options(LiteralLatentOptions, __doc__), LiteralLatentPhase)
