"""Run `diffusionct demo`: the whole process on a simulated scan."""

from __future__ import annotations

import argparse

from ..utils.arguments import MODEL_HELP
from ..utils.usage import require_folder, require_model
from ._shared import EXIT_OK, ProgressBar

TEXT = "simulate a scan with a tumour, standardize its Br40 series, and compare the result with its Bl64 series"
EXAMPLE = "diffusionct demo --out demo_output"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add("--out", default="demo_output", metavar="DIR", help="folder for the results (default: %(default)s)")
    add("--model", metavar="M", help=MODEL_HELP)


def run(options: argparse.Namespace) -> int:
    """Run the demo and print its table."""
    require_folder("out", options.out)
    require_model(options.model)
    from ..demo import demo

    with ProgressBar("demo") as progress:
        text = demo(options.out, model=options.model, progress=progress)
    print(text)
    return EXIT_OK
