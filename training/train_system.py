"""Train a rival of the comparison, or fit one that needs no training, for `diffusionct standardize --system`.

accelerate launch training/train_system.py --system pix2pix --output runs/systems/pix2pix --objects DIR [DIR ...]
accelerate launch training/train_system.py --system pix2pix --output runs/systems/pix2pix ... --resume latest
"""

from diffusionct_pipeline.comparison.training import SystemOptions, train_system
from diffusionct_pipeline.train import parse_options

if __name__ == "__main__":
    train_system(parse_options(SystemOptions, __doc__))
