"""Swap the scheduler: use another solver with fewer steps, and measure the difference.

    python examples/03_swap_the_scheduler.py

Runs offline in seconds.
"""

import time

import numpy as np
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
from pydicom.data import get_testdata_file

from diffusionct_pipeline import DiffusionCTPipeline

pipe = DiffusionCTPipeline.from_pretrained()
pipe.set_progress_bar_config(disable=True)
trained_with = pipe.scheduler
source = get_testdata_file("CT_small.dcm")
baseline = pipe(source, output_type="np").images[0]

choices = [(trained_with, None)]  # None: the number of steps that the checkpoint recommends
choices += [(DDIMScheduler.from_config(trained_with.config), 10)]
choices += [(DPMSolverMultistepScheduler.from_config(trained_with.config), 10)]
for scheduler, steps in choices:
    pipe.scheduler = scheduler
    start = time.perf_counter()
    hu = pipe(source, output_type="np", num_inference_steps=steps).images[0]
    seconds = time.perf_counter() - start
    steps = steps or pipe.config.default_num_inference_steps
    difference = np.abs(hu - baseline).mean()
    print(f"{type(scheduler).__name__:28s} {steps:3d} steps {seconds:6.2f} s   mean |difference| {difference:5.2f} HU")
