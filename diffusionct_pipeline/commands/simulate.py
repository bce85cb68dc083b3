"""Run `diffusionct simulate`: make paired CT series of phantoms with their tumour masks."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..utils.arguments import count, number_of
from ..utils.usage import about_arguments, require_folder
from ._shared import EXIT_OK, ProgressBar

if TYPE_CHECKING:
    from ..simulation import SeriesOptions

TEXT = "simulate paired CT series of phantoms, one series for each kernel, with tumour masks"
EXAMPLE = "diffusionct simulate phantoms --kernels Br40,Bl64 --thickness 1 --phantoms 3 --seed 0"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add(
        "output",
        metavar="OUT",
        help="folder, in which each phantom gets a new one. The same command resumes an interrupted run",
    )
    add("--kernels", type=names, default="Br40,Bl64", metavar="A,B", help="kernel names, which `diffusionct info` "
        "lists (default: %(default)s)")  # fmt: skip
    add(
        "--thickness",
        type=number_of("mm"),
        default=1.0,
        metavar="MM",
        help="thickness and spacing of slices (default: %(default)s)",
    )
    add("--phantoms", type=count, default=3, metavar="N", help="number of phantoms (default: %(default)s)")
    add("--seed", type=int, default=0, metavar="S", help="phantom i has seed S + i (default: %(default)s)")
    add("--slices", type=count, metavar="N", help="slices around the first tumour; default: all that show a tumour")
    add("--style", choices=("human", "lungman"), default="human", help="kind of phantom (default: %(default)s)")
    add("--mas", type=number_or_range, default="100", metavar="X[,Y]", help="tube load in mAs, or a range to draw it "
        "from for each phantom (default: %(default)s)")  # fmt: skip
    add("--spacing", type=number_or_range, default="0.7", metavar="X[,Y]", help="pixel size in mm, or a range "
        "(default: %(default)s)")  # fmt: skip
    add("--kernel-jitter", type=float, default=0.0, metavar="F", help="vary each kernel's frequencies by up to this "
        "fraction (default: %(default)s)")  # fmt: skip
    add("--smoothing", type=strengths, default={}, metavar="K=F", help="edge-preserving smoothing of a kernel's "
        "images, as by iterative reconstruction, 0 to 1: Br40=0.6 or Br40=0.6,Bl64=0.2")  # fmt: skip
    add("--device", default="cpu", metavar="D", help="where to compute (default: %(default)s)")


def run(options: argparse.Namespace) -> int:
    """Simulate, and print the folder of each phantom."""
    require_folder("OUT", options.output)
    from ..simulation import simulate
    from ..utils.devices import usable_device
    from ..utils.files import require_writable

    usable_device(options.device)
    with about_arguments():
        series = series_options(options)
    require_writable(options.output)
    with ProgressBar("simulate") as progress:
        folders = simulate(options.output, series, device=options.device, progress=progress)
    for folder in folders:
        print(folder)
    return EXIT_OK


def series_options(options: argparse.Namespace) -> SeriesOptions:
    """Return what to simulate.

    Raises:
        ValueError: naming the value and what is allowed.
    """
    from ..simulation import SeriesOptions

    return SeriesOptions(
        kernels=options.kernels,
        thickness_mm=options.thickness,
        phantoms=options.phantoms,
        seed=options.seed,
        slices=options.slices,
        style=options.style,
        mas=options.mas,
        spacing_mm=options.spacing,
        kernel_jitter=options.kernel_jitter,
        smoothing=options.smoothing,
    )


def names(text: str) -> tuple[str, ...]:
    """Parse "A,B" into ("A", "B")."""
    return tuple(name.strip() for name in text.split(","))


def number_or_range(text: str) -> float | tuple[float, float]:
    """Parse "1.5" into 1.5, or "1,2" into (1.0, 2.0).

    Raises:
        ValueError: It is neither.
    """
    values = [float(value) for value in text.split(",")]
    if len(values) == 1:
        return values[0]
    low, high = values
    return low, high


def strengths(text: str) -> dict[str, float]:
    """Parse "A=0.5,B=1" into {"A": 0.5, "B": 1.0}.

    Raises:
        ValueError: A part is not "name=number".
    """
    return {name: float(value) for name, value in (item.split("=") for item in text.split(","))}
