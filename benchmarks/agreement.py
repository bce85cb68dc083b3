"""Agreement of texture figures with the target, of every system of the comparison.

    python benchmarks/agreement.py simulated                  # held-out phantoms, Br40 -> Bl64, tumours and other regions
    python benchmarks/agreement.py pair SOFT_DIR SHARP_DIR    # a real pair: same file name, same slice

Prints one row a system: mean concordance correlation (Lin 1989) of the ten figures of `evaluation.texture` over all
regions, the share of figures within 15 % of the target's, root mean square error and mean difference in HU. Systems are
fitted on pairs of training phantoms, or on a far slice of the real pair; those whose target kernel is fixed are left out
where another one is wanted.
"""

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from diffusionct_pipeline.dicom import read_slice
from diffusionct_pipeline.evaluation.regions import evenly_spread_squares, tumours_and_squares
from diffusionct_pipeline.evaluation.texture import texture_agreement
from diffusionct_pipeline.image_processor import UNMEASURED_HU
from diffusionct_pipeline.systems import SYSTEMS, DiffusionCT, FittingPair, System
from diffusionct_pipeline.training_data.splits import IMAGE_PAIRS, TEST, take
from diffusionct_pipeline.training_data.tumour_pairs import SOURCE, TARGET, tumour_pairs
from tqdm import tqdm
