"""The paper's phase one: plain reconstruction by a ResNet-18 U-Net, without additions of ours; see docs/paper.md.

accelerate launch training/train_literal_autoencoder.py --output runs/literal_autoencoder --objects DIR [DIR ...]
"""

from diffusionct_pipeline.train import LiteralAutoencoderOptions, LiteralAutoencoderPhase, parse_options, train

if __name__ == "__main__":
    train(parse_options(LiteralAutoencoderOptions, __doc__), LiteralAutoencoderPhase)
