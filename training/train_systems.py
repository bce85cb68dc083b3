"""Train every rival of the comparison with the same budget, for `diffusionct standardize --system` and `diffusionct study`.

    accelerate launch training/train_systems.py --budget-seconds 3600 --output runs/systems --objects DIR [DIR ...]
    accelerate launch training/train_systems.py --budget-seconds 600 --size small --batch-size 4 --cpu   # on a CPU

Run it again after an interruption: a system continues from its last checkpoint, and finished ones are skipped.
"""

from diffusionct_pipeline.comparison.training import RivalsOptions, train_rivals
from diffusionct_pipeline.train import parse_options

if __name__ == "__main__":
    train_rivals(parse_options(RivalsOptions, __doc__))
