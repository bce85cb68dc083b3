"""Simulate the training scans of both phases: phantoms and sharp CT in the projection domain, and filtered real scans.

    python training/simulate_scans.py --output runs/scans --groups 240 --objects DIR [DIR ...] --processes 2
        --filtered-groups 60 --filtered DIR [DIR ...]

Takes about 13 s per simulated scan and core, and 1 s per filtered one. Existing scans are kept, so that the command can be
repeated.
"""

import argparse
import multiprocessing
from functools import partial
from pathlib import Path

import torch

from diffusionct_pipeline.train.data.objects import load_objects
from diffusionct_pipeline.train.data.scans import simulate_groups


def simulate(process: int, arguments: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    simulate_groups(
        arguments.output,
        arguments.groups,
        load_objects(arguments.objects),
        arguments.filtered_groups,
        load_objects(arguments.filtered, with_kernels=True),
        arguments.standard_kernel,
        arguments.size,
        process,
        arguments.processes,
        arguments.max_seconds,
        progress=lambda group: print(f"group {group}", flush=True),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/scans"), help="folder for the scans")
    parser.add_argument("--groups", type=int, default=240, help="groups of two scans of four slices")
    parser.add_argument("--objects", nargs="*", default=[], help="folders of sharp CT (DICOM) or .npz packs")
    parser.add_argument("--filtered-groups", type=int, default=0, help="groups of filtered real scans")
    parser.add_argument("--filtered", nargs="*", default=[], help="folders or packs of CT of any kernel, to filter")
    parser.add_argument("--standard-kernel", default="Bl64", help="first kernel of every scan")
    parser.add_argument("--size", type=int, default=512, help="side of a slice in pixels")
    parser.add_argument("--processes", type=int, default=1, help="processes that share the groups, with one core each")
    parser.add_argument("--max-seconds", type=float, default=0.0, help="start no group after this time; 0: no limit")
    given = parser.parse_args()
    with multiprocessing.get_context("spawn").Pool(given.processes) as pool:
        pool.map(partial(simulate, arguments=given), range(given.processes))
