"""The learnt eye's training: its losses, its calibration, and three steps of it."""

import json

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from helpers.bodies import body_slice
from helpers.dicom import write_series
from helpers.scans import simulate_coarsely

from diffusionct_pipeline.models.kernel_eye import KernelEye
from diffusionct_pipeline.train import EyeOptions, EyePhase, train
from diffusionct_pipeline.train.eye_phase import EyeErrors, EyeObjective
